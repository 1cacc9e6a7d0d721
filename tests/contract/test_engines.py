"""Both engines pass the battery that users run on theirs, and make the same release."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.engine.local import LocalEngine
from penstock.engine.protocol import Engine
from penstock.engine.ray import RayEngine
from penstock.testing.engines import CHECKS, EngineCase
from run_processes import chain_project, live_hash


@pytest.fixture(scope="module")
def local() -> Iterator[Engine]:
    engine = LocalEngine(2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start Ray on this machine; its sockets need a short path."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        options = {"num_cpus": 4, "include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
        ray.init(namespace="penstock", object_store_memory=80 * 2**20, **options)
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def on_ray(cluster: Any) -> Iterator[Engine]:
    engine = RayEngine(2)
    yield engine
    engine.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_local_processes(check: Callable[[EngineCase], None], local: Engine, tmp_path: Path) -> None:
    """Processes on this machine pass the battery."""
    check(EngineCase(local, lambda: LocalEngine(2), tmp_path))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_ray(check: Callable[[EngineCase], None], on_ray: Engine, tmp_path: Path) -> None:
    """Ray passes the battery."""
    check(EngineCase(on_ray, lambda: RayEngine(2), tmp_path))


def test_both_make_the_same_release(cluster: Any, tmp_path: Path) -> None:
    """The hash of a release does not tell where it was made."""
    hashes = []
    for engine in ("local", "ray"):
        root = tmp_path / engine
        root.mkdir()
        project = chain_project(root)
        assert project.run(engine=engine).release == "chain@1"
        hashes.append(live_hash(project))
    assert hashes[0] == hashes[1]
