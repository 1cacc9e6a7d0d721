"""A long history is listed from an index, whatever the filter and however deep the page."""

import itertools

import pytest
import sqlalchemy as sa

from penstock.core.states import RunState
from penstock.store.ledger import Ledger, runs, schema

COUNT = 100_000


@pytest.fixture
def full(ledger: Ledger) -> Ledger:
    fill = (
        "INSERT INTO runs (pipeline, state, cause, started_at, params, graph_digest, code_digest, environment_digest, "
        "engine, owner) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
        "SELECT CASE i % 50 WHEN 0 THEN 'movies' ELSE 'books' END, CASE i % 100 WHEN 0 THEN 'running' ELSE 'succeeded' "
        "END, 'schedule', '2026-01-01T00:00:00.000000+00:00', '{{}}', 'g', 'c', 'e', 'local', "
        """'{{"boot":"b","host":"h","pid":1,"start":1}}' FROM n"""
    )
    with ledger.write() as conn:
        conn.exec_driver_sql(fill.format(count=COUNT).replace("%", "%%" if conn.dialect.name == "postgresql" else "%"))
        conn.exec_driver_sql("ANALYZE")
    return ledger


FILTERS = list(itertools.product([None, "movies"], [None, RunState.RUNNING], [None, COUNT // 2]))


def test_hundred_thousand_runs_are_listed_from_an_index(full: Ledger) -> None:
    """The plans of the queries behind every listing sort nothing and scan no table."""
    with full.read() as conn:
        explain = "EXPLAIN QUERY PLAN " if conn.dialect.name == "sqlite" else "EXPLAIN "
        for pipeline, state, before in FILTERS:
            found = [run.id for run in runs.page(conn, pipeline=pipeline, state=state, before=before)]
            query = runs.page_query(pipeline, state, before).limit(50)
            text = str(query.compile(dialect=conn.dialect, compile_kwargs={"literal_binds": True}))
            plan = "\n".join(str(row) for row in conn.execute(sa.text(explain + text)))
            assert len(found) == 50
            assert found == sorted(found, reverse=True)
            assert not any(word in plan for word in ("B-TREE", "Sort", "Seq Scan")), plan


def test_every_listing_has_its_index() -> None:
    """The indexes that the listings stand on are part of the schema."""
    assert {str(index.name) for index in schema.runs.indexes} == {
        "runs_by_pipeline",
        "runs_by_state",
        "runs_by_pipeline_state",
        "runs_by_end",  # what was used in the last day
        "runs_released",  # the newest that made a release
    }
