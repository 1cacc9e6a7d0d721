"""Watches the rollout of one pipeline again and again, beside a server: a small process without user code.

Run as `python -P -m penstock.project.rollout.guardian OPTIONS`. It may be killed at any moment: what it knows is read
from the log again. `penstock tick` does one look of it.
"""

import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.process import die_with_parent
from penstock.core.records import Record
from penstock.core.states import RolloutState
from penstock.project.capacity.required import lacking_evidence
from penstock.project.workspace import Workspace, open_workspace
from penstock.serving.observe.events import log_events
from penstock.store.ledger import rollouts

if TYPE_CHECKING:
    from penstock.project.rollout.looking import Watch

MODULE = "penstock.project.rollout.guardian"
# A candidate that fails is taken back within a second of the request that shows it.
_LOOK_S = 0.25
_BY = "guards"
_IDLE_S = 1.0
_LONGEST_S = 30.0
_WATCHED = frozenset({RolloutState.RUNNING, RolloutState.PAUSED})
_events = structlog.get_logger("penstock.rollout")


class GuardianOptions(Record, frozen=True, kw_only=True):
    """What a guardian is told.

    Attributes:
        root: The project.
        pipeline: Whose rollouts.
        parent: Process id of who starts it; it ends when that one does.
        is_terminal: People read what it says about itself.
    """

    root: str
    pipeline: str
    parent: int | None = None
    is_terminal: bool = False


class Guardian:
    """Looks at the rollout of one pipeline that is under way, whichever that is.

    Args:
        workspace: The project.
        pipeline: Whose rollouts.
    """

    def __init__(self, workspace: Workspace, pipeline: str) -> None:
        self._workspace = workspace
        self._pipeline = pipeline
        self._watch: Watch | None = None

    def look(self) -> bool:
        """Look once; return whether there is anything to watch.

        Raises:
            StoreError: The store is away.
            CheckError: A candidate that could go on breaks an application that came meanwhile; it waits.
        """
        with self._workspace.ledger.read() as conn:
            found = rollouts.opened(conn, self._pipeline)
        if found is not None and found.state is RolloutState.WAITING:
            self._let_go_on(found)
            return True
        if found is None or found.state not in _WATCHED:
            self.close()
            return False
        from penstock.project.rollout.looking import Watch  # noqa: PLC0415 -- loads frames, needed in rollouts alone

        if self._watch is None or not self._watch.is_of(found):
            self.close()
            self._watch = Watch(self._workspace, found)
        self._watch.rollout = found
        self._watch.look(self._workspace.clock.now())
        return True

    def _let_go_on(self, found: rollouts.Rollout) -> None:
        """Begin a rollout whose evidence is there by now."""
        from penstock.project.contracts import refuse_breaking_release  # noqa: PLC0415 -- as above
        from penstock.project.rollout.moves import go_on  # noqa: PLC0415 -- as above

        require = self._workspace.settings.policy(self._pipeline).require
        with self._workspace.ledger.read() as conn:
            if found.lacking or lacking_evidence(conn, str(found.ref), self._pipeline, require):
                return
        refuse_breaking_release(self._workspace, found.ref)
        with self._workspace.ledger.write() as conn:
            go_on(conn, rollouts.get(conn, found.id), require, by=_BY)

    def close(self) -> None:
        """Let go of the log."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None


def main(arguments: list[str]) -> int:
    """Watch until told to stop; return the exit code."""
    options = msgspec.json.decode(arguments[0], type=GuardianOptions)
    die_with_parent(options.parent)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: told.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group; the supervisor tells us
    log_events(is_terminal=options.is_terminal)
    with open_workspace(Path(options.root), Clock()) as workspace:
        guardian = Guardian(workspace, options.pipeline)
        pause_s = _IDLE_S
        while not told.wait(pause_s):
            began_s = time.monotonic()
            try:
                is_watching = guardian.look()
            except (PenstockError, OSError) as error:  # the store comes back; then it goes on
                _events.error("rollout_not_watched", pipeline=options.pipeline, reason=str(error))
                pause_s = min(max(2 * pause_s, _IDLE_S), _LONGEST_S)
                continue
            # Half of the time is for answers, however much there is to read.
            pause_s = max(_LOOK_S, time.monotonic() - began_s) if is_watching else _IDLE_S
        guardian.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
