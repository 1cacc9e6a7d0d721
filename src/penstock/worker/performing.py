"""One retrain in a process of its own, started by the loop: its memory and its signals are nobody else's.

Run as `python -P -m penstock.worker.performing OPTIONS`. It holds no user code: that is in run processes, as ever.
"""

import sys
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from penstock.core.errors import PenstockError
from penstock.core.process import die_with_parent
from penstock.core.records import Record
from penstock.project.workspace import open_workspace
from penstock.serving.observe.events import log_events
from penstock.worker.carry import perform
from penstock.worker.state import Open

_events = structlog.get_logger("penstock.worker")


class Performing(Record, frozen=True, kw_only=True):
    """What is to be run.

    Attributes:
        root: The project.
        parent: Process that started this one, with which it ends; None to outlive it.
        slot: The logical time of the run; when the cause was decided by default.
    """

    root: str
    cause: Open
    parent: int | None = None
    slot: datetime | None = None


def main(arguments: list[str]) -> int:
    """Run what the cause asks for; return the exit code."""
    options = msgspec.json.decode(arguments[0], type=Performing)
    die_with_parent(options.parent)
    log_events(is_terminal=sys.stderr.isatty())
    try:
        with open_workspace(Path(options.root)) as workspace:
            perform(workspace, options.cause, slot=options.slot)
    except KeyboardInterrupt:
        return 130
    except PenstockError as error:
        _events.warning("retrain_broken_off", pipeline=options.cause.pipeline, reason=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
