"""Applications with keys, asked of a real server: who is let in, how often, and what a release may not break."""

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import InputError
from penstock.core.states import RolloutState
from penstock.project.serving import Address, serve_options
from penstock.serving.predictions.reading import predictions_frame
from penstock.serving.processes.background import Server, start
from penstock.serving.protocols.oip import inference_pb2 as pb
from penstock.store.ledger import events, rollouts
from project_folder import Project

_PATIENCE_S = 60.0
FILMS = """
import polars as pl

from penstock import Pipeline, Row

films = Pipeline("films", goal="People find something to watch.")


class Movie(Row):
    movie_id: int
    title: str
    score: float


@films.dataset(key="movie_id")
def titles() -> pl.DataFrame:
    return pl.DataFrame({"movie_id": range(30), "title": [f"Film {i}" for i in range(30)]})


@films.model
def popular(titles: pl.DataFrame) -> pl.DataFrame:
    return titles.with_columns(score=1 / (1 + pl.col("movie_id")))


@films.serve(examples=[{"user_id": 1}])
def recommend(popular: pl.DataFrame, *, user_id: int, k: int = 10) -> list[Movie]:
    found = popular.filter(pl.col("movie_id") != user_id).head(k)
    return [Movie(**row) for row in found.to_dicts()]
"""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("films"))
    project.write(FILMS, "films.py")
    assert project.run().release == "films@1"
    return project


@pytest.fixture
def films(released: Project, tmp_path: Path) -> Project:
    """A released pipeline of each test's own, without consumers."""
    return released.copied(tmp_path / "films")


def registered(project: Project, *words: str) -> str:
    """Register a consumer as a person does, and return its key."""
    done = project.command("consumers", "add", "films", *words, "--json")
    assert done.returncode == 0, done.stderr
    key: str = json.loads(done.stdout)["key"]
    return key


@contextmanager
def served(project: Project, **address: Any) -> Iterator[Server]:
    """Serve the live release, by gRPC too."""
    with project.opened() as workspace:
        options = serve_options("films", workspace, Address(port=0, grpc_port=0, **address))
        with start(options) as server:
            yield server


def ask(server: Server, key: str = "", **headers: str) -> httpx.Response:
    port = server.url.rpartition(":")[2]
    given = headers | ({"authorization": f"Bearer {key}"} if key else {})
    return httpx.post(
        f"http://127.0.0.1:{port}/films/recommend", json={"user_id": 7, "k": 2}, headers=given, timeout=60
    )


def ask_by_grpc(server: Server, key: str) -> grpc.StatusCode:
    """Ask for a model's metadata by gRPC, and return the status."""
    assert server.grpc is not None
    address = f"127.0.0.1:{server.grpc.rpartition(':')[2]}"
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelMetadata")
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        code: grpc.StatusCode = call.future(
            pb.ModelMetadataRequest(name="recommend").SerializeToString(), metadata=metadata, timeout=60
        ).code()
        return code


