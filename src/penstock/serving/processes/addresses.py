"""The addresses of a server: the socket that its workers share, and the port that they share for gRPC."""

import contextlib
import os
import socket
from collections.abc import Sequence

from penstock.core.errors import InputError
from penstock.core.settings import serve_keys
from penstock.serving.http.keys import Keys
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
        check_place(host, serve_keys(), is_grpc=grpc_port is not None, require_key=require_key)
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


def check_place(host: str, keys: Sequence[str], *, is_grpc: bool, require_key: bool = False) -> None:
    """Refuse to answer where callers could ask without being known.

    Raises:
        InputError: The host is not a loopback one and there are no keys, one is too short, or gRPC, where none can be
            shown, is wanted beside keys.
    """
    if host not in LOOPBACK_NAMES and not keys and not require_key:
        raise InputError(
            f"Serving on {host!r} is refused: callers are not authenticated.",
            hint="set PENSTOCK_SERVE_KEYS to the keys that callers must show, or say require_key = true under"
            " [PIPELINE.serve] in penstock.toml, or serve on 127.0.0.1",
        )
    if keys and require_key:
        raise InputError(
            "Callers cannot show two keys: require_key asks for a consumer's, PENSTOCK_SERVE_KEYS for another.",
            hint="leave one of them out",
        )
    Keys.of(keys)
    if is_grpc and keys:
        raise InputError(
            "gRPC callers cannot show a key yet, and PENSTOCK_SERVE_KEYS asks for one.", hint="leave --grpc-port out"
        )


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
