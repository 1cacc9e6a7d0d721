"""A server as a tree of processes: started on given cores, measured through /proc, stopped without a trace."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LEAVING_S = 15.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree of processes has used.

    Attributes:
        cpu_s: Processor time of all that live, user and system.
        memory_bytes: Resident memory, what they share counted once (the proportional set size).
        largest_bytes: Resident memory of the largest that has not given way: the one that holds the model.
        behind_s: The part of `cpu_s` of processes that have given way to the others: work that may wait.
    """

    cpu_s: float
    behind_s: float
    memory_bytes: int
    largest_bytes: int


class Tree:
    """A command and all that it starts.

    Args:
        command: Its arguments.
        folder: Where it works.
        variables: What its environment has beside ours.
        cores: Cores it may use.
        log: Where it writes what it says.
    """

    def __init__(
        self, command: Sequence[str], *, folder: Path, variables: Mapping[str, str], cores: Sequence[int], log: Path
    ) -> None:
        pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
        self._log = log
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                pinned,
                cwd=folder,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def has_ended(self) -> bool:
        """Whether the command itself is gone."""
        return self._process.poll() is not None

    def last_words(self, lines: int = 6) -> str:
        """Return the end of what it said."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def prefer(self) -> None:
        """Let the niceness of every process of the tree count; servers start sessions of their own."""
        for pid in _members(self._process.pid):
            prefer(pid)

    def usage(self) -> Usage:
        """Return what the tree has used until now."""
        pids = list(_members(self._process.pid))
        behind = {pid for pid in pids if _niceness(pid) > os.nice(0)}
        resident = [_kilobytes(pid, "status", "VmRSS:") for pid in pids if pid not in behind]
        return Usage(
            cpu_s=sum(map(_cpu_s, pids)),
            behind_s=sum(map(_cpu_s, behind)),
            memory_bytes=1024 * sum(_kilobytes(pid, "smaps_rollup", "Pss:") for pid in pids),
            largest_bytes=1024 * max(resident, default=0),
        )

    def stop(self) -> None:
        """End all of it: asked first, then without asking."""
        pids = list(_members(self._process.pid))
        if not self.has_ended:
            os.kill(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _LEAVING_S
        while any(map(_lives, pids)) and time.monotonic() < deadline:
            self._process.poll()
            time.sleep(0.05)
        for pid in filter(_lives, {*pids, *_members(self._process.pid)}):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()


def prefer(pid: int) -> None:
    """Let the niceness of a process count where the kernel shares processors between sessions first.

    Without it `nice -n -15 python -m benchmarks.serving run`, for machines that others use, would do nothing there.
    """
    group = Path(f"/proc/{pid}/autogroup")
    try:
        niceness = os.nice(0)
        is_equal = os.getpriority(os.PRIO_PROCESS, pid) == niceness  # one that has given way stays behind
        if niceness and is_equal and group.exists():
            group.write_text(str(niceness), encoding="ascii")
    except ProcessLookupError:  # it has ended meanwhile
        return


def _members(root: int) -> Iterator[int]:
    """Yield the processes below `root`, and those of its session whose parent is gone."""
    children: dict[int, list[int]] = {}
    session = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := _stat(int(entry.name))):
            children.setdefault(int(found[1]), []).append(int(entry.name))
            if int(found[3]) == root:
                session.append(int(entry.name))
    seen: set[int] = set()
    waiting = [root, *session]
    while waiting:
        pid = waiting.pop()
        if pid not in seen and _lives(pid):
            seen.add(pid)
            yield pid
        waiting.extend(child for child in children.get(pid, ()) if child not in seen)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, parent, group, session, …; [] when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _lives(pid: int) -> bool:
    found = _stat(pid)
    return bool(found) and found[0] not in {"Z", "X"}


def _cpu_s(pid: int) -> float:
    found = _stat(pid)
    return (int(found[11]) + int(found[12])) / _TICKS_PER_S if found else 0.0


def _niceness(pid: int) -> int:
    found = _stat(pid)
    return int(found[16]) if found else 0


def _kilobytes(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
