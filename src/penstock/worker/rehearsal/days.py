"""One arm, day after day: people ask, rows land, what is due is done; each day is one line of a file.

Run as `python -P -m penstock.worker.rehearsal.days ORDER`. Killed at any moment and started again it goes on: a day
whose line is missing is done again, and all of it may be done twice.
"""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import polars as pl
import structlog

from penstock.core.errors import CheckError, DataError, PenstockError
from penstock.core.process import die_with_parent
from penstock.core.records import Record
from penstock.pipeline.graph import Graph
from penstock.project.intake import take_in
from penstock.project.outcomes import join_outcomes
from penstock.project.questions import ask_release
from penstock.project.running import RunOptions, run_graph
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace, read_manifest
from penstock.serving.observe.events import log_events
from penstock.serving.predictions.compaction import compact
from penstock.serving.predictions.reading import predictions_frame
from penstock.serving.processes.ask import id_of
from penstock.store.ledger import causes, releases
from penstock.worker.rehearsal import facts, requests
from penstock.worker.rehearsal.arms import SOURCE, SetClock, open_arm
from penstock.worker.rehearsal.faults.ground import Ground, prepare
from penstock.worker.rehearsal.records import ArmName, Day, Plan
from penstock.worker.rehearsal.requests import Asker
from penstock.worker.tick import retrain_what_is_due, tick

_events = structlog.get_logger("penstock.worker")
CAUSE = "rehearsal"
# How busy this machine is must not decide whether an answer came in time: deadlines are judged this much later.
PATIENCE = 100.0


class DaysOrder(Record, frozen=True, kw_only=True):
    """Which arm of which rehearsal.

    Attributes:
        root: The project.
        folder: Where the rehearsal keeps everything.
        parent: Process that started this one, with which it ends.
    """

    plan: Plan
    name: ArmName
    root: str
    folder: str
    parent: int | None = None


class Told(Record, frozen=True, kw_only=True):
    """A line of the file: a day, and what it took on this machine.

    Attributes:
        cpu_s: CPU seconds of this process and those it waited for, by part of the day.
        wall_s: Seconds by part of the day.
    """

    day: Day
    cpu_s: dict[str, float]
    wall_s: dict[str, float]


def days_file(folder: Path, name: ArmName) -> Path:
    """Return the file of an arm's days."""
    return folder / name / "days.jsonl"


def error_file(folder: Path, name: ArmName) -> Path:
    """Return where an arm that cannot go on says why: code, message and hint."""
    return folder / name / "error.json"


def read_days(folder: Path, name: ArmName) -> list[Told]:
    """Return the days that an arm has done; a line cut short by a kill is none."""
    path = days_file(folder, name)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [msgspec.json.decode(line, type=Told) for line in lines]


def main(arguments: list[str]) -> int:
    """Go through the days of an arm; return the exit code."""
    order = msgspec.json.decode(arguments[0], type=DaysOrder)
    die_with_parent(order.parent)
    log_events(is_terminal=sys.stderr.isatty())
    try:
        plan, root, folder = order.plan, Path(order.root), Path(order.folder)
        ground = prepare(plan, root=root, folder=folder, name=order.name) if plan.plant else None
        if ground is not None:
            plan, root = msgspec.structs.replace(plan, params=plan.params | ground.params), ground.copy
        with open_arm(plan, order.name, root=root, folder=folder, at=plan.start) as opened:
            _Arm(order, *opened, ground).live()
    except KeyboardInterrupt:
        return 130
    except PenstockError as error:
        told = (error.code, error.message, error.hint)
        error_file(Path(order.folder), order.name).write_bytes(msgspec.json.encode(told))
        return error.exit_code
    return 0


