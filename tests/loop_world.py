"""A world for decisions: a ledger of plain rows, workers that die anywhere, a clock that jumps, acknowledgements lost.

The real ledger gives two promises, which this one gives too: a key is recorded once, and a run begins with its
cause in one step. Everything else is `decide`.
"""

import itertools
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from penstock.worker.decide import DAY, MOST_LOST, decide
from penstock.worker.slots import slots_between
from penstock.worker.state import (
    STANDING,
    Action,
    Ended,
    Event,
    Follow,
    Hold,
    Kind,
    Looked,
    Noticed,
    Open,
    PipelineState,
    Quarantine,
    Queue,
    Readmit,
    Rules,
    Skip,
    Spent,
    Start,
    State,
    Worth,
)

BEGIN = datetime(2026, 3, 27, tzinfo=UTC)
SCHEDULES = ("0 4 * * *", "10 */4 * * *", "30 2 * * *", "15 */6 * * 1-5", None)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
Outcome = Literal["succeeded", "refused", "failed", "lost", "cancelled"]
OUTCOMES: tuple[Outcome, ...] = ("succeeded", "refused", "failed", "lost", "cancelled")


@dataclass(slots=True)
class Row:
    """A cause as the ledger has it."""

    pipeline: str
    kind: Kind
    key: str
    decided_at: datetime
    state: Literal["waiting", "running", "done", "skipped", "failed"] = "waiting"
    priority: int = 0
    reason: str = ""
    runs: list["Run"] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """A run that was begun for a cause; `outcome` is known to the ledger before the cause is settled."""

    pipeline: str
    kind: Kind
    began_at: datetime
    is_first: bool
    outcome: Outcome | None = None
    ended_at: datetime | None = None
    cpu_s: float = 0.0


@dataclass(slots=True)
class World:
    """Everything there is; each method is one transaction."""

    chance: random.Random
    rules: dict[str, Rules]
    most: int
    now: datetime = BEGIN
    rows: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    since: dict[str, datetime] = field(default_factory=dict)
    quarantined: set[str] = field(default_factory=set)
    failures: dict[str, int] = field(default_factory=dict)
    failed_at: dict[str, datetime | None] = field(default_factory=dict)
    live_since: dict[str, datetime] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    inbox: list[Noticed] = field(default_factory=list)
    quarantines: int = 0
    has_jumped: bool = False
    worth: Worth | None = None

    def gather(self) -> State:
        """Return the state a worker reads now."""
        return State(most=self.most, pipelines={name: self._pipeline(name) for name in self.rules})

    def _pipeline(self, name: str) -> PipelineState:
        rows = [row for row in self.rows.values() if row.pipeline == name]
        own = [run for run in self.runs if run.pipeline == name]
        slots = [datetime.fromisoformat(row.key) for row in rows if row.kind == "schedule"]
        usual = next((r.cpu_s for r in reversed(own) if r.outcome == "succeeded"), 0.0)
        return PipelineState(
            name=name,
            rules=self.rules[name],
            live=f"{name}@1",
            live_since=self.live_since.get(name),
            schedule_since=self.since.get(name),
            slots=tuple(sorted(slots)),
            open=tuple(_open(row) for row in rows if row.state in {"waiting", "running"}),
            decided=frozenset((row.kind, row.key) for row in rows),
            began_at=max((run.began_at for run in own), default=None),
            failures=self.failures.get(name, 0),
            failed_at=self.failed_at.get(name),
            is_quarantined=name in self.quarantined,
            spent=tuple(Spent(at=r.ended_at, cpu_s=r.cpu_s) for r in own if r.ended_at and self.now - DAY < r.ended_at),
            usual_cpu_s=usual,
            worth=self.worth,
        )

    def settle(self) -> None:
        """Tell causes what became of their runs; told twice, nothing changes."""
        for row in self.rows.values():
            if row.state != "running" or row.runs[-1].outcome is None:
                continue
            run = row.runs[-1]
            outcome = run.outcome
            assert outcome is not None
            before = self.failures.get(row.pipeline, 0)
            ended = Ended(pipeline=row.pipeline, kind=row.kind, key=row.key, outcome=outcome)
            state, _ = decide(self.gather(), ended, self.now)
            after = state.pipelines[row.pipeline]
            again = next((c for c in after.open if (c.kind, c.key) == (row.kind, row.key)), None)
            row.state = "waiting" if again is not None else "failed" if after.failures > before else "done"
            self.failures[row.pipeline], self.failed_at[row.pipeline] = after.failures, after.failed_at
            if run.outcome == "succeeded":
                self.live_since[row.pipeline] = run.began_at

    def tick(self) -> None:
        """One worker's tick, which may die between any two transactions, or find the cause taken."""
        self.settle()
        events: list[Event] = [*self.inbox, Looked()]
        state, actions = self.gather(), list[Action]()
        for event in events:
            state, more = decide(state, event, self.now)
            actions += more
        if self.chance.random() < 0.1:  # dies before the commit
            return
        for action in actions:
            self._record(action)
        if self.chance.random() < 0.8:  # otherwise whoever told is not told that it was heard, and tells again
            self.inbox.clear()
        for start in [a for a in actions if isinstance(a, Start)]:
            if self.chance.random() < 0.2:  # dies between decision and run
                return
            self.begin(start.cause)
            if self.chance.random() < 0.2:  # another worker read the same state
                self.begin(start.cause)

    def begin(self, cause: Open) -> None:
        """Begin a run with its cause, as `causes.begin` does."""
        row = self.rows[cause.pipeline, cause.kind, cause.key]
        running = [r for r in self.rows.values() if r.state == "running"]
        if row.state != "waiting" or len(running) >= self.most or any(r.pipeline == row.pipeline for r in running):
            return
        run = Run(row.pipeline, row.kind, self.now, not row.runs)
        row.state = "running"
        row.runs.append(run)
        self.runs.append(run)

    def end_some(self) -> None:
        """Let runs end, each in its way; their causes are told by the next tick."""
        for run in self.runs:
            if run.outcome is None and self.chance.random() < 0.6:
                run.outcome = self.chance.choices(OUTCOMES, [6, 2, 4, 2, 1])[0]
                run.ended_at, run.cpu_s = self.now, self.chance.choice([1.0, 30.0, 200.0])

    def _record(self, action: Action) -> None:
        match action:
            case Queue():
                key = (action.pipeline, action.kind, action.key)
                row = Row(action.pipeline, action.kind, action.key, self.now, priority=action.priority)
                self.rows.setdefault(key, row)
            case Skip():
                key = (action.pipeline, action.kind, action.key)
                row = self.rows.setdefault(key, Row(action.pipeline, action.kind, action.key, self.now))
                assert row.state == "waiting"
                row.state, row.reason = "skipped", action.reason
            case Hold():
                self.rows[action.pipeline, action.kind, action.key].reason = action.reason
            case Follow():
                self.since[action.pipeline] = self.now
            case Quarantine():
                assert action.pipeline not in self.quarantined
                self.quarantined.add(action.pipeline)
                self.quarantines += 1
            case Readmit():
                self.quarantined.remove(action.pipeline)
            case Start():
                pass


