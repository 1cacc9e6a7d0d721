"""`penstock serve` and `penstock predict` as a person uses them: real releases, real processes, HTTP."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import SHOP, make_shop
from penstock.serving.predictions.reading import find_prediction
from project_folder import Project
from serve_command import serving

_PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_shop(tmp_path_factory.mktemp("serve") / "shop")


def price(client: httpx.Client) -> dict[str, Any]:
    reply = client.post("/shop/price", json={"item": "tea"})
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def test_a_newer_release_is_taken_up_without_dropping_a_request(tmp_path: Path) -> None:
    """A run makes movies@2 while requests go on: each is answered, first by the old, soon by the new release."""
    project = make_shop(tmp_path / "shop")
    with serving(project) as (_, ready), httpx.Client(base_url=ready["url"], timeout=30) as client:
        assert ready["release"] == "shop@1"
        assert price(client)["answer"] == 3.0
        project.change("factor: float = 1.0", "factor: float = 2.0", "shop.py")
        assert project.run().release == "shop@2"
        deadline = time.monotonic() + _PATIENCE_S
        seen = []
        while (found := price(client))["release"] == "shop@1":
            seen.append(found["answer"])
            assert time.monotonic() < deadline
        assert set(seen) <= {3.0}
        assert found["answer"] == 6.0
    with serving(project, "shop@1") as (_, ready), httpx.Client(base_url=ready["url"]) as client:
        assert price(client)["release"] == "shop@1"  # named, so it stays


def test_ctrl_c_ends_the_server_cleanly(shop: Project) -> None:
    """It answers, then stops with exit code 0 and nothing listening."""
    with serving(shop) as (process, ready):
        assert [route["path"] for route in ready["routes"]] == ["/shop/price"]
        assert ready["routes"][0]["fields"] == {"item": "tea"}
        with httpx.Client(base_url=ready["url"]) as client:
            assert price(client)["release"] == "shop@1"
        process.send_signal(signal.SIGINT)
        assert process.wait(_PATIENCE_S) == 0
        with pytest.raises(httpx.ConnectError, match="refused"):
            httpx.get(ready["url"] + "/healthz")


def test_without_a_release_the_next_step_is_said(tmp_path: Path) -> None:
    """No release, no server: the message says how to make one."""
    project = Project(tmp_path)
    project.write(SHOP, "shop.py")
    for words in (["serve"], ["serve", "shop"], ["predict", '{"item": "tea"}']):
        done = project.command(*words)
        assert done.returncode == 2
        assert "penstock run" in done.stderr


def test_an_address_for_everyone_is_refused(shop: Project) -> None:
    """Callers are not authenticated, so only this machine is listened to."""
    done = shop.command("serve", "--host", "0.0.0.0")  # noqa: S104 - refused, as the test says
    assert done.returncode == 2
    assert "127.0.0.1" in done.stderr


def test_a_prediction_is_answered_and_stored(shop: Project) -> None:
    """The same answer as over HTTP, found again by its id."""
    said = json.loads(shop.command("predict", "shop", '{"item": "milk"}', "--json").stdout)
    assert (said["answer"], said["release"], said["function"]) == (1.0, "shop@1", "price")
    stored = find_prediction(shop.root / ".penstock", "shop", said["prediction_id"])
    assert (stored.fields, stored.answer, stored.release) == ({"item": "milk"}, 1.0, "shop@1")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["shop", '{"goods": 1}'], 2, '{"item":"tea"}'),
        (["shop", "{"], 2, "not valid JSON"),
        (["shop"], 2, "no request"),
        (["shop@9", "{}"], 2, "no release 'shop@9'"),
        (["nope", "{}"], 2, "has no release"),
        (["shop", "{}", "--function", "cost"], 2, "it has: price"),
        (["shop", '{"item": "broken"}'], 1, "no such thing"),
    ],
)
def test_what_cannot_be_answered_says_why(shop: Project, words: list[str], code: int, said: str) -> None:
    """Wrong fields show right ones; a failing function shows the user's own lines."""
    done = shop.command("predict", *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stdout == ""
