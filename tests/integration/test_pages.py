"""The pages over real HTTP: what they show, who gets in, and what a person may do."""

import json
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages_project import Site, answered, make_shops
from penstock.core.clock import Clock
from penstock.project import people
from penstock.project.questions import ask_release
from penstock.serving.processes.ask import Ask
from penstock.store.ledger import releases
from penstock.store.ledger.people import ROLES
from penstock.web.edge import API, Pages
from penstock.web.routes import ACTIONS, PAGES, Page
from project_folder import Project

# What stands in a path in place of its braces.
KNOWN = {
    "{name}": "shop",
    "{run}": "r1",
    "{release}": "shop@1",
    "{alert}": "a1",
    "{dataset}": "buyers",
    "{answer}": "p018f312b4c00000000000000000000f",
}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7919 * 7907 }}",
    "javascript:alert(1)",
    "\u202eabc",
)


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


def filled(path: str) -> str:
    for name, value in KNOWN.items():
        path = path.replace(name, value)
    return path


def test_the_first_page_answers_six_questions_about_each_pipeline(site: Site, project: Project) -> None:
    """Q5, Q34: a row per pipeline, and one ranked list of what to do; the JSON twin is what `penstock status` says."""
    with site.client("ada", "viewer") as ada:
        page = ada.get("/").raise_for_status().text
        twin = ada.get("/index.json").json()
        assert ada.get(API).json().keys() == twin.keys()
    told = json.loads(project.command("status", "--json").stdout)
    (shop,), (same,) = twin["pipelines"], told
    assert [(a["name"], a["verdict"]) for a in shop["answers"]] == [(a["name"], a["verdict"]) for a in same["answers"]]
    assert shop["release"] == "shop@2"
    for name in ("fresh", "works", "load", "healthy", "changed", "pays"):
        assert f'href="/pipelines/shop#{name}"' in page
    assert "What to do next" in page


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "/pipelines/shop",
            ('class="timeline"', "<title>buyers@1: 60 rows</title>", "r2: succeeded, manual", "shop@2, live"),
        ),
        ("/pipelines/shop", ("Is it fresh?", "Does it pay?", "shop@2", "Roll back", "Ask for a retrain")),
        ("/runs", ("r1", "r2", "succeeded")),
        ("/runs?pipeline=shop&state=succeeded&limit=1", ("r2", "Older runs")),
        ("/runs/r2", ("best", "fit", "<svg", "95 % interval", "best over usual")),
        ("/runs/r1", ('class="graph"', 'href="#node-best"', 'id="node-best"')),
        ("/compare", ("Before, as movies@3 or r41",)),
        ("/compare?before=shop@1&after=shop@2", ("Predictions", "WORD = &#34;two&#34;", "1 of 1 changed")),
        ("/compare?before=shop@2&after=r2", ("Nothing differs.",)),
        ("/data", ("buyers", "60")),
        ("/data/shop/buyers", ("buyers@1", "bought", "Int64")),
        ("/releases", ("shop@1", "shop@2", "live")),
        ("/releases/shop@1", ("People find &lt;what&gt; they need.", "buyers@1", "Promote shop@1")),
        ("/alerts", ("Nothing is wrong that a monitor knows of.",)),
        ("/audit", ("release.created",)),
        ("/people", ("ada", "admin of all pipelines")),
    ],
)
def test_each_page_says_what_is_recorded(site: Site, path: str, words: tuple[str, ...]) -> None:
    """U1, G3: what the ledger holds, escaped, with links; and the same as JSON."""
    with site.client("ada", "admin") as ada:
        page = ada.get(path).raise_for_status()
        where, _, query = path.partition("?")
        twin = ada.get(f"{where}.json?{query}").raise_for_status()
    for word in words:
        assert word in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert twin.headers["content-type"] == "application/json"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert twin.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?! src=)| on[a-z]+=|style=", page.text)


