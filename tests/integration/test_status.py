"""`penstock status`: six questions, each with a word and lines that lead to what is recorded."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.project.status import QUESTIONS
from penstock.store.ledger import alerts, causes, schema
from penstock.store.ledger import windows as kept_windows
from penstock.worker.asking import ask_for_retrain
from penstock.worker.standing import status_of
from penstock.worker.tick import tick
from project_folder import Project
from status_project import (
    BEGIN,
    DAY,
    HOUR,
    POLICY,
    add_visits,
    answer_requests,
    clock_at,
    finding,
    keep_alert,
    keep_windows,
    sight_project,
    window,
)


@pytest.fixture(scope="module")
def sight(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A released project that nothing happened to; tests that change anything make one of their own."""
    return sight_project(tmp_path_factory.mktemp("sight"))


def _own(sight: Project, root: Path) -> Project:
    """Return a copy that a test may change."""
    return sight.copied(root / "own")


def _status(project: Project, at: datetime) -> dict[str, Any]:
    with project.opened(clock_at(at)) as workspace:
        found: dict[str, Any] = msgspec.to_builtins(status_of(workspace, "sight", at))
    return found


def _answer(found: dict[str, Any], name: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the word of an answer, and its lines by what they say."""
    one = next(answer for answer in found["answers"] if answer["name"] == name)
    return one["verdict"], {line["said"]: line for line in one["lines"]}


def _line(lines: dict[str, dict[str, Any]], part: str) -> dict[str, Any]:
    found = [line for said, line in lines.items() if part in said]
    assert len(found) == 1, (part, list(lines))
    return found[0]


def test_a_fresh_release_answers_six_questions(sight: Project) -> None:
    """Q1 to Q6: each has a word; nothing is made up where there is no evidence, and the next step is said."""
    found = _status(sight, BEGIN + HOUR)
    assert [answer["name"] for answer in found["answers"]] == list(QUESTIONS)
    assert {answer["name"]: answer["verdict"] for answer in found["answers"]} == {
        "fresh": "fine",
        "works": "fine",
        "load": "unknown",
        "healthy": "unknown",
        "changed": "fine",
        "pays": "unknown",
    }
    assert (found["verdict"], found["release"], found["by"]) == ("fine", "sight@1", "r1")
    missing = [line["said"] for answer in found["answers"] for line in answer["lines"] if line["verdict"] == "unknown"]
    assert missing
    assert all(said.startswith("not known yet: ") and "; " in said for said in missing)


def test_fresh_says_what_came_what_was_refused_and_when_the_next_retrain_is_due(sight: Project) -> None:
    """Q4, tO4: rows, versions and reasons lead to the run; the slot is told in UTC with the zone it is read in."""
    verdict, lines = _answer(_status(sight, BEGIN + HOUR), "fresh")
    came = _line(lines, "visits@1: 392 rows")
    assert verdict == "fine"
    assert (came["figures"]["came"], came["figures"]["refused"]) == (392, 8)
    assert "8 refused (8 " in came["said"]
    assert came["leads_to"] == "penstock show r1"
    assert "sight@1 was trained 1 h ago on visits@1; nothing came since" in lines
    due = _line(lines, "next retrain")
    assert due["said"].startswith("next retrain: 2026-03-02 03:00 UTC, slot of '0 4 * * *' in Europe/Berlin")
    assert "new_data" in due["said"]


def test_what_waits_says_why_and_until_when(sight: Project, tmp_path: Path) -> None:
    """A2: rows that came in the cool-down wait, told as a worker would decide; a person's wish begins at once."""
    project = _own(sight, tmp_path)
    for number, hours in ((400, 2), (600, 3)):
        add_visits(project, number, 200)
        done = project.command("tick", "--now", (BEGIN + hours * HOUR).isoformat())
        assert done.returncode == 0, done.stderr
    _, lines = _answer(_status(project, BEGIN + 3 * HOUR), "fresh")
    assert "visits@3 waits until 2026-03-01 12:00 UTC: cooling down after the last retrain" in " ".join(lines)
    at = BEGIN + 4 * HOUR
    with project.opened(clock_at(at)) as workspace:
        ask_for_retrain(workspace, "sight", kind="manual", key="k", said="ann asked for it", actor="ann")
    found = _status(project, at)
    _, lines = _answer(found, "fresh")
    assert "the worker's next look begins a retrain for manual:k: ann asked for it" in lines
    _, lines = _answer(found, "changed")
    assert _line(lines, "ann: retrain.asked")


def test_nobody_who_looks_is_told(sight: Project) -> None:
    """tO4: a worker that is not running is found by the age of the newest look."""
    verdict, lines = _answer(_status(sight, BEGIN + 9 * HOUR), "fresh")
    assert verdict == "look"
    assert _line(lines, "nobody has looked for rows for 9 h, and policy says every 1h")["leads_to"] == "penstock up"


def test_an_intake_that_fails_and_one_that_refuses_much_ask_for_a_look(sight: Project, tmp_path: Path) -> None:
    """D3, fault 26: what came in broken is told with its reason and the run that found it."""
    project = _own(sight, tmp_path)
    add_visits(project, 400, 200, broken=100)
    project.command("tick", "--now", (BEGIN + 2 * HOUR).isoformat())
    verdict, lines = _answer(_status(project, BEGIN + 2 * HOUR), "fresh")
    assert verdict == "look"
    assert _line(lines, "100 refused")["verdict"] == "look"
    project.change('pl.read_parquet("visits.parquet")', 'pl.read_parquet("visits.parquet").drop("town")', "sight.py")
    add_visits(project, 700, 200)
    project.command("tick", "--now", (BEGIN + 4 * HOUR).isoformat())
    _, lines = _answer(_status(project, BEGIN + 4 * HOUR), "fresh")
    assert _line(lines, "rows could not be taken in")["leads_to"].startswith("penstock show r")


def test_works_tells_quality_with_intervals_beside_the_baseline_and_in_slices(sight: Project) -> None:
    """Q5, E1, E3: the mean with its interval, the lift over the baseline, the worst declared slices, the checks."""
    verdict, lines = _answer(_status(sight, BEGIN + HOUR), "works")
    assert verdict == "fine"
    mean = _line(lines, "held-out error")
    assert mean["figures"]["low"] <= mean["figures"]["mean"] <= mean["figures"]["high"]
    assert "lower is better" in mean["said"]
    assert _line(lines, "better than the baseline usual")["verdict"] == "fine"
    assert "town=" in _line(lines, "worst declared slices")["said"]
    assert _line(lines, "not known yet: live quality")["said"].endswith("within 7d of an answer")


def test_live_quality_that_fell_asks_for_a_look(sight: Project, tmp_path: Path) -> None:
    """M3, M4: what the quality monitor found last stands beside what held-out rows said."""
    project = _own(sight, tmp_path)
    fine = finding("quality", "stayed 0.91 (0.88 to 0.94) over 300 truths", mean=0.91, low=0.88, high=0.94)
    worse = finding("slice_quality", "stayed is worse in town=Ely: 0.40 (0.31 to 0.49)", is_alarm=True)
    keep_windows(project, BEGIN + 3 * DAY, [window("quality:stayed", 0, 300, fine)])
    _, lines = _answer(_status(project, BEGIN + 3 * DAY), "works")
    assert _line(lines, "stayed 0.91 (0.88 to 0.94)")["verdict"] == "fine"
    keep_windows(project, BEGIN + 3 * DAY, [window("quality:stayed", 1, 300, fine, worse)])
    verdict, lines = _answer(_status(project, BEGIN + 3 * DAY), "works")
    assert verdict == "look"
    assert _line(lines, "worse in town=Ely")["leads_to"] == "penstock alerts sight"


def test_what_was_served_says_load_quality_value_and_cost(sight: Project, tmp_path: Path) -> None:
    """Q10, B4, S5: the monitors' own windows give requests, times beside the promise, outcomes in money, and cost."""
    project = _own(sight, tmp_path)
    answer_requests(project, BEGIN + HOUR, 200, took_ms=4.0)
    add_visits(project, 400, 50, begin=BEGIN + 9 * DAY)
    at = BEGIN + 10 * DAY
    with project.opened(clock_at(at)) as workspace:
        looked = tick(workspace, at)
    assert looked.pipelines[0].problems == ()
    found = _status(project, at + HOUR)
    verdict, lines = _answer(found, "load")
    assert verdict == "fine"
    times = _line(lines, "minutes: p99")
    assert times["figures"]["p99_ms"] == pytest.approx(4.0, rel=0.05)
    assert "promised 50 ms, KEPT" in times["said"]
    assert _line(lines, "requests a second")["figures"]["peak_per_s"] == pytest.approx(200 / 86_400)
    _, lines = _answer(found, "works")
    assert "stayed was 1" in _line(lines, "stayed was")["said"]
    verdict, lines = _answer(found, "pays")
    worth = _line(lines, "stayed of sight@1")
    assert (worth["figures"]["n"], worth["figures"]["mean"], worth["figures"]["value"]) == (200, 1.0, 2.0)
    assert _line(lines, "it pays")["figures"]["value_per_day"] == pytest.approx(400)
    assert verdict == "fine"


def test_a_promise_that_is_broken_asks_for_a_look(sight: Project, tmp_path: Path) -> None:
    """Q6: answers slower than policy promises are told beside the promise."""
    project = _own(sight, tmp_path)
    answer_requests(project, BEGIN + HOUR, 200, took_ms=90.0)
    at = BEGIN + 2 * DAY
    with project.opened(clock_at(at)) as workspace:
        tick(workspace, at)
    verdict, lines = _answer(_status(project, at), "load")
    assert verdict == "look"
    assert "promised 50 ms, NOT KEPT" in _line(lines, "minutes: p99")["said"]


def test_healthy_tells_monitors_alerts_and_the_alarm_budget(sight: Project, tmp_path: Path) -> None:
    """M6: open alerts lead to why; what people said of alerts gives the measured precision beside the budget."""
    project = _own(sight, tmp_path)
    at = BEGIN + 3 * DAY
    quiet = [window("data:visits", day, 100) for day in range(2)]
    keep_windows(project, at, [*quiet, window("inputs:minutes", 1, 100), window("equality:minutes", 1, 100)])
    verdict, lines = _answer(_status(project, at), "healthy")
    assert verdict == "fine"
    assert _line(lines, "3 of 3 monitors quiet")
    assert _line(lines, "not known yet: whether the alarm budget of 1 false drift alarm per 100 windows is kept")
    broken = finding("numeric", "1 % of answers were NaN", is_alarm=True)
    keep_windows(project, at, [window("answers:minutes", 1, 100, broken)])
    first = keep_alert(project, at)
    with project.opened(clock_at(at)) as workspace, workspace.ledger.write() as conn:
        alerts.dispose(conn, alerts.parse_alert(first), "noise", by="ann")
    verdict, lines = _answer(_status(project, at + HOUR), "healthy")
    assert verdict == "look"
    alert = _line(lines, f"{first} drift of data:visits")
    assert alert["leads_to"] == f"penstock why {first}"
    assert "minutes moved by 0.8 sigma" in alert["said"]
    assert _line(lines, "1 % of answers were NaN")["verdict"] == "look"
    assert _line(lines, "3 of 4 monitors quiet")
    assert _line(lines, "judged 0 were real (0%)")


def test_monitors_that_stopped_looking_are_told(sight: Project, tmp_path: Path) -> None:
    """Windows that ended long ago say nothing about today."""
    project = _own(sight, tmp_path)
    keep_windows(project, BEGIN + 2 * DAY, [window("data:visits", 0, 100)])
    verdict, lines = _answer(_status(project, BEGIN + 10 * DAY), "healthy")
    assert verdict == "look"
    assert _line(lines, "no window was looked at since")["leads_to"] == "penstock up"


def test_changed_tells_releases_and_the_way_back(sight: Project, tmp_path: Path) -> None:
    """Q54: what is live since when and by which run, what was before, how to compare and how to go back."""
    project = _own(sight, tmp_path)
    project.change('"slope": 10.0, "mean": 0.0', '"slope": 10.0, "mean": 0.0, "version": 2.0', "sight.py")
    assert project.run(clock=clock_at(BEGIN + DAY)).release == "sight@2"
    verdict, lines = _answer(_status(project, BEGIN + DAY + 2 * HOUR), "changed")
    assert verdict == "fine"
    assert "sight@2 is live since 2 h by r2 (manual)" in lines
    assert _line(lines, "sight@1, made 26 h ago by r1")["leads_to"] == "penstock diff sight@1 sight@2"
    assert _line(lines, "back to sight@1")["leads_to"] == "penstock rollback sight --to sight@1"
    assert project.command("rollback", "sight").returncode == 0
    _, lines = _answer(_status(project, BEGIN + DAY + 2 * HOUR), "changed")
    assert not any(said.startswith("back to") for said in lines)  # what is newer is no way back


def test_a_damaged_release_is_told(sight: Project, tmp_path: Path) -> None:
    """Fault 10: one flipped byte in the live release is a reason to look, not a reason to fail."""
    project = _own(sight, tmp_path)
    with project.opened() as workspace, workspace.ledger.read() as conn:
        from_ledger = workspace.blobs.path(_live_digest(conn))
    data = bytearray(from_ledger.read_bytes())
    data[len(data) // 2] ^= 1
    from_ledger.chmod(0o644)
    from_ledger.write_bytes(bytes(data))
    found = _status(project, BEGIN + HOUR)
    verdict, lines = _answer(found, "changed")
    assert (found["verdict"], verdict) == ("look", "look")
    assert _line(lines, "sight@1 is damaged")["leads_to"] == "penstock doctor"


def test_a_quarantine_is_told(sight: Project, tmp_path: Path) -> None:
    """What keeps failing asks for a look, with the reason."""
    project = _own(sight, tmp_path)
    new = causes.NewCause(
        pipeline="sight", kind=causes.QUARANTINE, key="q", state="running", reason="3 failed in a row"
    )
    with project.opened(clock_at(BEGIN)) as workspace, workspace.ledger.write() as conn:
        causes.put(conn, new)
    verdict, lines = _answer(_status(project, BEGIN + HOUR), "fresh")
    assert verdict == "look"
    assert _line(lines, "in quarantine since 1 h: 3 failed in a row")


def test_without_a_name_each_pipeline_has_a_line(sight: Project) -> None:
    """One word per question and pipeline, within 80 columns; what asks for a look is said below."""
    done = sight.command("status", "--now", (BEGIN + 9 * HOUR).isoformat(), COLUMNS="80")
    heads, line, *rest = done.stdout.splitlines()
    assert heads.split() == ["pipeline", "release", "fresh", "works", "load", "healthy", "changed", "pays"]
    assert line.split() == ["sight", "sight@1", "LOOK", "fine", "unknown", "unknown", "fine", "unknown"]
    assert max(len(heads), len(line)) <= 80
    assert rest[0].startswith("! sight, fresh: nobody has looked for rows for 9 h")


def test_the_page_fits_a_terminal_and_has_no_colours_in_a_pipe(sight: Project) -> None:
    """80 columns, commands never broken over two lines, and what asks for a look stands in the first line."""
    done = sight.command("status", "sight", "--now", (BEGIN + 9 * HOUR).isoformat(), COLUMNS="200")
    lines = done.stdout.splitlines()
    assert lines[0] == "sight  sight@1  LOOK: fresh  (2026-03-01 13:00 UTC)"
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout
    assert all(line == line.rstrip() for line in lines)
    assert "LOOK    1 Is it fresh?" in lines
    assert any(line.endswith("> penstock tick --dry-run") for line in lines)


def test_check_ends_with_3_where_something_asks_for_a_look(sight: Project) -> None:
    """For scripts: 0 while nothing does, also where something is not known; 3 otherwise; without --check always 0."""
    fine, late = (BEGIN + HOUR).isoformat(), (BEGIN + 9 * HOUR).isoformat()
    assert sight.command("status", "sight", "--now", fine, "--check").returncode == 0
    assert sight.command("status", "sight", "--now", late, "--check").returncode == 3
    assert sight.command("status", "--now", late, "--check").returncode == 3
    assert sight.command("status", "--now", late).returncode == 0


def test_a_pipeline_nobody_knows_is_refused_with_a_near_miss(sight: Project) -> None:
    """Exit code 2, and the name that was probably meant."""
    done = sight.command("status", "sigth")
    assert done.returncode == 2
    assert "Nothing is known of a pipeline 'sigth'" in done.stderr
    assert "did you mean 'sight'?" in done.stderr


def test_before_the_first_run_everything_says_how_to_begin(tmp_path: Path) -> None:
    """An empty project is no error: there is nothing, and the next step."""
    project = Project(tmp_path)
    assert project.command("status").stdout.startswith("No pipelines.")
    project.write(POLICY, "penstock.toml")
    found = _status(project, BEGIN)
    assert found["verdict"] == "unknown" or _answer(found, "fresh")[0] != "look"
    assert "> penstock run" in project.command("status", "sight").stdout


def test_asking_changes_nothing(sight: Project) -> None:
    """A status reads: no cause, run, event or window comes of it."""
    before = _rows(sight)
    done = sight.command("status", "sight", "--now", (BEGIN + 5 * DAY).isoformat(), "--json")
    assert json.loads(done.stdout)["pipeline"] == "sight"
    assert _rows(sight) == before


def _rows(project: Project) -> tuple[int, ...]:
    tables = ("runs", "causes", "events", "windows", "alerts", "leases", "attempts")
    with project.opened() as workspace, workspace.ledger.read() as conn:
        counts = (sa.select(sa.func.count()).select_from(schema.metadata.tables[name]) for name in tables)
        return tuple(int(conn.execute(count).scalar_one()) for count in counts)


def _live_digest(conn: Any) -> str:
    return str(conn.exec_driver_sql("SELECT manifest_digest FROM releases").scalar_one())


def test_the_newest_windows_count_however_many_there_are(sight: Project, tmp_path: Path) -> None:
    """A thousand windows of long ago weigh nothing: the newest of each monitor speak."""
    project = _own(sight, tmp_path)
    old = finding("data_drift", "old news", is_alarm=True)
    many = [window(f"data:d{n}", day - 200, 100, old) for n in range(5) for day in range(200)]
    newest = [window(f"data:d{n}", 1, 100) for n in range(5)]
    keep_windows(project, BEGIN + 2 * DAY, [*many, *newest])
    with project.opened() as workspace, workspace.ledger.read() as conn:
        assert sum(mark.windows for mark in kept_windows.marks(conn, "sight").values()) == 1005
    verdict, lines = _answer(_status(project, BEGIN + 2 * DAY), "healthy")
    assert _line(lines, "5 of 5 monitors quiet")
    assert verdict == "fine"


def test_a_tick_that_raises_an_alert_still_writes_one_json_document(sight: Project, tmp_path: Path) -> None:
    """--json: what is told on the way goes to standard error."""
    project = _own(sight, tmp_path)
    project.write('[sight]\nschedule = "0 4 * * *"\nbudget = { cpu_s_per_day = 0 }\n', "penstock.toml")
    for days in (1, 3):
        done = project.command("tick", "--now", (BEGIN + days * DAY).isoformat(), "--json")
    assert "alert_raised" in done.stderr
    assert json.loads(done.stdout)["actions"]
