"""The addresses of a server: the socket that its workers share, and the port that they share for gRPC."""

import contextlib
import os
import socket

from penstock.core.errors import InputError
from penstock.serving.http.requests import LOOPBACK_NAMES

_BACKLOG = 2048


class Addresses:
    """Holds a server's addresses from its start to its end, whatever becomes of its workers.

    Args:
        host: A loopback name; any other where every caller needs a key.
        port: For HTTP; 0 takes any free one.
        grpc_port: For gRPC; 0 takes any free one, None is for no gRPC.

    Attributes:
        listener: The socket on which every worker accepts.
        url: "http://127.0.0.1:8000".
        grpc: Host and port, "127.0.0.1:8001"; None for no gRPC.

    Raises:
        InputError: The host is not a loopback one and no key is needed, or a port is taken.
    """

    def __init__(self, host: str, port: int, grpc_port: int | None, *, require_key: bool = False) -> None:
        if host not in LOOPBACK_NAMES and not require_key:
            raise InputError(
                f"Serving on {host!r} is refused: callers need no key.",
                hint="say require_key = true under [PIPELINE.serve] in penstock.toml, or serve on 127.0.0.1",
            )
        host = "127.0.0.1" if host == "localhost" else host
        shown = f"[{host}]" if ":" in host else host
        self.listener = _bound(host, port, "--port")
        self.listener.listen(_BACKLOG)
        os.set_blocking(self.listener.fileno(), False)
        self.url = f"http://{shown}:{self.listener.getsockname()[1]}"
        self.grpc: str | None = None
        self._reserved: socket.socket | None = None
        if grpc_port is not None:
            with contextlib.ExitStack() as undo:
                undo.callback(self.listener.close)
                self._reserved = _bound(host, grpc_port, "--grpc-port", is_shared=True)
                undo.pop_all()
            self.grpc = f"{shown}:{self._reserved.getsockname()[1]}"

    def close(self) -> None:
        """Let go of the addresses."""
        self.listener.close()
        if self._reserved is not None:
            self._reserved.close()


def _bound(host: str, port: int, option: str, *, is_shared: bool = False) -> socket.socket:
    """Return a socket that is bound; a shared one never listens, but keeps the port for sockets of the workers."""
    if is_shared and port:
        # Alone first: otherwise another server of this user would share the port without a word.
        _bound(host, port, option).close()
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if is_shared else socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise InputError(
            f"Port {port} of {host} cannot be used: {error.strerror}.", hint=f"choose another with {option}"
        ) from error
    return bound
