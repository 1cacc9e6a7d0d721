"""A release on Ray Serve: copies on several nodes, a node killed under load, a newer release taken up.

With PENSTOCK_LONG=1 (`make serve-on-ray`) a release that does not load comes before the newer one.
"""

import importlib
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import make_shop
from penstock.serving.predictions.reading import read_predictions
from project_folder import COMMAND, Project
from serving_load import wait_until

PATIENCE_S = 120.0
IS_LONG = os.environ.get("PENSTOCK_LONG") == "1"
KEY = "a-key-that-nobody-guesses-0123456789"
THREADS = 4
BROKEN = 'import sys\n\nimport polars as pl\n\nif "ray" in sys.modules:\n    raise RuntimeError("not on a cluster")'
# A node that is gone is known to be within seconds; one that is only slow is not taken for one.
HEALTH = {"health_check_period_ms": 500, "health_check_failure_threshold": 5, "health_check_timeout_ms": 10_000}
SMALL = {"object_store_memory": 80 * 2**20}


@dataclass
class Asking:
    """Callers without pause, and all that they were told."""

    url: str
    kept: dict[str, str] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._stop.is_set():
                try:
                    told = ask(client, self.url)
                except httpx.HTTPError as error:
                    self.unheard.append(repr(error))
                    continue
                if told.status_code == 200:
                    body = told.json()
                    assert body["answer"] == (3.0 if body["release"] == "shop@1" else 6.0)
                    self.kept[body["prediction_id"]] = body["release"]
                else:
                    self.refused.append(told.status_code)

    def wait_for_more(self, count: int) -> None:
        """Return when so many more are answered."""
        before = len(self.kept)
        wait_until(lambda: len(self.kept) >= before + count, "requests are answered", PATIENCE_S)

    @contextmanager
    def running(self) -> Iterator["Asking"]:
        threads = [threading.Thread(target=self.ask) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


def ask(client: httpx.Client, url: str, item: object = "tea", **headers: str) -> httpx.Response:
    told = {"authorization": f"Bearer {KEY}", **headers}
    return client.post(f"{url}/shop/price", json={"item": item}, headers=told)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_shop(tmp_path_factory.mktemp("shop") / "shop")


@contextmanager
def cluster_of(shop: Project, homes: list[dict[str, str]]) -> Iterator[tuple[Any, list[Any]]]:
    """Start a head without room for a copy and a node for each environment; Ray's sockets need a short path."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs the extra 'ray'")
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": HEALTH, **SMALL}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(wait=False, num_cpus=2, env_vars=home, **SMALL) for home in homes]
        cluster.wait_for_nodes(timeout=PATIENCE_S)
        (shop.root / "penstock.toml").write_text(
            f'[penstock]\nray_address = "{cluster.address}"\n'
            "[shop.serve]\nreplicas = { min = 2, max = 2, target_ongoing = 4 }\n"
        )
        yield cluster, nodes
    finally:
        cluster.shutdown()


@contextmanager
def serving(shop: Project) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run `penstock serve --engine ray` until the block ends; give its URL and its process."""
    command = [*COMMAND, "serve", "shop", "--engine", "ray", "--port", "0", "--json"]
    told = {**os.environ, "PENSTOCK_SERVE_KEYS": KEY}
    with (
        (shop.root / "told.txt").open("w") as stderr,
        subprocess.Popen(command, cwd=shop.root, env=told, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"], process
        finally:
            process.kill()


def running_copies(address: str) -> int:
    """Return how many copies Ray says are running."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Ray's own modules say about others' versions as they are imported
        ray, serve = importlib.import_module("ray"), importlib.import_module("ray.serve")
        if not ray.is_initialized():
            ray.init(address=address, namespace="serve", log_to_driver=False, logging_level="error")
        found = serve.status().applications["shop"].deployments["Replica"].replica_states
    threading.Event().wait(0.2)  # asking without pause would take the cores from those who answer
    return int(found.get("RUNNING", 0))


@pytest.mark.slow
def test_copies_answer_through_the_death_of_a_node(shop: Project, tmp_path: Path) -> None:
    """S2, Q28: of two nodes one is killed: few 5xx, nothing hangs or is lost, copies come back."""
    ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
    answer = json.loads(shop.command("predict", "shop", '{"item": "tea"}').stdout)
    own = tmp_path / "node-home"
    homes = (shop.root / ".penstock", own)
    with cluster_of(shop, [{}, {"PENSTOCK_HOME": str(own)}]) as (cluster, nodes), serving(shop) as (url, process):
        with httpx.Client(timeout=60) as client:
            told = ask(client, url)
            assert (told.json()["answer"], told.json()["release"]) == (answer, "shop@1")
            assert ask(client, url, item=3).status_code == 422
            assert ask(client, url, authorization="Bearer another").status_code == 401
            assert ask(client, url, host="evil.example").status_code == 403
        with Asking(url).running() as asking:
            wait_until(lambda: all(stored(home) for home in homes), "both nodes have answered", PATIENCE_S)
            cluster.remove_node(nodes[1], allow_graceful=False)
            wait_until(lambda: running_copies(cluster.address) < 2, "the death is noticed", PATIENCE_S)
            asking.wait_for_more(20)
            wait_until(lambda: running_copies(cluster.address) == 2, "the copy is replaced", PATIENCE_S)
            failed = len(asking.refused)
            if IS_LONG:
                release_what_does_not_load(shop)
                wait_until(lambda: "release_refused" in told_by(shop), "the broken release is refused", PATIENCE_S)
                asking.wait_for_more(20)
            shop.change("factor: float = 1.0", "factor: float = 2.0", "shop.py")
            newer = shop.run().release
            wait_until(lambda: newer in asking.kept.values(), "the newer release answers", PATIENCE_S)
            asking.wait_for_more(20)
        ray.shutdown()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    assert asking.unheard == []
    assert all(status >= 500 for status in asking.refused)
    # What was under way on the node fails, and what is sent there until its death is known.
    assert failed <= 10 * THREADS
    assert len(asking.refused) == failed, "taking up a newer release fails nothing"
    assert asking.kept.keys() <= stored(homes[0]) | stored(homes[1])
    assert set(asking.kept.values()) == {"shop@1", newer}


def release_what_does_not_load(shop: Project) -> None:
    """Release code that only Ray cannot import, then mend it."""
    shop.change("import polars as pl", BROKEN, "shop.py")
    assert shop.run().release == "shop@2"
    shop.change(BROKEN, "import polars as pl", "shop.py")


def told_by(shop: Project) -> str:
    """Return what the command has said on standard error."""
    return (shop.root / "told.txt").read_text()


def stored(home: Path) -> set[str]:
    """Return the ids of the predictions that a home keeps."""
    return {one.id for one in read_predictions(home, "shop")} if (home / "predictions").exists() else set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "2"], "--workers 2 says nothing on the engine 'ray'"),
        (["--grpc-port", "0"], "--grpc-port is not offered on the engine 'ray'"),
        (["--host", "192.0.2.1"], "Serving on '192.0.2.1' is refused: callers are not authenticated"),
    ],
)
def test_what_ray_does_not_do_is_said(shop: Project, words: list[str], said: str) -> None:
    """Q28: an option that would have no effect there is refused, before a cluster is looked for."""
    done = shop.command("serve", "shop", "--engine", "ray", *words, PENSTOCK_SERVE_KEYS="")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in done.stderr
    assert "Hint:" in done.stderr
