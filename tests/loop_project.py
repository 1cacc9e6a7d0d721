"""The chain of `run_processes`, kept fresh: a clock that tests set, and what the loop recorded."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from penstock.core.clock import Clock
from penstock.store.ledger import causes
from penstock.worker.asking import ask_for_retrain
from penstock.worker.state import Kind
from penstock.worker.tick import TickReport, tick
from project_folder import Project
from run_processes import chain_project

DAY_1 = datetime(2026, 3, 1, 4, tzinfo=UTC)


@dataclass(slots=True)
class Loop:
    """A project and the time in it."""

    project: Project
    now: datetime = DAY_1

    def tick(self, later: timedelta = timedelta(0)) -> TickReport:
        """Let time pass, then do what is due."""
        self.now += later
        with self.project.opened(self.clock) as workspace:
            return tick(workspace, self.now)

    @property
    def clock(self) -> Clock:
        """A clock that stands at the time in the project."""
        moment = self.now
        return Clock(now=lambda: moment)

    def causes(self) -> list[causes.Cause]:
        """Return what was decided, the oldest first."""
        with self.project.opened() as workspace, workspace.ledger.read() as conn:
            return causes.page(conn, limit=1000)[::-1]

    def told(self) -> list[tuple[str, str]]:
        """Return name and state of every cause of a run."""
        return [(cause.name, cause.state) for cause in self.causes() if cause.kind not in causes.MARKS]


def ask(loop: Loop, kind: Kind, key: str) -> bool:
    """Ask for a retrain, as a webhook does; return whether nobody had asked with this key."""
    with loop.project.opened(loop.clock) as workspace:
        return ask_for_retrain(workspace, "chain", kind=kind, key=key, said="asked for")


def chain_loop(root: Path, policy: str = "", platform: str = "") -> Loop:
    """Write the chain with a policy, and release it once as a person does."""
    project = chain_project(root)
    project.write(f"[penstock]\n{platform}\n[chain]\n{policy}\n", "penstock.toml")
    loop = Loop(project)
    report = project.run(clock=loop.clock)
    assert report.release == "chain@1"
    return loop
