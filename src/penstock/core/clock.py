"""The one place that asks for the time.

Everything else receives a `Clock`, so six months can be rehearsed in minutes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.core import faults


def _system_now() -> datetime:
    shift_s = faults.clock_shift_s()
    return datetime.now(UTC) + timedelta(seconds=shift_s) if shift_s else datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall time for display and cron, monotonic time for durations and leases.

    Attributes:
        now: Current UTC time, timezone-aware; for display, cron and `now`.
        monotonic_s: Seconds since boot; never jumps with the wall clock.
    """

    now: Callable[[], datetime] = _system_now
    monotonic_s: Callable[[], float] = time.monotonic


def boot_id() -> str:
    """Return an identifier that changes when this machine reboots."""
    path = Path("/proc/sys/kernel/random/boot_id")
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    # Elsewhere the boot moment, rounded so that clock corrections do not look like a reboot.
    return f"boot-{int((time.time() - time.monotonic()) // 600)}"
