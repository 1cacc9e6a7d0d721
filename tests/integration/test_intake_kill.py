"""Kill an intake at any moment, run two at once: rows come in whole and once, or not at all."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from penstock.core.errors import PenstockError
from penstock.store.lake import IntakeRules, Lake, Table

PROGRAM = """
import sys
from pathlib import Path
import polars as pl
from penstock.core.errors import LeaseLostError
from penstock.store.lake import IntakeRules, Lake

root, goal, offset = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
table = Lake(root).table("p", "d")
print("ready", flush=True)
while True:
    latest = table.latest()
    number = latest.version if latest else 0
    if number >= goal:
        break
    start = number * 50
    frame = pl.DataFrame({"id": range(start - 10 if number else 0, start + 50), "n": number}).with_columns(
        x=pl.when(pl.col("id") % 7 == 0).then(-1).otherwise(pl.col("id"))
    )
    rules = IntakeRules(key=("id",), contract={"x": {"min": 0}}, expected_version=number)
    try:
        table.intake(iter([frame]), rules)
    except LeaseLostError:
        pass
"""


def _start(root: Path, goal: int, fault: str | None = None) -> subprocess.Popen[str]:
    env = {**os.environ, **({"PENSTOCK_FAULT": fault} if fault else {})}
    arguments = [sys.executable, "-c", PROGRAM, str(root), str(goal), "0"]
    return subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, text=True)


def _end(process: subprocess.Popen[str]) -> int:
    with process:
        return process.wait()


def _table(root: Path) -> Table:
    return Lake(root).table("p", "d")


def _result(root: Path) -> tuple[str, int, pl.DataFrame, pl.DataFrame]:
    """Return digest, number, rows and rows set aside."""
    table = _table(root)
    version = table.latest()
    assert version is not None
    return version.digest, version.version, table.scan(version).collect(), table.quarantine().collect()


def _assert_same(found: Path, undisturbed: Path) -> None:
    digest, number, rows, aside = _result(found)
    expected = _result(undisturbed)
    assert (digest, number) == expected[:2]
    assert rows.equals(expected[2])
    assert aside.equals(expected[3])
    table = _table(found)
    table.vacuum(keep=[version.version for version in table.versions()], grace_s=0, dry_run=False)
    assert table.check() == []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    assert _end(_start(root, 4)) == 0
    return root


@pytest.mark.parametrize("visit", [1, 3])
@pytest.mark.parametrize("point", ["intake_mid_write", "intake_before_commit", "intake_after_commit"])
def test_an_intake_killed_at_a_point_is_whole_or_absent(
    point: str, visit: int, undisturbed: Path, tmp_path: Path
) -> None:
    """After the kill the next process goes on, and ends as if nothing had happened."""
    killed = _start(tmp_path, 4, f"{point}:kill:{visit}")
    assert _end(killed) == -signal.SIGKILL
    versions = _table(tmp_path).versions()
    assert len(versions) == (visit if point == "intake_after_commit" else visit - 1)
    assert _end(_start(tmp_path, 4)) == 0
    _assert_same(tmp_path, undisturbed)


@pytest.mark.parametrize("action", ["error", "full"])
@pytest.mark.parametrize("point", ["intake_mid_write", "intake_before_commit"])
def test_an_intake_whose_disk_fails_is_absent(point: str, action: str, undisturbed: Path, tmp_path: Path) -> None:
    """An error of the disk is one clear error, and the next intake goes on."""
    failed = _start(tmp_path, 4, f"{point}:{action}:2")
    assert _end(failed) == 1
    assert len(_table(tmp_path).versions()) == 1
    assert _table(tmp_path).check() == []
    assert _end(_start(tmp_path, 4)) == 0
    _assert_same(tmp_path, undisturbed)


def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    """Killed again and again at any moment, the dataset ends as it does undisturbed."""
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    goal = 60
    assert _end(_start(calm, goal)) == 0
    chance = random.Random(7)
    for _ in range(12):
        process = _start(wild, goal)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(timeout=chance.uniform(0.0, 0.15))
        except subprocess.TimeoutExpired:
            process.kill()
        _end(process)
    assert _end(_start(wild, goal)) == 0
    _assert_same(wild, calm)


def test_two_processes_take_each_intake_in_once(tmp_path: Path) -> None:
    """Writers that race refuse each other's stale intakes; every version is there once."""
    calm, race = tmp_path / "calm", tmp_path / "race"
    assert _end(_start(calm, 15)) == 0
    racing = [_start(race, 15) for _ in range(3)]
    assert [_end(process) for process in racing] == [0, 0, 0]
    _assert_same(race, calm)


def test_a_stopped_writer_that_comes_back_is_refused(tmp_path: Path) -> None:
    """A process that slept while others went on finds its version taken."""
    slow = _start(tmp_path, 1, "intake_mid_write:stop")
    deadline = time.monotonic() + 30
    while Path(f"/proc/{slow.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
    assert _end(_start(tmp_path, 1)) == 0
    before = _result(tmp_path)
    slow.send_signal(signal.SIGCONT)
    assert _end(slow) == 0
    after = _result(tmp_path)
    assert before[:2] == after[:2]
    assert _table(tmp_path).check() == []


def test_a_half_written_commit_is_named(tmp_path: Path) -> None:
    """A damaged log is an error with the file's name, never a guess."""
    assert _end(_start(tmp_path, 2)) == 0
    path = max((tmp_path / "p" / "d" / "_delta_log").glob("*.json"))
    path.write_text(path.read_text()[:40])
    with pytest.raises(PenstockError, match=path.name):
        _table(tmp_path).latest()
    with pytest.raises(PenstockError, match=path.name):
        _table(tmp_path).intake(iter([pl.DataFrame({"id": [1]})]), IntakeRules(expected_version=2))
