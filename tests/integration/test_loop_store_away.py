"""The loop on PostgreSQL: a server that drops its connections, takes none for a while, or refuses to write."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from loop_project import Loop, ask, chain_loop
from postgres_server import postgres_server
from project_folder import COMMAND
from run_processes import all_runs, end, until

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'loop' AND pid <> pg_backend_pid()"


@pytest.fixture
def server() -> Iterator[Any]:
    with postgres_server() as running:
        running.psql("ALTER SYSTEM SET fsync = off")
        running.psql("SELECT pg_reload_conf()")
        running.psql("CREATE DATABASE loop")
        yield running


def _told(log: Path, event: str) -> int:
    return log.read_text(encoding="utf-8").count(f'"event": "{event}"') if log.exists() else 0


def _wish(loop: Loop, key: str) -> None:
    assert ask(loop, "webhook", key)
    until(lambda: dict(loop.told()).get(f"webhook:{key}") == "done")


def test_the_worker_outlasts_a_server_that_is_cut_off_and_one_that_refuses(tmp_path: Path, server: Any) -> None:
    """Faults 13 and 14: no crash loop; it asks less often and goes on; each wish is run once, before and after."""
    loop = chain_loop(tmp_path, 'retrain_on = []\nintake = "4000d"', f'ledger = "{server.get_uri("loop")}"')
    log = tmp_path / "worker.log"
    with log.open("w") as sink:
        worker = subprocess.Popen(
            [*COMMAND, "up", "--every", "200ms"],
            cwd=loop.project.root,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        )
    try:
        _wish(loop, "before")
        server.psql(CUT)
        _wish(loop, "after the cut")
        # Not by a read-only default: a session that has read before asks a primary for READ WRITE, and gets it.
        server.psql("\\connect loop\nALTER TABLE leases RENAME TO leases_away")
        until(lambda: _told(log, "store_away") >= 2)
        assert worker.poll() is None
        server.psql("\\connect loop\nALTER TABLE leases_away RENAME TO leases")
        server.psql("ALTER DATABASE loop ALLOW_CONNECTIONS false")
        server.psql(CUT)
        server.psql("ALTER DATABASE loop ALLOW_CONNECTIONS true")
        _wish(loop, "after the refusal")
    finally:
        worker.terminate()
        code, output = end(worker)
    assert code == 0, output + log.read_text(encoding="utf-8")
    assert [run.cause for run in all_runs(loop.project)] == [
        "manual",
        "webhook:before",
        "webhook:after the cut",
        "webhook:after the refusal",
    ]