def test_runs_are_paged_by_key(site: Site) -> None:
    """C4: the next page goes on after the last run, whatever came meanwhile."""
    with site.client("ada", "viewer") as ada:
        first = ada.get("/runs.json?limit=1").json()
        rest = ada.get(f"/runs.json?limit=5&before={first['before']}").json()
        assert [one["run"] for one in first["runs"]] == ["r2"]
        assert [one["run"] for one in rest["runs"]] == ["r1"]
        assert rest["before"] is None
        for wrong in (
            "limit=0",
            "limit=a",
            "state=odd",
            "before=shop@1",
            "limit=201",
            "limit=0000000000009",
            "limit=" + "9" * 5000,
        ):
            assert ada.get(f"/runs.json?{wrong}").status_code == 422, wrong


@pytest.mark.parametrize("role", [None, "wrong", "expired", "elsewhere", *ROLES])
def test_every_route_asks_for_its_role(site: Site, role: str | None) -> None:
    """G1, G2: each line of the table of routes, as each kind of caller; nobody gets beyond what the line says."""
    token = {"wrong": f"pst_api_{'0' * 12}_{'0' * 48}", None: ""}.get(role, "")
    rank = -1
    if role == "expired":
        people.add_person(site.workspace, "ada", "admin", by="test")
        token = people.make_api_token(site.workspace, "ada", lasts=timedelta(microseconds=1)).token
    elif role == "elsewhere":
        people.add_person(site.workspace, "ada", "admin", pipeline="other", by="test")
        token = people.make_api_token(site.workspace, "ada", lasts=timedelta(hours=1)).token
    elif role in ROLES:
        rank = ROLES.index(role)
        people.add_person(site.workspace, "ada", ROLES[rank], by="test")
        token = people.make_api_token(site.workspace, "ada", lasts=timedelta(hours=1)).token
    headers = {"authorization": f"Bearer {token}"} if token else {"accept": "application/json"}
    with httpx.Client(base_url=site.url, headers=headers, timeout=60) as client:
        for page in PAGES:
            status = client.get(API + filled(page.path).rstrip("/")).status_code
            assert page.role is not None
            if rank >= ROLES.index(page.role):
                assert status in {200, 404}, (page.path, status)  # there is no alert a1
            elif role == "elsewhere":
                # Lists hold what one may see: nothing.
                assert status in (
                    {200} if page.path in {"/", "/runs", "/releases", "/alerts", "/data", "/compare"} else {403, 404}
                )
            else:
                assert status == (403 if rank >= 0 else 401), (page.path, status)
        for action in ACTIONS:
            assert action.role is not None
            answer = client.post(API + filled(action.path), json={})
            if rank >= ROLES.index(action.role):
                assert answer.status_code not in {401, 403}, (action.path, answer.text)
            else:
                assert answer.status_code in ({401} if rank < 0 and role != "elsewhere" else {403, 404}), action.path


