"""A ledger in real SQLite and in real PostgreSQL, and a process of its own that holds a lease."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from lease_process import Holder

from penstock.core.process import this_process
from penstock.store.ledger import Ledger, runs
from postgres_server import postgres_server


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    with postgres_server() as running:
        # A server for tests loses nothing of worth in a power failure; with fsync its stop alone takes half a minute.
        running.psql("ALTER SYSTEM SET fsync = off")
        running.psql("SELECT pg_reload_conf()")
        running.psql("CREATE DATABASE ledger")
        yield running


@pytest.fixture
def postgres_url(server: Any) -> str:
    # One database made empty again is far quicker to make and to remove than one for each test.
    server.psql("ALTER DATABASE ledger RESET ALL")
    server.psql("\\connect ledger\nDROP SCHEMA public CASCADE; CREATE SCHEMA public;")
    return str(server.get_uri("ledger"))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger.open(url)
    yield opened
    opened.close()


@pytest.fixture
def new_run() -> runs.NewRun:
    return runs.NewRun(
        pipeline="movies",
        cause="manual",
        owner=this_process(),
        graph_digest="graph",
        code_digest="code",
        environment_digest="environment",
    )


@pytest.fixture
def hold(url: str) -> Iterator[Callable[[float], Holder]]:
    holders: list[Holder] = []

    def start(ttl_s: float) -> Holder:
        holders.append(Holder(url, ttl_s))
        return holders[-1]

    yield start
    for holder in holders:
        holder.end()
