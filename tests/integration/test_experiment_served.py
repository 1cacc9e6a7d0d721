"""An experiment that a server deals: who asks gets the arm that the hash says, and what was dealt is counted."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import msgspec
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import InputError
from penstock.core.refs import ReleaseRef
from penstock.core.states import ExperimentState
from penstock.project.experimenting import Standing, look_at_experiment, start_experiment, stop_experiment
from penstock.project.outcomes import join_outcomes
from penstock.project.rollout.moves import roll_back
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.experiments.asked import Asked
from penstock.releases.experiments.plan import Wanted
from penstock.serving.plane.split import arm_of
from penstock.serving.predictions.reading import predictions_frame
from penstock.store.ledger import releases
from project_folder import Project
from serving_load import wait_until

FLOW = """
    import polars as pl

    from penstock import Pipeline

    flow = Pipeline("flow")


    @flow.dataset(key="person")
    def people() -> pl.DataFrame:
        return pl.DataFrame({"person": list(range(10))})


    @flow.model
    def best(people: pl.DataFrame) -> str:
        return "plain"


    @flow.serve(examples=[{"person": 1}])
    def show(best: str, *, person: int) -> str:
        return best


    @flow.fallback(deadline_ms=2000)
    def usual(*, person: int) -> str:
        return "usual"


    @flow.outcome(value=0.5)
    def watched(predictions: pl.DataFrame) -> pl.DataFrame:
        rate = pl.when(pl.col("answer") == "fancy").then(600).otherwise(300)
        return predictions.select("prediction_id", outcome=(pl.col("person") * 7_919 % 1_000 < rate).cast(pl.Float64))
"""
ASKED = Asked(
    name="fancy-words",
    arms=("flow@1", "flow@2"),
    shares=(0.7, 0.3),
    effect=Wanted(amount=0.1),
    span="100ms",
)


@pytest.fixture(scope="module")
def rolling_out(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Release "plain", then "fancy", whose rollout is under way."""
    project = Project(tmp_path_factory.mktemp("dealt"))
    project.write(FLOW)
    assert project.run().release == "flow@1"
    project.write('[flow]\nrollout = ["10%"]\n', "penstock.toml")
    project.change('return "plain"', 'return "fancy"')
    assert project.run().release == "flow@2"
    assert project.live("flow") == "flow@1"
    return project


@pytest.fixture
def flow(rolling_out: Project, tmp_path: Path) -> Project:
    """A project of each test's own, where the rollout has given way to an experiment."""
    project = rolling_out.copied(tmp_path / "flow")
    with project.opened() as workspace:
        roll_back("flow", workspace)
    return project


def test_a_rollout_under_way_keeps_an_experiment_from_starting(rolling_out: Project) -> None:
    """L5: two things that split the same users would each make the other's figures wrong."""
    with rolling_out.opened() as workspace, pytest.raises(InputError, match="The rollout of flow@2 is under way"):
        start_experiment("flow", ASKED, workspace)


def _ask(client: httpx.Client, people: Sequence[int]) -> dict[int, str]:
    """Return who was answered by which release."""
    return {n: client.post("/flow/show", json={"person": n}).raise_for_status().json()["release"] for n in people}


def _have_history(client: httpx.Client, workspace: Workspace) -> None:
    _ask(client, range(200))
    join_outcomes("flow@1", workspace)


def _wait_until(is_so: Callable[[], bool], what: str) -> None:
    wait_until(is_so, what, timeout_s=120)


