"""A candidate beside the live release, served for real: shared by key, watched, taken back by itself, or gone live."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.project.rollout import moves
from penstock.project.rollout.guardian import Guardian
from penstock.serving.plane.split import drawn
from penstock.serving.predictions.reading import predictions_frame
from penstock.store.ledger import alerts, evidence, releases, rollouts
from penstock.store.ledger.evidence import NewEvidence
from project_folder import COMMAND, Project
from serve_command import serving

_PATIENCE_S = 120.0
FLOW = """
    import json
    import os
    import time
    from pathlib import Path

    import polars as pl
    from penstock import Pipeline, Row

    shop = Pipeline("shop")
    VERSION = 1
    # What the candidate does wrong, once it is told: the gate has seen it do well.
    MODE = Path(__file__).resolve().parents[2] / "mode" if "code" in Path(__file__).parts else Path("mode")


    @shop.dataset(key="user_id")
    def users() -> pl.DataFrame:
        return pl.DataFrame({"user_id": list(range(400)), "score": [(i * 37 % 101) / 101 for i in range(400)]})


    @shop.model
    def table(users: pl.DataFrame) -> pl.DataFrame:
        return users.sort("user_id")


    class Offer(Row):
        score: float
        version: int


    def misbehave(score: float) -> float:
        mode = MODE.read_text() if VERSION > 1 and MODE.exists() else ""
        match mode:
            case "errors":
                raise ValueError("planted")
            case "crash":
                os._exit(7)
            case "slow":
                time.sleep(0.05)
            case "inverted":
                return -score
            case "nan":
                return float("nan")
        return score


    @shop.serve
    def offer(table: pl.DataFrame, *, user_id: int) -> Offer:
        return Offer(score=misbehave(table["score"][user_id % 400]), version=VERSION)


    @shop.serve
    def quick(table: pl.DataFrame, *, user_id: int, place: int = 0) -> Offer:
        return Offer(score=misbehave(table["score"][user_id % 400]), version=VERSION)


    @shop.fallback(deadline_ms=2000)
    def plain(*, user_id: int, place: int = 0) -> Offer:
        return Offer(score=0.5, version=0)
"""
POLICY = """
[shop]
rollout = ["shadow", "30%", "100%"]
hold = "500ms"
[shop.guards]
requests = 40
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two releases: shop@1 live, shop@2 the candidate of a rollout."""
    project = Project(tmp_path_factory.mktemp("rollout"), "shop")
    project.write(FLOW)
    project.write(POLICY, "penstock.toml")
    assert project.run().release == "shop@1"
    project.change("VERSION = 1", "VERSION = 2")
    assert project.run().release == "shop@2"
    return project


@pytest.fixture(scope="module")
def url(shop: Project) -> Iterator[str]:
    with serving(shop) as (_, ready):
        assert ready["release"] == "shop@1"
        yield ready["url"]


@contextmanager
def asked(url: str, path: str) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Ask for as long as the block lasts; give the replies as they come."""
    replies: list[tuple[int, dict[str, Any]]] = []
    stop = threading.Event()

    def ask(first: int) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            user = first
            while not stop.is_set():
                reply = client.post(path, json={"user_id": user % 400})
                replies.append((reply.status_code, {"user": user % 400, **reply.json()}))
                user += 7

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield replies
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def state_of(project: Project) -> rollouts.Rollout:
    with project.opened() as workspace, workspace.ledger.read() as conn:
        return rollouts.page(conn, "shop", most=1)[0]


def wait_until(what: str, is_so: Any) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def misbehave(project: Project, mode: str) -> None:
    (project.root / ".penstock" / "mode").write_text(mode, encoding="utf-8")


def answers(url: str, release: str) -> bool:
    """Whether a server answers everybody by one release: so many of a share of 30 % are among forty."""
    return all(
        httpx.post(f"{url}/shop/quick", json={"user_id": user}, timeout=30).json()["release"] == release
        for user in range(40)
    )


def start_again(project: Project, url: str, *, at: str) -> None:
    """Have shop@2 begin again, with nothing against it yet, and hold it at a stage: only guards end that."""
    with project.opened() as workspace:
        with workspace.ledger.read() as conn:
            live = releases.live(conn, "shop")
        if live is not None and live.version > 1:
            moves.roll_back("shop", workspace, to="shop@1")
        wait_until("shop@1 does not answer again", lambda: answers(url, "shop@1"))
        moves.promote("shop@2", workspace)
        moves.split("shop", at, workspace)


