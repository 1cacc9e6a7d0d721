"""What a person does on the pages, over real HTTP: each move by who may, in their name, and kept."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages_project import Site, answered, make_shops
from penstock.store.ledger import alerts, events
from penstock.web.edge import API
from project_folder import Project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_shops(tmp_path_factory.mktemp("pages") / "shop")


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    return made.copied(tmp_path / "shop")


@pytest.fixture
def site(project: Project) -> Iterator[Site]:
    with answered(project) as found:
        yield found


def test_a_releaser_rolls_back_and_an_editor_does_not(site: Site, project: Project) -> None:
    """G2, G3, Q8: by a form, in the person's name, with the reason; servers follow the ledger."""
    with site.client("eve", "editor") as eve:
        refused = eve.post("/pipelines/shop/rollback", data={"reason": "I want to"})
        assert refused.status_code == 403
        assert "This takes the role releaser." in refused.text
    assert project.live("shop") == "shop@2"
    with site.client("rita", "releaser", "shop") as rita:
        done = rita.post("/pipelines/shop/rollback", data={"reason": "wrong <b>prices</b>", "to": ""})
        assert (done.status_code, done.headers["location"]) == (303, "/pipelines/shop")
        assert "shop@1</a> is live again" in rita.get("/pipelines/shop").text
        assert "is live again" not in rita.get("/pipelines/shop").text  # it is told once
        again = rita.post(f"{API}/pipelines/shop/promote", json={"release": "shop@2"})
        assert again.json()["result"]["live"] == "shop@2"
        assert rita.post("/pipelines/shop/promote", data={"release": "other@1"}).status_code == 422
        assert rita.post("/pipelines/shop/rollback", data={"reason": "x" * 501}).status_code == 422
    with site.workspace.ledger.read() as conn:
        moved = [one for one in events.page(conn) if one.action == "release.rolled_back"]
    assert [(one.actor, one.details["reason"]) for one in moved] == [("rita", "wrong <b>prices</b>")]


@pytest.fixture
def waiting(site: Site, project: Project) -> Project:
    """A candidate that waits for an approval."""
    project.write('[shop]\nrollout = ["10%", "100%"]\nhold = "1h"\napprovals = ["product"]\n', "penstock.toml")
    project.change('WORD = "two"', 'WORD = "three"', "shop.py")
    assert project.run().release == "shop@3"
    return project


def test_a_candidate_is_approved_paused_and_promoted(waiting: Project, site: Site) -> None:
    """L5, G2: from the card of its rollout, each move by who may, with a reason, until it is live."""
    with site.client("vera", "viewer") as vera:
        seen = vera.get("/pipelines/shop").text
        assert "It waits for approval by product; then 10%, 100%." in seen
        assert "Approve as product" not in seen
    with site.client("rita", "releaser") as rita:
        assert "Approve as product" in rita.get("/pipelines/shop").text
        assert rita.post("/pipelines/shop/approve", data={"role": "product", "reason": " "}).status_code == 422
        assert rita.post("/pipelines/shop/approve", data={"role": "king", "reason": "me"}).status_code == 422
        assert rita.post("/pipelines/shop/approve", data={"role": "product", "reason": "looked"}).status_code == 303
        assert "shop@3</a> is approved as product: running at 10%." in rita.get("/pipelines/shop").text
        assert rita.post("/pipelines/shop/pause", data={}).status_code == 303
        assert ">Resume</button>" in rita.get("/pipelines/shop").text
        assert rita.post("/pipelines/shop/pause", data={}).status_code == 422  # it is paused already
        assert rita.post("/pipelines/shop/resume", data={}).status_code == 303
        assert rita.post("/pipelines/shop/promote", data={"to": "100%"}).status_code == 303
    assert waiting.live("shop") == "shop@3"
    with site.workspace.ledger.read() as conn:
        moves = [one for one in events.page(conn) if one.action.startswith("rollout.")]
    assert {one.actor for one in moves[:-1]} == {"rita"}


def test_an_alert_is_walked_back_and_judged(site: Site) -> None:
    """M5: the page says what, since when and what to do; an editor says that it was noise, and that is kept."""
    now = site.workspace.clock.now()
    worst = {"kind": "drift", "subject": "bought", "said": "bought moved by 0.8 sigma"}
    finding = {"worst": worst, "since": now.isoformat(), "until": now.isoformat(), "heard_at": now.isoformat()}
    found = alerts.Alert(
        pipeline="shop", kind="drift", subject="data:buyers", raised_at=now, seen_at=now, finding=finding
    )
    with site.workspace.ledger.write() as conn:
        number = alerts.put(conn, found)
    with site.client("eve", "editor", "shop") as eve:
        assert f'href="/alerts/a{number}"' in eve.get("/alerts").text
        assert "Nobody has said yet" in eve.get(f"/alerts/a{number}").text
        assert eve.post(f"/alerts/a{number}/dispose", data={"disposition": "perhaps"}).status_code == 422
        assert (
            eve.post(f"/alerts/a{number}/dispose", data={"disposition": "noise", "note": "a feast"}).status_code == 303
        )
        assert "noise, says eve." in eve.get(f"/alerts/a{number}").text