def test_a_server_deals_keys_and_what_it_dealt_is_counted(flow: Project) -> None:
    """L5, Q74: while an experiment runs, the server answers each key by its arm, always the same, and no other way.

    Once it is stopped, everybody is answered by the live release again.
    """
    with flow.served() as server, httpx.Client(base_url=server.url, timeout=60) as client, flow.opened() as workspace:
        _have_history(client, workspace)
        plan = start_experiment("flow", ASKED, workspace).plan
        assert plan.dealt == ("flow@2", "flow@1")
        people = range(1_000, 1_200)
        dealt = {n: plan.dealt[arm_of(str(n).encode(), plan.salt, (0.3, 0.7))] for n in people}
        first = next(n for n in people if dealt[n] == "flow@2")
        _wait_until(lambda: _ask(client, [first]) == {first: "flow@2"}, "the other release stands beside the live one")
        assert _ask(client, people) == dealt
        assert _ask(client, people) == dealt
        join_outcomes("flow@1", workspace)
        standing = look_at_experiment("flow", None, workspace)
        assert standing.look is not None
        asked_meanwhile = predictions_frame(workspace.home, "flow").filter(pl.col("key").cast(pl.Int64) >= 1_000)
        variants = dict(asked_meanwhile.group_by("release").agg(pl.col("variant").unique()).collect().iter_rows())
        assert variants["flow@2"] == ["experiment"]
        assert standing.look.assigned == {arm: list(dealt.values()).count(arm) for arm in ASKED.arms}
        assert standing.look.crossed <= 1  # who asked before the other release stood there
        assert standing.is_dealt
        if standing.verdict is None:
            stop_experiment("flow", None, workspace)
        _wait_until(lambda: _ask(client, [first]) == {first: "flow@1"}, "the split of a stopped experiment is gone")
        assert set(_ask(client, people).values()) == {"flow@1"}


def test_the_fallback_is_an_arm_like_any_other(flow: Project) -> None:
    """L5, Q74: what the model is worth at all: keys dealt to the fallback are answered by it, always, and counted."""
    asked = msgspec.structs.replace(ASKED, name="worth-it", arms=("flow@1", "fallback"))
    with flow.served() as server, httpx.Client(base_url=server.url, timeout=60) as client, flow.opened() as workspace:
        _have_history(client, workspace)
        plan = start_experiment("flow", asked, workspace).plan
        assert plan.dealt == ("fallback", "flow@1")
        people = range(5_000, 5_200)
        dealt = {n: plan.dealt[arm_of(str(n).encode(), plan.salt, (0.3, 0.7))] for n in people}
        first = next(n for n in people if dealt[n] == "fallback")

        def answer(person: int) -> str:
            return str(client.post("/flow/show", json={"person": person}).raise_for_status().json()["answer"])

        _wait_until(lambda: answer(first) == "usual", "the fallback has its keys")
        words = {"fallback": "usual", "flow@1": "plain"}
        for _ in range(2):
            assert {n: answer(n) for n in people} == {n: words[arm] for n, arm in dealt.items()}
        join_outcomes("flow@1", workspace)
        standing = look_at_experiment("flow", None, workspace)
        assert standing.look is not None
        assert standing.look.assigned == {arm: list(dealt.values()).count(arm) for arm in asked.arms}
        if standing.verdict is None:
            stop_experiment("flow", None, workspace)
        _wait_until(lambda: answer(first) == "plain", "the split of a stopped experiment is gone")


def test_an_arm_that_cannot_be_served_ends_the_experiment(flow: Project) -> None:
    """L5: a release whose bytes are damaged stands nowhere; its keys get the live one, and the next look says so."""
    with flow.opened() as workspace, workspace.ledger.read() as conn:
        manifest = read_manifest(releases.get(conn, ReleaseRef("flow", 2)).manifest_digest, workspace)
        weights = workspace.blobs.path(manifest.serving["show"]["best"].digest)
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"~")
    with flow.served() as server, httpx.Client(base_url=server.url, timeout=60) as client, flow.opened() as workspace:
        _have_history(client, workspace)
        start_experiment("flow", msgspec.structs.replace(ASKED, name="damaged"), workspace)

        def standing() -> Standing:
            return look_at_experiment("flow", "damaged", workspace)

        _wait_until(lambda: standing().state is ExperimentState.STOPPED, "an arm that cannot be served ends it")
        assert standing().said.startswith("stopped: flow@2 cannot be served: ")
        people = range(9_000, 9_050)
        assert set(_ask(client, people).values()) == {"flow@1"}
