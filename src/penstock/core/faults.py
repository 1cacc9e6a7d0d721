"""Named points at which tests inject real faults: `PENSTOCK_FAULT=before_commit:kill`.

A point costs one dictionary look-up when no fault is set. Actions: `kill` (SIGKILL to this process),
`stop` (SIGSTOP), `exit` (os._exit(17)), `error` (OSError EIO), `full` (OSError ENOSPC), `pause` (one second).
`point:action:n` acts on the n-th visit only (1 by default). `point:slow:ms` waits at every visit, as a slow disk does;
`clock:ahead:n` and `clock:back:n` let the wall clock jump by a day or an hour from the n-th look on.
"""

import errno
import os
import signal
import time

POINTS = frozenset({
    "attempt_before_start",
    "attempt_in_user_code",
    "attempt_before_write",
    "blob_mid_write",
    "blob_after_fsync",
    "result_before_commit",
    "result_after_commit",
    "intake_mid_write",
    "intake_before_commit",
    "intake_after_commit",
    "release_before_commit",
    "release_after_commit",
    "migration_mid",
    "prediction_mid_write",
    "prediction_before_sync",
    "feedback_before_sync",
    "compaction_before_intake",
    "compaction_before_remove",
    "compaction_mid_remove",
    "tidy_before_commit",
    "tidy_after_commit",
    "batch_before_part",
    "batch_after_part",
    "batch_before_done",
    "stream_before_commit",
    "stream_after_commit",
    "tick_before_decision",
    "tick_after_decision",
    "cause_before_run",
    "cause_after_run",
    "alert_after_commit",
    "alert_before_send",
    "alert_after_send",
    "windows_before_commit",
    "windows_after_commit",
    "wish_before_commit",
    "wish_after_commit",
})  # fmt: skip

_JUMPS_S = {"ahead": 86_400.0, "back": -3_600.0}
_visits: dict[str, int] = {}


def point(name: str) -> None:
    """Mark a point where a process may die in a test; does nothing unless `PENSTOCK_FAULT` names it."""
    wanted = os.environ.get("PENSTOCK_FAULT")
    if wanted is None:
        return
    target, action, *rest = wanted.split(":")
    if target != name:
        return
    if action == "slow":
        time.sleep(int(rest[0]) / 1000)
        return
    _visits[name] = _visits.get(name, 0) + 1
    if _visits[name] != (int(rest[0]) if rest else 1):
        return
    _act(action, name)


def clock_shift_s() -> float:
    """Return by how much the wall clock of this process is wrong: 0 unless `PENSTOCK_FAULT` lets it jump."""
    wanted = os.environ.get("PENSTOCK_FAULT")
    if wanted is None or not wanted.startswith("clock:"):
        return 0.0
    _, action, after = wanted.split(":")
    _visits["clock"] = _visits.get("clock", 0) + 1
    return _JUMPS_S[action] if _visits["clock"] >= int(after) else 0.0


def _act(action: str, name: str) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "exit":
            os._exit(17)
        case "error":
            raise OSError(errno.EIO, f"injected at {name}")
        case "full":
            raise OSError(errno.ENOSPC, f"injected at {name}")
        case "pause":
            time.sleep(1)
        case _:
            raise ValueError(f"unknown fault action {action!r}")