@pytest.mark.parametrize(
    ("mode", "path", "guard"),
    [
        ("errors", "/shop/offer", "errors"),
        ("errors", "/shop/quick", "fallbacks"),
        ("inverted", "/shop/offer", "answers: offer score"),
        ("nan", "/shop/quick", "not finite"),
        ("slow", "/shop/offer", "time"),
    ],
)
def test_a_canary_that_goes_bad_is_taken_back_by_itself(
    shop: Project, url: str, mode: str, path: str, guard: str
) -> None:
    """L5, L7, tI6: a canary that fails, falls back, inverts scores, gives NaN or is slow never reaches the next share.

    Nobody but those it answered sees it, and where it has no answer the live release gives one.
    """
    misbehave(shop, "")
    start_again(shop, url, at="30%")
    with asked(url, path) as replies:
        wait_until("nobody was answered by the canary", lambda: any(r["release"] == "shop@2" for _, r in replies))
        misbehave(shop, mode)
        wait_until("it was not taken back", lambda: not state_of(shop).is_open)
        ended = state_of(shop)
        seen = len(replies)
        wait_until(
            "it still answers",
            lambda: len(replies) > seen + 90 and all(r["release"] == "shop@1" for _, r in replies[-60:]),
        )
    assert ended.state == "rolled_back", ended
    assert ended.stage_name == "30%"
    assert guard in {found["name"] for found in ended.figures["guards"] if found["is_broken"]}
    assert Counter(status for status, _ in replies) == {200: len(replies)}
    # The same people, and only they: by the hash of the key.
    mine = {r["user"] for _, r in replies if r["release"] == "shop@2"}
    assert all(drawn(str(user).encode(), f"rollout {ended.id}") < 0.3 for user in mine)