def test_lists_hold_only_what_one_may_see(site: Site) -> None:
    """G2: a role for another pipeline shows nothing of this one, not even that it is there."""
    with site.client("eve", "admin", "other") as eve:
        assert eve.get("/index.json").json() == {"pipelines": [], "to_do": []}
        assert eve.get("/runs.json").json()["runs"] == []
        assert eve.get("/releases.json").json() == []
        assert eve.get("/data.json").json() == []
        secret = ("/compare.json?before=shop@1&after=shop@2", "/compare.json?before=r1&after=r2")
        assert [eve.get(path).status_code for path in secret] == [404, 404]
        assert "shop@" not in eve.get("/compare").text
        for path in ("/pipelines/shop", "/runs/r1", "/releases/shop@1", "/audit", "/people", "/data/shop/buyers"):
            there, absent = eve.get(f"{path}.json"), eve.get("/pipelines/none.json")
            assert there.status_code == 404, path
            assert there.json() == absent.json(), path
        there, absent = eve.post(f"{API}/pipelines/shop/pause", json={}), eve.post(f"{API}/alerts/a9/dispose", json={})
        assert (there.status_code, there.json()) == (absent.status_code, absent.json()) == (404, absent.json())


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_other_sites_are_refused_on_all_methods(site: Site, method: str) -> None:
    """A page of another site that resolves to this host, or posts here, gets nothing, whatever cookie is sent."""
    cookies = {site.cookie: site.session("ada", "admin")}
    # To a browser another port of this host is the same site: it would send the cookie along.
    others = ("http://evil.example", "null", "http://127.0.0.1:8888", "http://localhost")
    for headers in ({"host": "evil.example"}, *({"origin": other} for other in others)):
        for path in ("/", "/pipelines/shop/rollback", "/sign-in", "/index.json", "/runs/", "/sign-in/"):
            with httpx.Client(base_url=site.url, cookies=cookies, headers=headers) as client:
                assert client.request(method, path).status_code in {403, 404, 405}, (path, headers)
    with httpx.Client(base_url=site.url, cookies=cookies) as client:  # no browser posts without an Origin
        assert client.post("/pipelines/shop/rollback").status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:abc", "127.0.0.1:99999999", "[::1", "localhost:", "127.0.0.1:8700:8700"])
def test_a_host_that_is_none_is_no_failure_of_ours(site: Site, host: str) -> None:
    """Whatever stands there, it is refused, or nobody is signed in."""
    for path in ("/", "/index.json", "/sign-in"):
        answer = httpx.get(site.url + path, headers={"host": host, "cookie": f"{site.cookie}=x"}, timeout=60)
        assert answer.status_code < 500, (path, answer.text)


def test_an_answer_is_found_and_explained(site: Site, project: Project) -> None:
    """Q54, U3: by key, with the release, the model and what became of it; who may only look sees no one's questions."""
    with site.workspace.ledger.read() as conn:
        live = releases.live(conn, "shop")
    assert live is not None
    (given,) = ask_release(live, [Ask(function="show", body=b'{"person": 7}')], site.workspace)
    assert given.error is None
    with site.client("eve", "editor", "shop") as eve:
        found = eve.get("/pipelines/shop/answers?key=7").text
        (place,) = set(re.findall(r'href="(/pipelines/shop/answers/p[0-9a-f]+)"', found))
        assert "No answer is like that." in eve.get("/pipelines/shop/answers?key=8").text
        page = eve.get(place).text
        assert "made by <a href" in page
        assert eve.get(f"{place}.json").json()["prediction"]["answer"] == "two"
    with site.client("vera", "viewer", "shop") as vera:
        assert vera.get("/pipelines/shop/answers.json").json()["predictions"] is None
        assert vera.get(f"{place}.json").status_code == 403


def test_an_address_signs_in_once(site: Site) -> None:
    """G1: it works once and for ten minutes; what it gives ends when one signs out, or is removed."""
    made = people.add_person(site.workspace, "ada", "viewer", by="test")
    people.add_person(site.workspace, "root", "admin", by="test")
    with httpx.Client(base_url=site.url, headers={"origin": site.url}, timeout=60) as ada:
        assert ada.get("/").headers["location"] == "/sign-in"
        assert made.token in ada.get("/sign-in", params={"token": made.token}).text
        signed_in = ada.post("/sign-in", data={"token": made.token})
        assert signed_in.status_code == 303
        cookie = signed_in.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict"))
        assert ada.get("/").status_code == 200
        assert ada.post("/sign-in", data={"token": made.token}).status_code == 401
        kept = ada.cookies[site.cookie]
        assert ada.post("/sign-out").status_code == 303
        ada.cookies.set(site.cookie, kept)
        assert ada.get("/index.json").status_code == 401
    with site.client("ada", "viewer") as ada:
        assert ada.get("/index.json").status_code == 200
        people.remove_person(site.workspace, "ada")
        assert ada.get("/index.json").status_code == 401


def test_what_signs_in_is_too_old_after_ten_minutes(project: Project) -> None:
    """G1: found later, in a history or a log, it opens nothing."""
    with project.opened() as workspace:
        made = people.add_person(workspace, "ada", "viewer", by="test")
        now = workspace.clock.now()
    with project.opened(Clock(now=lambda: now + timedelta(minutes=11))) as later:
        assert people.sign_in(later, made.token) is None


def test_a_token_may_less_than_its_person(site: Site) -> None:
    """G1: a program that only reads cannot roll back, whoever it belongs to."""
    people.add_person(site.workspace, "ada", "admin", by="test")
    token = people.make_api_token(site.workspace, "ada", lasts=timedelta(hours=1), role="viewer").token
    with httpx.Client(base_url=site.url, headers={"authorization": f"Bearer {token}"}, timeout=60) as program:
        assert program.get(f"{API}/runs").status_code == 200
        answer = program.post(f"{API}/pipelines/shop/rollback", json={})
    assert answer.status_code == 403
    assert answer.json()["error"] == {
        "code": "not_allowed",
        "message": "This takes the role releaser.",
        "hint": "ask an admin",
    }


def test_tokens_are_kept_as_hashes(site: Site, project: Project) -> None:
    """A canary: no secret of a token stands anywhere in the store."""
    people.add_person(site.workspace, "ada", "admin", by="test")
    tokens = [
        people.make_api_token(site.workspace, "ada", lasts=timedelta(hours=1)).token,
        site.session("bob", "viewer"),
    ]
    secrets = [token.rpartition("_")[2].encode() for token in tokens]
    for file in (path for path in project.root.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert not any(secret in content for secret in secrets), file


@pytest.mark.parametrize("text", HOSTILE)
def test_what_people_write_stays_text(site: Site, text: str) -> None:
    """Markup, templates and scripts in a reason, an address or a name are shown as they are, or refused."""
    with site.client("rita", "admin") as rita:
        assert rita.post("/pipelines/shop/rollback", data={"reason": text}).status_code == 303
        for path in ("/audit", "/pipelines/shop", "/"):
            page = rita.get(path).text
            assert "<script>alert" not in page
            assert "<img" not in page
            assert "62615533" not in page
        for path in (
            f"/runs?pipeline={text}",
            f"/pipelines/{text}",
            f"/runs/{text}",
            f"/releases/{text}",
            f"/alerts/{text}",
        ):
            answer = rita.get(path)
            assert answer.status_code in {404, 422}, path
            assert "<script>alert" not in answer.text
            assert "<img" not in answer.text
        assert rita.post("/people/add", data={"person": text, "role": "viewer"}).status_code == 422


def test_bodies_are_bounded_and_strict(site: Site) -> None:
    """Too much, twice, of another kind or with an unknown field: refused in one shape, and nothing is done."""
    with site.client("rita", "releaser") as rita:
        path = f"{API}/pipelines/shop/rollback"
        for content, kind, status in (
            (b"x" * 70_000, "application/json", 413),
            (b'{"reason": 1}', "application/json", 422),
            (b"[" * 5000, "application/json", 422),
            (b"reason=a&reason=b", "application/x-www-form-urlencoded", 415),
            (b"reason=a", "text/plain", 415),
            (b'{"odd": "x"}', "application/json", 422),
            (b'{"reason": "x", "reason": "y"}', "application/json", 422),
            (b'{"to": "other@1"}', "application/json", 422),
            (b"\xff\xfe", "application/x-www-form-urlencoded", 422),
        ):
            answer = rita.post(path, content=content, headers={"content-type": kind})
            assert answer.status_code == status, (content[:20], answer.text)
            assert set(answer.json()["error"]) == {"code", "message", "hint"}
        assert rita.get("/index.json").json()["pipelines"][0]["release"] == "shop@2"


def test_what_is_wrong_with_the_store_names_no_place(site: Site) -> None:
    """A canary: what a database says of itself, its address and its password, reaches no page."""
    with site.client("ada", "viewer") as ada:
        with site.workspace.ledger.write() as conn:
            conn.exec_driver_sql("ALTER TABLE runs RENAME TO gone")
        answer = ada.get("/runs.json")
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "The store cannot be used now."
        assert "ledger.db" not in answer.text
        assert ada.get("/data/%00/x.json").status_code == 422


def test_a_route_that_does_not_say_who_may_use_it_starts_nothing(site: Site) -> None:
    """Deny by default: forgetting the role is an error at the start, not an open door."""
    forgotten = Page(path="/forgotten", show=PAGES[0].show, role=None)
    with pytest.raises(ValueError, match="/forgotten does not say who may use it"):
        Pages(lambda: site.workspace, frozenset({"127.0.0.1"}), pages=(*PAGES, forgotten)).app()
