"""Processes by their true identity, so that a dead owner is known at once and a recycled pid is not mistaken for it."""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from penstock.core.clock import boot_id
from penstock.core.records import Owner

# The first pid namespace of a Linux kernel always has this inode (PROC_PID_INIT_INO in linux/proc_ns.h).
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
_PR_SET_PDEATHSIG = 1
_DEAD_STATES = frozenset({"Z", "X", "x"})  # a zombie will never renew: its parent has merely not looked yet


def this_process() -> Owner:
    """Return who this process is."""
    pid = os.getpid()
    return Owner(host=_host(), boot=boot_id(), pid=pid, start=_start(pid) or 0)


def is_same_boot(owner: Owner) -> bool:
    """Return whether `owner` lives on this host since its last start, so that its pid can be judged from here."""
    return owner.host == _host() and owner.boot == boot_id()


def is_known_dead(owner: Owner) -> bool:
    """Return whether `owner` has certainly ended: other boot of this host, no such pid, or a recycled one.

    False for a process of another host: nothing can be known about it from here.
    """
    if owner.host != _host():
        return False
    return owner.boot != boot_id() or _start(owner.pid) != owner.start


def is_running(pid: int) -> bool:
    """Return whether a process of this host is there and not a zombie."""
    return _start(pid) is not None


def die_with_parent(parent: int | None = None) -> None:
    """Have this process killed when its parent dies (on Linux); end it now if `parent`, its pid, is no more.

    What this process starts does not inherit that.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        sys.exit(1)


def reset_peak() -> None:
    """Forget the peak of this process's memory, so that what it does next has its own (on Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """Return the peak resident memory of this process in bytes, since `reset_peak` where the kernel can tell."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _host() -> str:
    """Name this host; a container's own pid numbers are set apart from those of the machine around it."""
    namespace = Path("/proc/self/ns/pid")
    number = namespace.stat().st_ino if namespace.exists() else _FIRST_PID_NAMESPACE
    name = socket.gethostname()
    return name if number == _FIRST_PID_NAMESPACE else f"{name}/{number}"


def _start(pid: int) -> int | None:
    """Return the start time in ticks since boot (0 where the system does not tell), None when it is no more."""
    if not Path("/proc/self/stat").exists():
        return _start_by_signal(pid)
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Fields follow the last ')': a command name may itself hold spaces and brackets.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in _DEAD_STATES else int(fields[19])


def _start_by_signal(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0