@dataclass(slots=True)
class _Spent:
    """What the parts of a day take."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    wall_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        cpu, wall = _cpu_s(), time.monotonic()
        yield
        self.cpu_s[part] = round(self.cpu_s.get(part, 0.0) + _cpu_s() - cpu, 3)
        self.wall_s[part] = round(self.wall_s.get(part, 0.0) + time.monotonic() - wall, 3)


class _Arm:
    """An arm under way."""

    def __init__(self, order: DaysOrder, workspace: Workspace, moment: SetClock, ground: Ground | None) -> None:
        self._plan, self._name, self._folder = order.plan, order.name, Path(order.folder)
        self._workspace, self._moment, self._ground = workspace, moment, ground
        self._done = [told.day for told in read_days(self._folder, order.name)]
        self._is_again = True
        self._askers: list[Asker] = []

    def live(self) -> None:
        """Make the first release unless it is there, then go through the days that are left."""
        graph = find_graph(self._workspace, self._plan.pipeline)
        self._begin(graph)
        self._askers = self._find_askers(graph)
        path = days_file(self._folder, self._name)
        _mend(path)
        with path.open("ab") as file:
            for step in range(len(self._done), self._plan.steps):
                file.write(msgspec.json.encode(self._live_day(step)) + b"\n")
                file.flush()
                self._is_again = False
        self._end(graph)

    def _begin(self, graph: Graph) -> None:
        """Release what was known at the start, once; from then on schedules hold."""
        self._moment.at = self._plan.start
        if self._done:
            return
        with self._workspace.ledger.read() as conn:
            live = releases.live(conn, self._plan.pipeline)
            decided = causes.page(conn, pipeline=self._plan.pipeline, limit=1)
        if decided and decided[0].decided_at > self._plan.start:  # the first day was broken off: it is done again
            return
        if live is None:
            report = run_graph(graph, self._workspace, RunOptions(params={}, now=self._plan.start, cause=CAUSE))
            if report.release is None:
                raise _no_release(self._plan, report.failures, [c.message for c in report.checks if not c.passed])
        retrain_what_is_due(self._workspace, self._plan.start, names=[self._plan.pipeline], economics=None)

    def _find_askers(self, graph: Graph) -> list[Asker]:
        manifest = read_manifest(self._live().manifest_digest, self._workspace)
        schemas = {name: {column for column, _ in version.schema} for name, version in manifest.datasets.items()}
        return requests.askers(graph, manifest.inputs, schemas)

    def _live(self) -> releases.Release:
        with self._workspace.ledger.read() as conn:
            found = releases.live(conn, self._plan.pipeline)
        if found is None:
            raise DataError(f"{self._plan.pipeline!r} has no live release any more.", hint="remove the folder")
        return found

    def _live_day(self, step: int) -> Told:
        spent = _Spent()
        with spent.on("ask"):
            answered_by = self._ask(step)
        self._moment.at = now = self._plan.at(step + 1)
        problems: tuple[str, ...] = ()
        if self._ground is not None:
            self._ground.arrange(self._workspace, step, self._name)
        with spent.on("tick"):
            if self._name == "policy":
                report = tick(self._workspace, now, is_again=self._is_again)
                problems = tuple(problem for looks in report.pipelines for problem in looks.problems)
            else:  # nobody watches the others: their truth is joined at the end
                retrain_what_is_due(self._workspace, now, names=[self._plan.pipeline], economics=None)
        with spent.on("note"):
            day = facts.day_of(self._workspace, self._plan, step, answered_by=answered_by, problems=problems)
        return Told(day=day, cpu_s=spent.cpu_s, wall_s=spent.wall_s)

    def _ask(self, step: int) -> str:
        """Let people ask; return the release that answers them."""
        live = self._live()
        answered_by = str(live.ref)
        asks = requests.draw(self._plan, step, self._askers, self._folder / SOURCE / "home")
        if self._ground is not None:
            asks = self._ground.crowd(asks, step)
        if self._is_again:
            known = self._known(step)
            asks = [ask for ask in asks if ask.at is not None and id_of(self._seed, ask.at) not in known]
            answered_by = next(iter(known.values()), answered_by)  # a tick that was killed may have made another
        if asks:
            ask_release(live, asks, self._workspace, seed=self._seed, patience=PATIENCE)
        return answered_by

    @property
    def _seed(self) -> str:
        return f"{self._plan.pipeline}/{self._plan.seed}"

    def _known(self, step: int) -> dict[str, str]:
        """Return the release that answered each request of a step which has been answered."""
        span = (self._plan.at(step), self._plan.at(step + 1))
        frame = predictions_frame(self._workspace.home, self._plan.pipeline, since=span[0], until=span[1])
        found = frame.select(pl.col("prediction_id").str.split("-").list.first(), "release").collect()
        return dict(found.iter_rows())

    def _end(self, graph: Graph) -> None:
        """Bring in all rows and the truth that is known at the end."""
        self._moment.at = self._plan.end
        pipeline, policy = self._plan.pipeline, self._workspace.settings.policy(self._plan.pipeline)
        take_in(graph, self._workspace, now=self._plan.end)
        compact(self._workspace.home, pipeline, policy.serve, clock=self._workspace.clock)
        if any(node.role == "outcome" for node in graph.nodes):
            join_outcomes(pipeline, self._workspace, now=self._plan.end)


def _mend(path: Path) -> None:
    """Cut off a last line that a kill left unfinished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        data = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def _no_release(plan: Plan, failures: object, said: list[str]) -> CheckError:
    told = [getattr(failure, "message", "") for failure in getattr(failures, "values", tuple)()]
    return CheckError(
        f"The first release of {plan.pipeline!r}, of what was known on {plan.start:%Y-%m-%d}, cannot be made: "
        f"{' '.join(dict.fromkeys([*told, *said]))}",
        hint="start later, when there are more rows, or see what fails: penstock run",
    )


def _cpu_s() -> float:
    usage, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime + children.ru_utime + children.ru_stime + _living_cpu_s()


def _living_cpu_s() -> float:
    """Return the CPU seconds of the processes that stay, where the kernel tells them: the others are counted above."""
    found = 0.0
    for listed in Path("/proc/self/task").glob("*/children"):
        for pid in listed.read_text(encoding="ascii").split():
            with suppress(OSError):  # it ends at this moment
                stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
                found += sum(map(int, stat.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")
    return found


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
