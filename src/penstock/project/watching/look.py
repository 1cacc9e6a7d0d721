"""One look at a pipeline: what its monitors need to know, and the form of what they measured."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from penstock.core.records import Record
from penstock.core.settings import LoopPolicy
from penstock.monitoring.findings import Window
from penstock.monitoring.profiles.profile import Profile
from penstock.pipeline.graph import Role, texts
from penstock.project.workspace import Workspace
from penstock.releases.manifest import Manifest
from penstock.store.ledger.releases import Release
from penstock.store.ledger.windows import Mark

EPOCH = datetime.fromtimestamp(0, UTC)
DAY = timedelta(days=1)
WEEK = 7 * DAY
# Windows that a monitor compares with, and that are laid back over what a pipeline was trained on: eight weeks of days,
# a week of hours.
_WINDOWS, _MOST_WINDOWS = 56, 336


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known when a pipeline is looked at.

    Attributes:
        now: UTC.
        release: The live release; None before there is one.
        manifest: Of that release.
        marks: How far each monitor has come, by its name.
    """

    workspace: Workspace
    pipeline: str
    policy: LoopPolicy
    now: datetime
    release: Release | None
    manifest: Manifest | None
    marks: dict[str, Mark]

    @property
    def step(self) -> timedelta:
        """Length of a window."""
        return timedelta(seconds=self.policy.window_s)

    @property
    def reference(self) -> int:
        """How many earlier windows one is compared with: up to eight weeks, at least a week."""
        return int(min(8 * WEEK // self.step, max(_WINDOWS, WEEK // self.step), _MOST_WINDOWS)) or 1

    @property
    def false_alarms(self) -> float:
        """The part of the alarm budget of one monitor that compares windows, so that all of them together keep it."""
        return self.policy.alarm_budget / max(self._monitors, 1)

    @property
    def _monitors(self) -> int:
        # Inputs, answers and the service of each serve function; one per dataset; one per outcome.
        weights: dict[Role, int] = {"dataset": 1, "serve": 3, "outcome": 1}
        return 0 if self.manifest is None else sum(weights.get(node.role, 0) for node in self.manifest.graph.nodes)

    @property
    def names(self) -> frozenset[str]:
        """Columns that are keys of datasets: their values are names, and no amounts."""
        nodes = () if self.manifest is None else self.manifest.graph.nodes
        return frozenset(key for node in nodes if node.role == "dataset" for key in texts(node.options.get("key")))

    def floor(self, moment: datetime) -> datetime:
        """Return the start of the window that holds a moment."""
        return EPOCH + (moment - EPOCH) // self.step * self.step

    def start_of(self, number: int) -> datetime:
        """Return the start of the window of this number, counted from the epoch."""
        return EPOCH + number * self.step

    def spans(self, since: datetime) -> list[tuple[datetime, datetime]]:
        """Return the closed windows (end <= now) that start at `since` or later, aligned to the epoch."""
        start, found = -((EPOCH - since) // self.step), list[tuple[datetime, datetime]]()
        while (end := EPOCH + (start + 1) * self.step) <= self.now:
            found.append((end - self.step, end))
            start += 1
        return found

    def newest(self, monitor: str) -> datetime | None:
        """Return the end of the newest window of a monitor; None before its first."""
        mark = self.marks.get(monitor)
        return None if mark is None else mark.end_at


class Measured(Record, frozen=True, kw_only=True):
    """A window as a monitor measured it.

    Attributes:
        profile: Of its rows; kept as a blob.
        basis: Version of the table that it was computed from; 0 where there is none.
    """

    window: Window
    profile: Profile | None = None
    basis: int = 0