def test_a_key_names_its_consumer_and_is_revoked_while_the_server_runs(films: Project) -> None:
    """Q58: answers are logged under the key's consumer; added, limited and revoked keys reach running workers."""
    key = registered(films, "website", "--rate", "1000/s", "--p99", "30s", "--fields", "user_id,k")
    with served(films) as server:
        assert ask(server, key, **{"x-penstock-consumer": "somebody"}).status_code == 200
        assert ask(server).status_code == 200
        assert ask(server, "pst_serve_" + "0" * 12 + "_" + "0" * 48).status_code == 401
        slow = registered(films, "slow", "--rate", "1/m", "--burst", "2")
        deadline = time.monotonic() + _PATIENCE_S
        while ask(server, slow).status_code == 401:
            assert time.monotonic() < deadline
        assert ask(server, slow).status_code == 200
        refused = ask(server, slow)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota")
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert ask_by_grpc(server, key) is grpc.StatusCode.OK
        assert films.command("consumers", "revoke", "films", "website").returncode == 0
        while ask(server, key).status_code == 200:
            assert time.monotonic() < deadline
        assert ask_by_grpc(server, key) is grpc.StatusCode.UNAUTHENTICATED
        counted = httpx.get(f"{server.url}/metrics", timeout=60).text
        assert re.search(r'penstock_refused_total\{[^}]*code="429"[^}]*\} 1\b', counted)

    logged = predictions_frame(films.root / ".penstock", "films").collect()["consumer"].to_list()
    assert {"website", "", "slow"} == set(logged)
    told = {one["name"]: one for one in json.loads(films.command("consumers", "films", "--json").stdout)}
    assert (told["website"]["kept"], told["website"]["is_kept"], told["slow"]["requests"]) == (1.0, True, 2)
    assert told["website"]["revoked_at"] is not None
    shown = films.command("consumers", "films").stdout
    assert "p99 within 30000 ms: kept, 100.00% in time" in shown
    with films.opened() as workspace, workspace.ledger.read() as conn:
        done = [event for event in events.page(conn, limit=20) if event.action.startswith("consumer.")]
    assert [event.action for event in done] == ["consumer.revoked", "consumer.added", "consumer.added"]
    secret = key.rpartition("_")[2]
    assert all(secret not in str(event) for event in done)
    assert not [path for path in films.root.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_beyond_this_host_only_callers_with_a_key_are_answered(films: Project) -> None:
    """Q58: another address than loopback is refused, unless policy asks everybody for a key."""
    key = registered(films, "partner")
    with pytest.raises(InputError, match=r"Serving on '0\.0\.0\.0' is refused"), served(films, host="0.0.0.0"):  # noqa: S104 -- that is the test
        pass
    films.write("[films.serve]\nrequire_key = true\n", "penstock.toml")
    with served(films, host="0.0.0.0") as server:  # noqa: S104 -- as above
        refused = ask(server)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "key_required")
        assert ask(server, key, host=socket.gethostname()).status_code == 200
        assert ask_by_grpc(server, "") is grpc.StatusCode.UNAUTHENTICATED
        port = server.url.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=60).status_code == 200
    (films.root / "penstock.toml").unlink()


def test_a_release_that_breaks_a_contract_is_refused_by_name(tmp_path: Path) -> None:
    """Q58: the check names the consumer and the breach, diff shows it, and policy may let it through."""
    project = Project(tmp_path)
    project.write(FILMS, "films.py")
    assert project.run().release == "films@1"
    registered(project, "website", "--function", "recommend", "--fields", "user_id,k")
    registered(project, "app", "--fields", "user_id", "--answer", "title")
    assert project.command("consumers", "add", "films", "web", "--fields", "user").returncode == 2

    project.change("k: int = 10", "count: int = 10", "films.py")
    project.change(".head(k)", ".head(count)", "films.py")
    refused = project.run()
    (check,) = [check for check in refused.checks if check.name == "consumers_kept"]
    assert (refused.release, check.passed) == (None, False)
    assert check.message == "it breaks website: recommend: field k is gone"
    told = project.command("diff")
    assert "Breaks for consumers" in told.stdout
    assert "website: recommend: field k is gone" in told.stdout

    project.write('[films]\nbreaking = "allow"\n', "penstock.toml")
    allowed = project.run()
    assert allowed.release == "films@2"
    assert "let through" in next(check.message for check in allowed.checks if check.name == "consumers_kept")
    project.write("", "penstock.toml")

    project.change("    score: float\n", "", "films.py")
    project.change("Movie(**row)", 'Movie(movie_id=row["movie_id"], title=row["title"])', "films.py")
    broken = [check.message for check in project.run().checks if check.name == "consumers_kept"]
    assert broken == ["it breaks website: recommend: score of the answer is gone"]


def newest_rollout(project: Project) -> rollouts.Rollout:
    with project.opened() as workspace, workspace.ledger.read() as conn:
        return rollouts.page(conn, "films", most=1)[0]


