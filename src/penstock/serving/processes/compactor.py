"""Compacts what workers wrote, again and again: a small process without user code, started by the supervisor.

Run as `python -P -m penstock.serving.processes.compactor OPTIONS`. It may be killed at any moment, and ends with its
parent.
"""

import signal
import sys
import threading
from pathlib import Path

import msgspec
import structlog

from penstock.core.errors import PenstockError
from penstock.core.process import die_with_parent
from penstock.core.records import Record
from penstock.core.settings import ServePolicy
from penstock.serving.predictions.compaction import compact

_events = structlog.get_logger("penstock.serving")
_LONGEST_S = 300.0


class CompactorOptions(Record, frozen=True, kw_only=True):
    """What a compactor is told.

    Attributes:
        home: The project's store.
        pipeline: Whose predictions.
        policy: How long they are kept.
        every_s: Pause between two compactions.
        parent: Process id of who starts it; it ends when that one does.
    """

    home: str
    pipeline: str
    policy: ServePolicy = ServePolicy()
    every_s: float = 10.0
    parent: int | None = None


def main(arguments: list[str]) -> int:
    """Compact until told to stop; return the exit code."""
    options = msgspec.json.decode(arguments[0], type=CompactorOptions)
    die_with_parent(options.parent)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: told.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group; the supervisor tells us
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    pause_s = options.every_s
    while not told.wait(pause_s):
        # A full disk passes; until then it is asked less and less often.
        pause_s = options.every_s if _compact(options) else min(2 * pause_s, max(_LONGEST_S, options.every_s))
    _compact(options)
    return 0


def _compact(options: CompactorOptions) -> bool:
    try:
        compact(Path(options.home), options.pipeline, options.policy)
    except (PenstockError, OSError) as error:
        _events.error("compaction_failed", pipeline=options.pipeline, error=type(error).__qualname__, reason=str(error))
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
