"""An experiment from its plan to its verdict: a real project, answers as workers log them, time played by the test."""

import json
import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.clock import Clock
from penstock.core.errors import InputError, NotFoundError
from penstock.core.states import ExperimentState
from penstock.project.experimenting import (
    Standing,
    declared,
    list_experiments,
    look_at_experiment,
    plan_experiment,
    start_experiment,
    stop_experiment,
)
from penstock.project.outcomes import join_outcomes
from penstock.project.worth import worth_of
from penstock.releases.experiments.asked import Asked
from penstock.releases.experiments.plan import Plan, Wanted
from penstock.serving.plane.split import arm_of
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.store.ledger import events, evidence, windows
from penstock.worker.tick import look_after
from project_folder import Project

FLOW = """
    import polars as pl

    from penstock import Pipeline

    flow = Pipeline("flow")


    @flow.model
    def best() -> str:
        return "plain"


    @flow.baseline
    def usual() -> str:
        return "usual"


    @flow.evaluate(metric="fit")
    def quality(model: str) -> pl.DataFrame:
        fit = {"plain": 0.5, "fancy": 0.7}.get(model, 0.4)
        return pl.DataFrame({"fit": [fit + 0.01 * n for n in range(20)]})


    @flow.serve(examples=[{"person": 1}])
    def show(best: str, *, person: int) -> str:
        return best


    @flow.fallback(deadline_ms=2000)
    def instead(usual: str, *, person: int) -> str:
        return usual


    # Which of 1,000 the person is: as good as by chance, and independent of the arm.
    def _place() -> pl.Expr:
        return pl.col("person") * 7_919 % 1_000


    @flow.outcome(within="1d", value=0.5)
    def watched(predictions: pl.DataFrame) -> pl.DataFrame:
        rate = pl.when(pl.col("answer") == "fancy").then(300).otherwise(120)
        return predictions.select("prediction_id", outcome=(_place() < rate).cast(pl.Float64))


    @flow.outcome(within="1d", value=1.0)
    def bought(predictions: pl.DataFrame) -> pl.DataFrame:
        return predictions.select("prediction_id", outcome=(_place() < 500).cast(pl.Float64))
"""
START = datetime(2024, 5, 1, tzinfo=UTC)
HISTORY_DAYS, PER_DAY = 3, 1_500
ASKED = Asked(
    name="fancy-words",
    arms=("flow@1", "flow@2", "fallback"),
    shares=(0.4, 0.4, 0.2),
    outcome="watched",
    guards=(("bought", 0.3),),
    effect=Wanted(amount=0.5, is_relative=True),
)
WORDS = {"flow@1": "plain", "flow@2": "fancy", "fallback": "usual"}