def test_what_was_taken_back_is_an_alert(shop: Project, url: str) -> None:
    """M5, L7: people hear of a candidate that was taken back, with the evidence; by a tick, as of everything else."""
    misbehave(shop, "")
    start_again(shop, url, at="30%")
    with asked(url, "/shop/offer") as replies:
        wait_until("nobody was answered by the canary", lambda: any(r["release"] == "shop@2" for _, r in replies))
        misbehave(shop, "errors")
        wait_until("it was not taken back", lambda: not state_of(shop).is_open)
    done = subprocess.run([*COMMAND, "tick", "--json"], cwd=shop.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with shop.opened() as workspace, workspace.ledger.read() as conn:
        [alert] = [one for one in alerts.page(conn, pipeline="shop") if one.kind == "rollout"]
    told = subprocess.run([*COMMAND, "why", alert.ref], cwd=shop.root, capture_output=True, text=True, check=False)
    assert "shop@2 was taken back at 30%: it fails on" in told.stdout


def test_a_candidate_that_dies_is_rescued_and_taken_back(shop: Project, url: str) -> None:
    """Fault 28, 29: workers of a canary that crash cost nobody an answer, and end its rollout."""
    misbehave(shop, "")
    start_again(shop, url, at="30%")
    with asked(url, "/shop/offer") as replies:
        wait_until("nobody was answered by the canary", lambda: any(r["release"] == "shop@2" for _, r in replies))
        misbehave(shop, "crash")
        wait_until("it was not taken back", lambda: not state_of(shop).is_open)
    assert Counter(status for status, _ in replies) == {200: len(replies)}
    assert state_of(shop).reason.startswith(
        "it cannot be served: "
    )  # its workers keep dying, or one did while it loaded


def test_a_shadow_is_seen_by_nobody(shop: Project, url: str) -> None:
    """L6: a shadow answers what everybody asks, its answers are kept apart, and one that fails never gets a user."""
    misbehave(shop, "errors")
    start_again(shop, url, at="shadow")
    with asked(url, "/shop/offer") as replies:
        wait_until("it was not taken back", lambda: not state_of(shop).is_open)
    ended = state_of(shop)
    assert (ended.state, ended.stage_name) == ("rolled_back", "shadow")
    assert {r["release"] for _, r in replies} == {"shop@1"}
    home, since = shop.root / ".penstock", ended.started_at
    heard = predictions_frame(home, "shop", since=since).collect()
    every = predictions_frame(home, "shop", since=since, with_shadow=True).collect()
    assert set(heard["variant"]) == {""}
    assert every.filter(pl.col("variant") == "shadow")["release"].unique().to_list() == ["shop@2"]


def test_people_pause_split_and_take_back(shop: Project, url: str) -> None:
    """L5: a share is set by hand and held, a paused rollout goes on when it is told to, a rollback ends it."""
    misbehave(shop, "")
    start_again(shop, url, at="shadow")

    def said(*words: str, code: int = 0) -> dict[str, Any]:
        done = subprocess.run([*COMMAND, *words, "--json"], cwd=shop.root, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else {"error": done.stderr}

    held = said("split", "shop", "50%", "--reason", "half of them")["rollout"]
    assert (held["state"], held["stages"][held["stage"]]) == ("paused", "50%")
    with asked(url, "/shop/offer") as replies:
        wait_until("half are not answered", lambda: sum(r["release"] == "shop@2" for _, r in replies) > 60)
    assert state_of(shop).state == "paused"  # well beyond hold and requests, and still there
    assert "no stage '7%'" in said("promote", "shop", "--to", "7%", code=2)["error"]
    assert said("resume", "shop")["rollout"]["state"] == "running"
    assert "is running" in said("resume", "shop", code=2)["error"]
    back = said("rollback", "shop", "--reason", "enough seen")
    assert (back["live"], back["rollout"]["state"]) == ("shop@1", "rolled_back")
    assert "No rollout of 'shop' is under way" in said("pause", "shop", code=2)["error"]
    shown = subprocess.run([*COMMAND, "rollouts", "shop"], cwd=shop.root, capture_output=True, text=True, check=True)
    assert "enough seen" in shown.stdout


def test_a_guardian_that_begins_late_knows_the_same(shop: Project, url: str) -> None:
    """A tick, or a server that was started again, reads the stage from the log and makes the same move."""
    misbehave(shop, "")
    start_again(shop, url, at="50%")
    with shop.opened() as workspace:
        with asked(url, "/shop/offer") as replies:
            wait_until("half are not answered", lambda: sum(r["release"] == "shop@2" for _, r in replies) > 60)
        moves.resume("shop", workspace)
        first = state_of(shop)
        with asked(url, "/shop/offer") as replies:
            wait_until("it did not go live", lambda: not state_of(shop).is_open)
            assert state_of(shop).state == "done", state_of(shop)
            wait_until("it does not answer everybody", lambda: all(r["release"] == "shop@2" for _, r in replies[-60:]))
        assert Counter(status for status, _ in replies) == {200: len(replies)}
        assert state_of(shop).state == "done"
        guardian = Guardian(workspace, "shop")
        assert not guardian.look()
        guardian.close()
        back = moves.roll_back("shop", workspace, reason="for the next test")
        assert (back.live, first.stage_name) == ("shop@1", "50%")


def test_what_policy_asks_for_is_waited_for(tmp_path: Path) -> None:
    """R6, Q33, Q46: a release waits for the roles and the evidence that policy names, is never promoted past them."""
    project = Project(tmp_path, "shop")
    project.write(FLOW)
    project.write('[shop]\napprovals = ["product"]\nrequire = ["drill"]\n', "penstock.toml")
    assert project.run().release == "shop@1"  # the first one: there is nothing to lose yet
    project.change("VERSION = 1", "VERSION = 2")
    assert project.run().release == "shop@2"
    waits = state_of(project)
    assert (waits.state, waits.lacking) == ("waiting", ("product",))
    refused = subprocess.run(
        [*COMMAND, "promote", "shop@2"], cwd=project.root, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 3
    assert "shop@2 waits for approval by product, drill evidence." in refused.stderr
    assert "penstock approve shop@2 --as product" in refused.stderr
    words = ["approve", "shop@2", "--as", "product", "--reason", "looks right"]
    done = subprocess.run([*COMMAND, *words], cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "it waits for drill evidence" in done.stdout
    drilled = NewEvidence(pipeline="shop", subject="shop@2", kind="drill", by="ada", passed=True)
    with project.opened() as workspace:
        with workspace.ledger.write() as conn:
            evidence.add(conn, drilled)
        guardian = Guardian(workspace, "shop")
        assert guardian.look()  # as a server and `penstock tick` do
        with workspace.ledger.read() as conn:
            assert str(getattr(releases.live(conn, "shop"), "ref", "")) == "shop@2"
    assert state_of(project).state == "done"
