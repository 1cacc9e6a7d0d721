"""A server in the background of this process, for demos, tests and notebooks."""

import threading
from pathlib import Path
from typing import Self

from penstock.serving.processes.supervisor import ServeOptions, Supervisor

_LOOK_S = 0.05


class Server:
    """A server running in the background of this process; a context manager that stops it.

    Attributes:
        url: Where it answers, "http://127.0.0.1:8000".
        grpc: Where it answers by gRPC, "127.0.0.1:8001"; None for no gRPC.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._stop = threading.Event()
        self._settled = threading.Event()
        self._error: BaseException | None = None
        self._supervisor = Supervisor(options)
        self.url = self._supervisor.url
        self.grpc = self._supervisor.grpc
        self._thread = threading.Thread(target=self._run, name="penstock-serving", daemon=True)
        self._thread.start()
        while not self._settled.wait(_LOOK_S):
            if self._supervisor.is_answering:
                break
        self._raise_failure()

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that answer now."""
        return self._supervisor.worker_pids

    @property
    def spare_pids(self) -> list[int]:
        """Process ids of the processes that wait to replace a worker."""
        return self._supervisor.spare_pids

    @property
    def compactor_pid(self) -> int | None:
        """Process id of the process that compacts predictions; None while there is none."""
        return self._supervisor.compactor_pid

    @property
    def counters(self) -> Path:
        """The folder of the server's counters."""
        return self._supervisor.counters

    def stop(self) -> None:
        """Answer what is under way, then end every worker."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _raise_failure(self) -> None:
        if self._error is not None:
            self._thread.join()
            raise self._error

    def _run(self) -> None:
        try:
            self._supervisor.run(self._stop)
        except BaseException as error:  # noqa: BLE001  # carried to the thread that asked for the server
            self._error = error
        finally:
            self._settled.set()


def start(options: ServeOptions) -> Server:
    """Start a server in the background and return when it answers.

    Raises:
        InputError: The address is not a loopback one, or is taken.
        PenstockError: The first release cannot be loaded.
    """
    return Server(options)
