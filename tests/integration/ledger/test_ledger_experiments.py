"""Experiments in the ledger, on SQLite and PostgreSQL."""

import pytest

from penstock.core.errors import InputError, NotFoundError, StoreError
from penstock.core.states import ExperimentState
from penstock.store.ledger import Ledger, experiments

ARMS = [{"name": "movies@3", "share": 0.5}, {"name": "movies@4", "share": 0.5}]


def test_an_experiment_is_planned_runs_and_decides_once(ledger: Ledger) -> None:
    """Q74: states by the table; the plan stays as it was; who comes second is told; a name is used once."""
    with ledger.write() as conn:
        planned = experiments.add(conn, "movies", "ranking", arms=ARMS, plan={"alpha": 0.05})
        running = experiments.change(conn, planned, ExperimentState.RUNNING)
    with ledger.read() as conn:
        assert experiments.open_of(conn, "movies") == running
        assert experiments.get(conn, "movies", "ranking") == running
    with ledger.write() as conn:
        done = experiments.change(conn, running, ExperimentState.DECIDED, verdict={"winner": "movies@4"})
    assert (done.plan, done.verdict) == ({"alpha": 0.05}, {"winner": "movies@4"})
    assert done.finished_at is not None
    with ledger.write() as conn:
        with pytest.raises(InputError, match="is no longer running"):
            experiments.change(conn, running, ExperimentState.STOPPED)
        with pytest.raises(StoreError, match="cannot go from 'decided' to 'running'"):
            experiments.change(conn, done, ExperimentState.RUNNING)
        with pytest.raises(InputError, match="has an experiment 'ranking' already"):
            experiments.add(conn, "movies", "ranking", arms=ARMS, plan={})
        assert experiments.open_of(conn, "movies") is None
        with pytest.raises(NotFoundError, match="no experiment 'other'") as caught:
            experiments.get(conn, "movies", "other")
    assert caught.value.hint == "it has ranking"


def test_one_experiment_is_open_per_pipeline(ledger: Ledger) -> None:
    """L5: two splits at once would blur each other; another pipeline's does not matter."""
    with ledger.write() as conn:
        first = experiments.add(conn, "movies", "one", arms=ARMS, plan={})
        with pytest.raises(InputError, match="Experiment 'one' of pipeline 'movies' is planned"):
            experiments.add(conn, "movies", "two", arms=ARMS, plan={})
        experiments.add(conn, "songs", "two", arms=ARMS, plan={})
        experiments.change(conn, first, ExperimentState.STOPPED)
        experiments.add(conn, "movies", "two", arms=ARMS, plan={})
        assert [(one.name, one.state.value) for one in experiments.of_pipeline(conn, "movies")] == [
            ("two", "planned"),
            ("one", "stopped"),
        ]
