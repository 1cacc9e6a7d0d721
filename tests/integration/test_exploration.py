"""A share of real answers comes from the fallback, so that the loop does not only confirm itself."""

import sys
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.serving.predictions.reading import predictions_frame
from project_folder import Project

FLOW = """
    from penstock import Pipeline

    flow = Pipeline("flow")


    @flow.model
    def best() -> str:
        return "model"


    @flow.baseline
    def usual() -> str:
        return "usual"


    @flow.serve(examples=[{"person": 1}])
    def show(best: str, *, person: int) -> str:
        return best


    @flow.fallback(deadline_ms=2000)
    def plain(usual: str, *, person: int) -> str:
        return usual
"""


def test_policy_lets_a_share_of_people_explore(tmp_path: Path) -> None:
    """B3: with `explore` in policy the fallback answers some although the model could; the log tells them apart."""
    project = Project(tmp_path)
    project.write(FLOW)
    project.write("[flow]\nexplore = 0.5\n", "penstock.toml")
    assert project.run().release == "flow@1"
    with project.served() as server:
        asked = [httpx.post(f"{server.url}/flow/show", json={"person": n}).json()["answer"] for n in range(40)]
        again = [httpx.post(f"{server.url}/flow/show", json={"person": n}).json()["answer"] for n in range(40)]
    assert asked == again
    assert 8 <= asked.count("usual") <= 32
    kept = predictions_frame(tmp_path / ".penstock", "flow").select("variant", "fallback", "answer").unique().collect()
    assert sorted(kept.rows()) == [("", False, '"model"'), ("explore", False, '"usual"')]