def _open(row: Row) -> Open:
    return Open(
        pipeline=row.pipeline,
        kind=row.kind,
        key=row.key,
        decided_at=row.decided_at,
        priority=row.priority,
        state="running" if row.state == "running" else "waiting",
        is_begun=bool(row.runs),
        lost=sum(run.outcome == "lost" for run in row.runs[: None if row.state == "waiting" else -1]),
        held=row.reason,
    )


def make_world(seed: int) -> World:
    """Return a world of one to three pipelines with rules of their own."""
    chance = random.Random(seed)
    rules = {
        f"p{n}": Rules(
            schedule=chance.choice(SCHEDULES),
            timezone=chance.choice(ZONES),
            catch_up=chance.choice(("one", "none", "all")),
            cooldown_s=chance.choice([0.0, 3600.0, 21_600.0]),
            quarantine_after=chance.choice([1, 2, 3]),
            priority=chance.choice([0, 0, 5]),
            cpu_s_per_day=chance.choice([None, 60.0, 250.0]),
        )
        for n in range(chance.randint(1, 3))
    }
    return World(chance, rules, most=chance.choice([1, 2]))


def live(world: World, steps: int, *, jumps: bool) -> None:
    """Let time pass: things are noticed, workers look, runs end, and the clock may jump."""
    chance = world.chance
    for _ in range(steps):
        if jumps and chance.random() < 0.15:
            world.now += chance.choice([timedelta(days=1), timedelta(hours=-1), timedelta(days=-2), timedelta(days=20)])
            world.has_jumped = True
        world.now += timedelta(minutes=chance.choice([1, 7, 20, 180, 1000]))
        if chance.random() < 0.5:
            kind: Kind = chance.choice(("new_data", "drift", "quality", "stale", "upstream", "manual", "webhook"))
            name = chance.choice(sorted(world.rules))
            noticed = Noticed(pipeline=name, kind=kind, key=str(chance.randint(1, 9)), said="noticed")
            world.inbox += [noticed] * chance.choice([1, 1, 100 if chance.random() < 0.05 else 2])
        world.worth = chance.choice([None, None, Worth(is_worth=False, said="gains less than it costs")])
        for _ in range(chance.choice([1, 1, 2])):
            world.tick()
        world.end_some()
        check(world)


def check(world: World) -> None:
    """Hold what must hold after every step."""
    running = [row for row in world.rows.values() if row.state == "running"]
    assert len(running) <= world.most
    assert len({row.pipeline for row in running}) == len(running)
    for row in world.rows.values():
        ended = [run for run in row.runs if run.outcome in {"succeeded", "refused", "failed"}]
        assert len(ended) <= 1, f"{row.kind}:{row.key} was run {len(ended)} times"
        assert all(run.outcome in {"lost", "cancelled"} for run in row.runs[:-1])
        assert sum(run.outcome == "lost" for run in row.runs) <= MOST_LOST


def check_slots(world: World) -> None:
    """No slot is lost or doubled where policy runs all of them, and none is invented anywhere."""
    for name, rules in world.rules.items():
        if rules.schedule is None or name not in world.since:
            continue
        decided = sorted(
            datetime.fromisoformat(r.key) for r in world.rows.values() if r.pipeline == name and r.kind == "schedule"
        )
        looked = max([world.since[name], *decided])
        every = slots_between(rules.schedule, rules.timezone, world.since[name], looked)
        assert set(decided) <= set(every)
        if rules.catch_up == "all":
            assert decided == every


def check_rests(world: World) -> None:
    """Between the beginning of a retrain and of the next that the state of things asks for lies the cool-down."""
    for name, rules in world.rules.items():
        own = [run for run in world.runs if run.pipeline == name]
        for before, after in itertools.pairwise(own):
            if after.kind in STANDING and after.is_first:
                assert (after.began_at - before.began_at).total_seconds() >= rules.cooldown_s