def test_an_admin_lets_somebody_in(site: Site) -> None:
    """G1: the address is shown once, in the page and not in its own address; the last admin stays one."""
    with site.client("ada", "admin") as ada:
        assert ada.post("/people/add", data={"person": "bob", "role": "viewer", "pipeline": "shop"}).status_code == 303
        page = ada.get("/people").text
        (link,) = re.findall(r"/sign-in\?token=pst_signin_[0-9a-f_]+", page)
        assert link not in ada.get("/people").text
        assert "viewer of shop" in page
        assert ada.post("/people/add", data={"person": "ada", "role": "viewer"}).status_code == 422
        assert ada.post("/people/remove", data={"person": "bob"}).status_code == 303
    with httpx.Client(base_url=site.url, headers={"origin": site.url}) as bob:
        assert bob.post("/sign-in", data={"token": link.partition("=")[2]}).status_code == 401


def test_an_editor_asks_for_a_retrain(site: Site) -> None:
    """Q56: the wish waits for the worker, under the name of who asked."""
    with site.client("eve", "editor", "shop") as eve:
        assert eve.post("/pipelines/shop/retrain", data={"reason": "new prices"}).status_code == 303
        assert eve.post("/pipelines/shop/retrain", data={"reason": "again"}).status_code == 422  # one waits
    with site.client("bob", "editor", "other") as bob:
        assert bob.post(f"{API}/pipelines/shop/retrain", json={}).status_code == 404
    with site.workspace.ledger.read() as conn:
        (asked,) = [one for one in events.page(conn) if one.action == "retrain.asked"]
    assert (asked.actor, asked.details["reason"]) == ("eve", "eve asked for it: new prices")


def test_a_wish_that_is_sent_again_is_one(site: Site) -> None:
    """A retry of the network is no second retrain: the same Idempotency-Key is the same wish."""
    with site.client("eve", "editor", "shop") as eve:
        headers = {"idempotency-key": "nightly-1"}
        first, second = (
            eve.post(f"{API}/pipelines/shop/retrain", json={}, headers=headers).json()["result"] for _ in range(2)
        )
        assert (first["is_new"], second["is_new"], first["cause"]) == (True, False, second["cause"])
        assert (
            eve.post(f"{API}/pipelines/shop/retrain", json={}, headers={"idempotency-key": "x" * 129}).status_code
            == 400
        )


def test_people_are_kept_by_command(project: Project) -> None:
    """G1, G2: add, invite, list and remove, with errors that say the next step; the last admin stays."""
    added = json.loads(project.command("people", "add", "ada", "--role", "admin", "--json").stdout)
    assert added["token"].startswith("pst_signin_")
    assert project.command("people", "add", "bob", "--role", "viewer", "--of", "shop").returncode == 0
    assert "bob  viewer of shop" in project.command("people").stdout
    assert "/sign-in?token=pst_signin_" in project.command("people", "invite", "bob").stdout
    assert "Bearer pst_api_" in project.command("people", "token", "bob", "--lasts", "1d").stdout
    (kept,) = json.loads(project.command("people", "tokens", "bob", "--json").stdout)
    assert "hash" not in kept
    assert kept["id"] in project.command("people", "tokens", "bob").stdout
    assert project.command("people", "revoke", kept["id"]).returncode == 0
    assert "No token for programs works." in project.command("people", "tokens", "bob").stdout
    assert project.command("people", "add", "bob", "--role", "editor").returncode == 0
    assert project.command("people", "remove", "bob", "--of", "shop").returncode == 0
    assert "bob  editor of all pipelines" in project.command("people").stdout
    for words, said in (
        (("add", "cy"), "It is not said what they may."),
        (("add", "cy", "--role", "king"), "'king' is no role."),
        (("add", "<b>", "--role", "viewer"), "'<b>' is not a usable person."),
        (("invite", "nobody"), "Nobody called 'nobody' may sign in."),
        (("remove", "ada"), "'ada' is the last admin."),
        (("add", "ada", "--role", "viewer"), "'ada' is the last admin."),
        (("revoke", "0123"), "There is no token '0123'."),
        (("remove", "bob", "--of", "other"), "'bob' has no role for pipeline 'other'."),
        (("token", "bob", "--lasts", "999d"), "A token cannot last 999 d."),
        (("crown", "bob"), "'crown' is nothing to do with people."),
    ):
        refused = project.command("people", *words)
        assert (refused.returncode, refused.stdout) == (2, ""), words
        assert said in refused.stderr
        assert "Hint:" in refused.stderr
    assert project.command("people", "remove", "bob").returncode == 0
    assert "bob" not in project.command("people").stdout
