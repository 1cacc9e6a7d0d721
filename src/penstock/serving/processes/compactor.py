"""Compacts what workers wrote, again and again: a small process without user code, started by the supervisor.

Run as `python -P -m penstock.serving.processes.compactor OPTIONS`. It may be killed at any moment, and ends with its
parent.
"""

import logging
import os
import signal
import sys
import threading
from pathlib import Path

import msgspec
import structlog

from penstock.core.errors import PenstockError
from penstock.core.process import die_with_parent
from penstock.serving.observe.events import log_events
from penstock.serving.predictions.compaction import compact
from penstock.serving.processes.companions import CompactorOptions

_events = structlog.get_logger("penstock.serving")
_LONGEST_S = 300.0
# Answers come first: what is written waits in segments as well.
_NICE = 10


def main(arguments: list[str]) -> int:
    """Compact until told to stop; return the exit code."""
    options = msgspec.json.decode(arguments[0], type=CompactorOptions)
    die_with_parent(options.parent)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: told.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group; the supervisor tells us
    # In a terminal only what somebody should look at: a line per compaction would hide it.
    log_events(is_terminal=options.is_terminal, level=logging.WARNING if options.is_terminal else logging.INFO)
    _give_way()
    pause_s = options.every_s
    while not told.wait(pause_s):
        # A full disk passes; until then it is asked less and less often.
        pause_s = options.every_s if _compact(options) else min(2 * pause_s, max(_LONGEST_S, options.every_s))
    _compact(options)
    return 0


def _give_way() -> None:
    """Use only what answers leave: a core that a worker wants is its own at once; a low priority does not give that."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or not permitted
        os.nice(_NICE)


def _compact(options: CompactorOptions) -> bool:
    try:
        compact(Path(options.home), options.pipeline, options.policy)
    except (PenstockError, OSError) as error:
        _events.error("compaction_failed", pipeline=options.pipeline, error=type(error).__qualname__, reason=str(error))
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