class World:
    """The project and its time; people ask once a day, each day others."""

    def __init__(self, project: Project) -> None:
        self.project, self.now, self.next = project, START, 0

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now)

    def day(self, *, salt: str | None = None) -> None:
        """Have a day pass: people are answered by the arm they fall on, and the truth about them is joined."""
        log = PredictionLog(self.project.root / ".penstock", "flow", worker="w0-1", clock=self.clock)
        entries = []
        for person in range(self.next, self.next + PER_DAY):
            at = self.now + timedelta(seconds=57 * (person - self.next))
            key = str(person).encode()
            arm = "flow@1" if salt is None else ASKED.arms[arm_of(key, salt, ASKED.shares)]
            entries.append(
                LogEntry(
                    id=log.new_id(at),
                    at=at,
                    release="flow@1" if arm == "fallback" else arm,
                    serve="show",
                    fields=msgspec.Raw(msgspec.json.encode({"person": person})),
                    answer=msgspec.Raw(msgspec.json.encode(WORDS[arm])),
                    key=str(person),
                    variant=arm if arm == "fallback" else "",
                )
            )
        log.append(entries)
        log.close()
        self.next += PER_DAY
        self.now += timedelta(days=1)

    def join(self) -> None:
        with self.project.opened(self.clock) as workspace:
            join_outcomes("flow@1", workspace, now=self.now)

    def looked_after(self) -> Standing:
        """Have the worker do what is due; return what is recorded then, looking at nothing anew."""
        with self.project.opened(self.clock) as workspace:
            assert not look_after(workspace, "flow", self.now, is_again=True).problems
            return list_experiments("flow", workspace)[0]

    def look(self) -> Standing:
        self.join()
        with self.project.opened(self.clock) as workspace:
            return look_at_experiment("flow", None, workspace)

    def start(self, asked: Asked = ASKED) -> Plan:
        """Start an experiment on what is known by now."""
        self.join()
        with self.project.opened(self.clock) as workspace:
            return start_experiment("flow", asked, workspace).plan


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Make the two releases, once."""
    project = Project(tmp_path_factory.mktemp("released"))
    project.write(FLOW)
    assert project.run().release == "flow@1"
    project.change('return "plain"', 'return "fancy"')
    assert project.run().release == "flow@2"
    return project


@pytest.fixture
def world(released: Project, tmp_path: Path) -> World:
    """Return a project of its own."""
    return World(released.copied(tmp_path / "flow"))


def test_an_experiment_decides_and_writes_its_verdict_to_the_releases(world: World) -> None:
    """L5, Q74, Q10: planned from history, split by key, looked at every day, decided in words and money, recorded."""
    for _ in range(HISTORY_DAYS):
        world.day()
    plan = world.start()
    with pytest.raises(InputError, match="'fancy-words' of pipeline 'flow' is running"):
        world.start(msgspec.structs.replace(ASKED, name="other"))
    assert plan.usual == pytest.approx(0.12, abs=0.01)
    assert plan.keys_per_day == PER_DAY
    assert plan.keys_per_month == pytest.approx(30 * PER_DAY, rel=0.05)
    assert 2 < plan.days < 20
    looks = []
    while (found := world.look()).state is ExperimentState.RUNNING:
        looks.append(found.said)
        assert len(looks) < 20
        world.day(salt=plan.salt)
    assert looks[0] == "no arm is surely better yet"
    assert found.verdict is not None
    assert (found.verdict.kind, found.verdict.winner) == ("wins", "flow@2")
    assert found.verdict.look.days < plan.longest_days
    low, high = found.verdict.per_month_low, found.verdict.per_month_high
    assert low is not None
    assert high is not None
    assert low < 0.18 * 0.5 * 30 * PER_DAY < high  # the true difference, its worth, and the people of a month
    assert "stop: flow@2 wins" in found.said
    with world.project.opened() as workspace, workspace.ledger.read() as conn:
        passed = {one.subject: one.passed for one in evidence.of_kind(conn, "flow", "verdict")}
        said = evidence.newest(conn, "flow", "verdict", "flow@2")
        told = [event.action for event in events.page(conn, target="flow/fancy-words")]
    assert passed == {"flow@1": False, "flow@2": True}
    assert said is not None
    assert said.figures["said"] == found.said
    assert told == ["experiment.decided", "experiment.started"]
    assert world.look() == found  # what was decided stays so, whatever comes later
    _show_worth(world)


def _show_worth(world: World) -> None:
    """B4, tM2: each release has its figures offline, online and in money; the experiment went as they said."""
    shown = [
        {"column": "release", "value": name, "mean": mean, "low": mean - 0.01, "high": mean + 0.01, "n": 4000}
        for name, mean in (("flow@1", 0.12), ("flow@2", 0.3))
    ]
    window = windows.NewWindow(
        monitor="quality:watched",
        start_at=START,
        end_at=START + timedelta(days=1),
        rows=8000,
        release="flow@2",
        findings=[{"kind": "quality", "is_alarm": False, "evidence": {"by": shown}}],
    )
    with world.project.opened(world.clock) as workspace:
        with workspace.ledger.write() as conn:
            windows.put(conn, "flow", [window])
        found = worth_of("flow", workspace)
    assert (found.metric, found.outcome, found.value) == ("fit", "watched", 0.5)
    second, first = found.triples
    assert second.offline is not None
    assert second.release == "flow@2"
    assert second.online == pytest.approx(0.3)
    assert second.money == pytest.approx(0.15)
    assert second.offline.mean == pytest.approx(0.795)
    assert (second.won, first.lost, first.answers) == (("fancy-words",), ("fancy-words",), 4000)
    assert [(one.winner, one.is_as_offline) for one in found.agreement.matches] == [("flow@2", True)]
    assert found.agreement.said.startswith("2 releases have both figures")
    told = world.project.command("worth", "flow")
    assert "flow@2   0.795 (" in told.stdout, told.stderr
    assert "In 1 of 1 experiments the arm that was better offline won." in told.stdout


def test_the_worker_decides_when_nobody_looks(world: World) -> None:
    """L5: a tick joins the truth, looks at the experiment that runs, and records what is decided."""
    for _ in range(HISTORY_DAYS):
        world.day()
    plan = world.start()
    assert world.looked_after().state is ExperimentState.RUNNING
    for _ in range(math.ceil(plan.longest_days) + 1):
        world.day(salt=plan.salt)
    found = world.looked_after()
    assert found.state is ExperimentState.DECIDED
    assert found.verdict is not None
    assert found.verdict.winner == "flow@2"


def test_a_key_is_measured_whole_or_not_at_all(world: World) -> None:
    """L5: keys whose span or truth is not over yet count nowhere; one that meets two arms counts for the first."""
    world.day()
    world.now += timedelta(days=2)
    world.start(msgspec.structs.replace(ASKED, outcome="bought", guards=(), effect=Wanted(amount=0.02)))
    world.day(salt="any")
    standing = world.look()
    assert standing.look is not None
    before = sum(standing.look.assigned.values())
    assert before == PER_DAY
    assert sum(standing.look.units.values()) <= 2  # a day is just over for the first of them, their truth is not
    world.next -= PER_DAY  # the same people again, by another split
    world.day(salt="another")
    world.now += timedelta(days=1)
    standing = world.look()
    assert standing.look is not None
    assert standing.look.crossed > 0.2 * PER_DAY
    assert before <= sum(standing.look.units.values()) <= PER_DAY
    with world.project.opened(world.clock) as workspace:
        ended = stop_experiment("flow", None, workspace, reason="enough")
        assert [one.state.value for one in list_experiments("flow", workspace)] == ["stopped"]
        with pytest.raises(InputError, match="is stopped already"):
            stop_experiment("flow", None, workspace)
    assert ended.said == "stopped: enough"


def test_the_command_plans_starts_tells_and_stops(world: World) -> None:
    """L5: the whole way by command, as text and as JSON; what is wrong is said in a line with the next step."""
    world.now = datetime.now(UTC) - timedelta(days=4)
    world.day()
    world.day()
    assert world.project.command("outcomes", "flow").returncode == 0
    words = ("--arms", "flow@1,flow@2", "--outcome", "watched", "--effect", "20%")
    plan = world.project.command("experiment", "plan", "flow", "--name", "second", *words)
    assert plan.returncode == 0, plan.stderr
    assert "Finds a difference of 0.0" in plan.stdout
    started = world.project.command("experiment", "start", "flow", "--name", "second", *words, "--json")
    assert json.loads(started.stdout)["plan"]["outcome"]["name"] == "watched", started.stderr
    status = world.project.command("experiment", "status")
    assert "flow/second  running" in status.stdout
    assert "experiment second: running, begun" in world.project.command("status", "flow").stdout
    assert "watched: flow@2 over flow@1" in status.stdout
    stopped = world.project.command("experiment", "stop", "--reason", "wrong posters")
    assert "stopped: wrong posters" in stopped.stdout
    listed = json.loads(world.project.command("experiment", "list", "--json").stdout)
    assert [one["name"] for one in listed][:1] == ["second"]
    for wrong, said in (
        (("experiment", "begin"), "'begin' is nothing to do with an experiment"),
        (("experiment", "plan", "--name", "x", *words, "--share", "half,half"), "'half' is no share"),
    ):
        refused = world.project.command(*wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert said in refused.stderr
        assert "Hint:" in refused.stderr


DECLARED = """
    [flow.experiments.fancy-words]
    arms = ["flow@1", "flow@2", "fallback"]
    shares = ["40%", "40%", "0.2"]
    outcome = "watched"
    guards = ["bought=30%"]
    effect = "50%"
