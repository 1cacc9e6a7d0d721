"""What a task prints: the file it goes to while it runs, and the tail that is kept of it."""

import os
from collections.abc import Iterable
from pathlib import Path

from penstock.engine.protocol import Task

LOG_TAIL = 64_000


def log_path(task: Task) -> Path:
    """Return the file that receives what a task prints."""
    return Path(task.place.home, "tmp", "logs", f"{task.id}.log")


def read_tail(log: Path) -> str:
    """Return the last lines of a log file; "" when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def forget(home: Path, run_ids: Iterable[int]) -> None:
    """Remove what tasks of runs printed whose supervisor died before it could read it."""
    for run_id in run_ids:
        for log in (home / "tmp" / "logs").glob(f"{run_id}-*.log"):
            log.unlink(missing_ok=True)
