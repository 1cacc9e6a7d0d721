"""An experiment that a server deals: who asks gets the arm that the hash says, and what was dealt is counted."""

import sys
import time
from pathlib import Path

import httpx
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import InputError
from penstock.core.states import RolloutState
from penstock.project.experimenting import Asked, look_at_experiment, start_experiment, stop_experiment
from penstock.project.outcomes import join_outcomes
from penstock.releases.experiments.plan import Wanted
from penstock.serving.plane.split import arm_of
from penstock.serving.predictions.reading import predictions_frame
from penstock.store.ledger import Ledger, rollouts
from project_folder import Project

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
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Release "plain", then "fancy", which waits for its rollout; nothing of it is under way."""
    project = Project(tmp_path_factory.mktemp("dealt"))
    project.write(FLOW)
    assert project.run().release == "flow@1"
    project.write('[flow]\nrollout = ["10%"]\n', "penstock.toml")
    project.change('return "plain"', 'return "fancy"')
    assert project.run().release == "flow@2"
    assert project.live("flow") == "flow@1"
    return project


def _ask(client: httpx.Client, people: range) -> dict[int, str]:
    """Return who was answered by which release."""
    return {n: client.post("/flow/show", json={"person": n}).raise_for_status().json()["release"] for n in people}


def _end_rollout(ledger: Ledger) -> None:
    with ledger.write() as conn:
        found = rollouts.opened(conn, "flow")
        assert found is not None
        rollouts.move(conn, found, RolloutState.ROLLED_BACK, by="test", reason="an experiment is to decide")


def test_a_server_deals_keys_and_what_it_dealt_is_counted(flow: Project) -> None:
    """L5, Q74: while an experiment runs, the server answers each key by its arm, always the same, and no other way.

    A rollout under way keeps it from starting; stopped, everybody is answered by the live release again.
    """
    with flow.served() as server, httpx.Client(base_url=server.url, timeout=60) as client, flow.opened() as workspace:
        _ask(client, range(200))
        join_outcomes("flow@1", workspace)
        with pytest.raises(InputError, match="The rollout of flow@2 is under way"):
            start_experiment("flow", ASKED, workspace)
        _end_rollout(workspace.ledger)
        plan = start_experiment("flow", ASKED, workspace).plan
        assert plan.dealt == ("flow@2", "flow@1")
        people = range(1_000, 1_200)
        dealt = {n: plan.dealt[arm_of(str(n).encode(), plan.salt, (0.3, 0.7))] for n in people}
        first = next(n for n in people if dealt[n] == "flow@2")
        deadline = time.monotonic() + PATIENCE_S
        while _ask(client, range(first, first + 1))[first] != "flow@2":
            assert time.monotonic() < deadline, "the other release never stood beside the live one"
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
        deadline = time.monotonic() + PATIENCE_S
        while _ask(client, range(first, first + 1))[first] != "flow@1":
            assert time.monotonic() < deadline, "the experiment was stopped, and the split stands"
        assert set(_ask(client, people).values()) == {"flow@1"}
