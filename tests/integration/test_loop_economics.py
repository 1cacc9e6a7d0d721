"""Retrains are weighed by how the pipeline's own models aged so far; what is skipped says why, with its figures."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from drifting_project import ONLY_ROWS, drifting_loop, write_day
from loop_project import Loop, chain_loop
from penstock.core.clock import Clock
from penstock.core.settings import load_settings
from penstock.monitoring.staleness import Pair
from penstock.project.ageing import evaluation_of, pairs_of
from penstock.project.crew import Crew, kept_crew
from penstock.project.workspace import Workspace, open_store, read_manifest
from penstock.store.ledger import ages, attempts, releases, runs
from penstock.worker.tick import tick
from run_processes import add_day

DAY = timedelta(days=1)


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Run processes that stay, so that days of a test cost their work and no imports."""
    with kept_crew() as kept:
        yield kept


@contextmanager
def opened(loop: Loop, crew: Crew) -> Iterator[Workspace]:
    moment = loop.now
    with open_store(load_settings(loop.project.root), Clock(now=lambda: moment), crew) as workspace:
        yield workspace


def live_days(loop: Loop, crew: Crew, speeds: list[float]) -> list[str]:
    """Let days pass in each of which the level rises; return what became of each day's reason."""
    level, before = 10.0, len(loop.told())
    for day, speed in enumerate(speeds, start=1):
        level += speed
        write_day(loop.project, day, level=level)
        loop.now += DAY
        with opened(loop, crew) as workspace:
            tick(workspace, loop.now)
    return [state for _, state in loop.told()[before:]]


def known_pairs(workspace: Workspace) -> list[Pair]:
    with workspace.ledger.read() as conn:
        live = releases.live(conn, "drifting")
    assert live is not None
    evaluation = evaluation_of(read_manifest(live.manifest_digest, workspace).graph)
    assert evaluation is not None
    return pairs_of(workspace, "drifting", evaluation)


def test_a_world_that_stands_still_is_not_retrained_once_that_is_known(tmp_path: Path, crew: Crew) -> None:
    """N7, A4, E8: retrains are skipped with gain, need and age; a forecast too far ahead is tested by retraining."""
    loop = drifting_loop(tmp_path)
    states = live_days(loop, crew, [0.0] * 7)
    assert states == ["done", "done", "skipped", "skipped", "skipped", "skipped", "done"]
    kept = loop.causes()
    assert kept[0].figures["expected"].startswith("exploring: a forecast needs 3 comparisons")
    assert kept[3].reason.startswith("expected gain 0 % +- ")
    assert kept[3].reason.endswith("at an age of 2.0 days is less than the 1 % that policy asks for")
    assert (kept[3].figures["age_days"], kept[3].figures["needed"], kept[3].figures["pairs"]) == (2.0, 0.01, 3)
    assert kept[6].figures["expected"].startswith("exploring: the model is 5.0 days old")


def test_a_world_that_moves_fast_is_retrained_every_day(tmp_path: Path, crew: Crew) -> None:
    """N7, tM4: the loss of a day is read off the champion and earlier releases, each judged on the same rows."""
    loop = drifting_loop(tmp_path)
    assert live_days(loop, crew, [5.0] * 4) == ["done"] * 4
    with opened(loop, crew) as workspace:
        pairs = known_pairs(workspace)
        with workspace.ledger.read() as conn:
            newest = runs.page(conn, pipeline="drifting", limit=1)[0]
            earlier = ages.earlier(conn, [newest.id])
            used = {a.node: a for a in attempts.of_run(conn, newest.id)}
    assert {round(p.age_s / 86_400) for p in pairs} == {1, 2, 3}
    assert [p.loss for p in pairs if p.age_s > 2.5 * 86_400] > [0.12]
    assert [e.release for e in earlier] == ["drifting@2", "drifting@3"]
    assert used["age:quality"].cpu_s is not None
    assert used["age:quality"].state.value == "succeeded"


def test_a_change_of_code_is_no_age(tmp_path: Path, crew: Crew) -> None:
    """What a better model gains is not counted as what time took from the old one."""
    loop = drifting_loop(tmp_path)
    live_days(loop, crew, [5.0, 5.0])
    with opened(loop, crew) as workspace:
        before = len(known_pairs(workspace))
    loop.project.change("range(300)]", "range(301)]", "drifting.py")
    loop.now += DAY
    assert loop.project.run(clock=loop.clock).release == "drifting@4"
    with opened(loop, crew) as workspace:
        assert len(known_pairs(workspace)) == before


def test_policy_may_say_that_nothing_is_weighed(tmp_path: Path, crew: Crew) -> None:
    """With `weigh = false` each reason gets its run, and no earlier release is judged."""
    loop = drifting_loop(tmp_path, f"{ONLY_ROWS}\neconomics = {{ weigh = false }}")
    assert live_days(loop, crew, [0.0] * 3) == ["done"] * 3
    with opened(loop, crew) as workspace, workspace.ledger.read() as conn:
        assert ages.earlier(conn, [run.id for run in runs.page(conn)]) == []


def test_slots_are_weighed_where_policy_says_so(tmp_path: Path, crew: Crew) -> None:
    """A slot in which nothing is to be gained is skipped with the same sentence."""
    policy = 'schedule = "0 4 * * *"\nretrain_on = []\neconomics = { slots = true }'
    loop = drifting_loop(tmp_path, policy)
    with opened(loop, crew) as workspace:
        tick(workspace, loop.now)
    assert live_days(loop, crew, [0.0] * 3) == ["done", "done", "skipped"]
    assert loop.causes()[-1].reason.startswith("expected gain 0 % +- ")


def test_a_budget_in_money_stops_retrains_before_and_while_they_run(tmp_path: Path) -> None:
    """N7, A4: what policy grants in money is CPU seconds at the price of an hour, and as hard as those."""
    loop = chain_loop(tmp_path, 'cooldown = "0s"\ncost = { cpu_hour = 3600.0 }\nbudget = { money_per_day = 0.001 }')
    add_day(loop.project, 2)
    loop.tick(timedelta(hours=1))
    held = loop.causes()[0].figures["held"]
    assert (loop.told(), held["cpu_s_per_day"]) == ([("new_data:events@2", "waiting")], 0.001)
    assert held["spent_money"] > 0.001
    loop.project.change("money_per_day = 0.001", "money_per_day = 0.01", "penstock.toml")
    loop.project.change('cooldown = "0s"', 'cooldown = "0s"\nintake = "100d"', "penstock.toml")
    loop.project.change("* 2)", "* 3)", "chain.py")
    report = loop.tick(2 * DAY)
    assert [(run.outcome, "policy grants 0.01" in run.said) for run in report.runs] == [("refused", True)]
    assert loop.project.live("chain") == "chain@1"