"""


def test_an_experiment_is_declared_in_the_settings(world: World) -> None:
    """L5: what `penstock.toml` says need not be said again; what is said anew goes before it; errors name the place."""
    world.project.write(DECLARED, "penstock.toml")
    with world.project.opened() as workspace:
        assert declared("flow", None, {}, workspace) == ASKED
        assert declared("flow", "fancy-words", {"days": 3.0, "shares": []}, workspace) == msgspec.structs.replace(
            ASKED, days=3.0, shares=()
        )
        with pytest.raises(InputError, match="'other' has no arms") as caught:
            declared("flow", "other", {}, workspace)
        assert "[flow.experiments.other]" in caught.value.hint
        with pytest.raises(InputError, match=r"alpha") as caught:
            declared("flow", None, {"alpha": 2.0}, workspace)
    refused = world.project.command("experiment", "start", "flow")
    assert refused.returncode == 2
    assert "Outcome 'watched' was the same for all of 0 keys" in refused.stderr  # it got as far as the plan
    world.project.write(f"{DECLARED}\n    [flow.experiments.second]\n", "penstock.toml")
    refused = world.project.command("experiment", "plan", "flow")
    assert refused.returncode == 2
    assert "[flow.experiments] in penstock.toml has fancy-words, second" in refused.stderr
    world.project.write("[flow.experiments.x]\narm = []\n", "penstock.toml")
    refused = world.project.command("experiment", "plan", "flow")
    assert refused.returncode == 2
    assert "`arm`" in refused.stderr


def test_what_cannot_be_compared_is_refused(world: World) -> None:
    """An arm of another pipeline, an unknown outcome, a project without history: each is said with the next step."""
    world.day()
    with world.project.opened(world.clock) as workspace:
        for change, error, message in (
            ({"arms": ("flow@1", "flow@9")}, NotFoundError, "no release 'flow@9'"),
            ({"outcome": None}, InputError, "not clear which outcome decides"),
            ({}, InputError, "was the same for all of 0 keys"),
            ({"arms": ("flow@1", "other@1")}, InputError, "'other@1' is no release of 'flow'"),
            ({"outcome": "bough"}, NotFoundError, "no outcome 'bough'"),
            ({"arms": ("flow@1", "flow@9", "fallback")}, NotFoundError, "no release 'flow@9'"),
            ({"shares": (0.5, 0.5)}, InputError, "3 arms have 2 shares"),
            ({"history_days": 1e-9}, InputError, "has a key"),
        ):
            with pytest.raises(error, match=message) as caught:
                plan_experiment("flow", msgspec.structs.replace(ASKED, **change), workspace)
            assert caught.value.hint
