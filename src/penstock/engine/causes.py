"""What ended a process, in words: signal, memory, time, `os._exit`. Reads /proc where there is one."""

import signal
from pathlib import Path

from penstock.core.records import Failure, Record

_GIB = 2**30


class Status(Record, frozen=True, kw_only=True):
    """What the kernel says of a live process; zeros where it says nothing."""

    resident_bytes: int = 0
    peak_bytes: int = 0
    is_stopped: bool = False


def status_of(pid: int) -> Status:
    """Read a process's private resident memory, its peak, and whether it is stopped."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return Status()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    # Pages of memory-mapped artifacts are shared and can be dropped at any time, so only private memory counts.
    private = _kib(fields.get("RssAnon", fields.get("VmRSS", "0 kB")))
    return Status(
        resident_bytes=private,
        peak_bytes=_kib(fields.get("VmHWM", "0 kB")),
        is_stopped=fields.get("State", "").strip().startswith(("T", "t")),
    )


def _kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024


def oom_kills() -> int:
    """Return how often the kernel has killed for lack of memory since boot; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def died(name: str, returncode: int, peak_bytes: int, *, was_oom: bool) -> Failure:
    """Describe a process that went away without a result."""
    peak = f"its memory peaked at {peak_bytes / _GIB:.2f} GiB" if peak_bytes else "its peak memory is not known"
    if returncode >= 0:
        return Failure(
            kind="exit",
            message=f"{name} ended its process with exit code {returncode} (os._exit or a library); {peak}.",
            hint="a step must return or raise; see whether it, or a library, calls os._exit",
        )
    what = signal.Signals(-returncode).name
    if was_oom:
        return Failure(
            kind="memory",
            message=f"{name} was killed ({what}) because the machine ran out of memory; {peak}.",
            hint="take the data as pl.LazyFrame, or give the step a smaller share; it is not retried at the same size",
        )
    if returncode == -signal.SIGKILL:
        return Failure(kind="signal", message=f"{name} was killed by SIGKILL (out of memory?); {peak}.", hint="")
    return Failure(
        kind="crash",
        message=f"{name} crashed with {what}; {peak}.",
        hint="a native library failed; run it alone with `penstock debug` to see where",
    )


def timed_out(name: str, limit_s: float) -> Failure:
    """Describe a task that ran past its time."""
    hint = "raise `timeout` of the step in penstock.toml, or make it faster"
    return Failure(kind="timeout", message=f"{name} was still running after its limit of {limit_s:g} s.", hint=hint)


def over_memory(name: str, used: int, limit: int) -> Failure:
    """Describe a task that outgrew its memory."""
    return Failure(
        kind="memory",
        message=f"{name} used {used / _GIB:.2f} GiB, more than its limit of {limit / _GIB:.2f} GiB, and was ended.",
        hint="raise `memory` of the step in penstock.toml, or take the data as pl.LazyFrame",
    )


def stopped(name: str) -> Failure:
    """Describe a process that somebody stopped and nobody continued."""
    return Failure(kind="lost", message=f"{name} was stopped (SIGSTOP) and did not continue; it was ended.")