def test_an_application_that_came_after_the_gate_is_not_broken_either(tmp_path: Path) -> None:
    """Q58: who promotes or takes in a release that breaks a newer consumer is told whom; a rollout waits by itself."""
    project = Project(tmp_path / "films")
    project.root.mkdir()
    project.write(FILMS, "films.py")
    rollout = '[films]\nrollout = ["50%", "100%"]\nhold = "1ms"\n'
    project.write(f"{rollout}[films.guards]\nrequests = 1\n", "penstock.toml")
    assert project.run().release == "films@1"
    project.change("k: int = 10", "count: int = 10", "films.py")
    project.change(".head(k)", ".head(count)", "films.py")
    assert project.run().release == "films@2"
    registered(project, "website", "--fields", "user_id,k")
    broken = "films@2 breaks website: recommend: field k is gone."

    refused = project.command("promote", "films")
    assert refused.returncode == 3
    assert broken in refused.stderr
    assert 'breaking = "allow"' in refused.stderr
    with served(project) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        deadline, user = time.monotonic() + _PATIENCE_S, 0
        while (kept := newest_rollout(project)).state is RolloutState.RUNNING:
            assert time.monotonic() < deadline, kept
            user += 1
            assert client.post("/films/recommend", json={"user_id": user}).status_code == 200
    assert (kept.state, kept.stage_name) == (RolloutState.PAUSED, "50%")
    assert kept.reason.startswith(broken)

    assert project.command("export", "films@2", "--to", str(tmp_path / "two.penstock")).returncode == 0
    taken_in = project.command("import", str(tmp_path / "two.penstock"), "--live")
    assert taken_in.returncode == 3
    assert "two.penstock breaks website" in taken_in.stderr
    assert project.live("films") == "films@1"


def test_an_approval_lets_no_breach_through(tmp_path: Path) -> None:
    """Q58: where policy asks for an approval alone, the last one would put it live: it is refused by name."""
    project = Project(tmp_path)
    project.write(FILMS, "films.py")
    project.write('[films]\napprovals = ["product"]\n', "penstock.toml")
    assert project.run().release == "films@1"
    project.change("k: int = 10", "count: int = 10", "films.py")
    project.change(".head(k)", ".head(count)", "films.py")
    assert project.run().release == "films@2"
    registered(project, "website", "--fields", "user_id,k")
    refused = project.command("approve", "films@2", "--as", "product", "--reason", "looks right")
    assert refused.returncode == 3
    assert "films@2 breaks website: recommend: field k is gone." in refused.stderr
    assert project.live("films") == "films@1"
    assert project.command("consumers", "revoke", "films", "website").returncode == 0
    assert project.command("approve", "films@2", "--as", "product", "--reason", "they moved").returncode == 0
    assert project.live("films") == "films@2"
    newer = project.command("rollback", "films", "--to", "films@2")
    assert newer.returncode == 2  # it is live
    assert project.command("rollback", "films").returncode == 0
    newer = project.command("rollback", "films", "--to", "films@2")
    assert newer.returncode == 2
    assert "films@2 is newer than films@1, which is live." in newer.stderr


def test_a_candidate_beside_the_live_release_asks_for_no_second_key(tmp_path: Path) -> None:
    """Q58: who was let in is the same consumer, whichever release answers."""
    project = Project(tmp_path)
    project.write(FILMS, "films.py")
    policy = '[films]\nrollout = ["50%", "100%"]\nhold = "1h"\n[films.serve]\nrequire_key = true\n'
    project.write(policy, "penstock.toml")
    assert project.run().release == "films@1"
    key = registered(project, "website")
    project.change("k: int = 10", "k: int = 9", "films.py")
    assert project.run().release == "films@2"
    with served(project) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        deadline, seen, user = time.monotonic() + _PATIENCE_S, set[str](), 0
        while seen != {"films@1", "films@2"}:  # the worker beside takes its time to come
            assert time.monotonic() < deadline, seen
            user += 1
            reply = client.post("/films/recommend", json={"user_id": user}, headers={"authorization": f"Bearer {key}"})
            assert reply.status_code == 200, reply.text
            seen.add(reply.json()["release"])
        assert client.post("/films/recommend", json={"user_id": user}).status_code == 401
    logged = predictions_frame(tmp_path / ".penstock", "films").collect()
    assert set(logged["release"]) == {"films@1", "films@2"}
    assert set(logged["consumer"]) == {"website"}
