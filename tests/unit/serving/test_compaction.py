"""Segments become rows of the lake exactly once, whoever dies, reads or writes meanwhile."""

import fcntl
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from penstock.core.clock import Clock
from penstock.core.errors import NotFoundError
from penstock.core.settings import ServePolicy
from penstock.serving.predictions import tables
from penstock.serving.predictions.compaction import Compacted, compact, damaged_folder
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.serving.predictions.reading import find_prediction, predictions_frame, read_predictions
from penstock.serving.predictions.records import predictions_folder
from penstock.serving.predictions.schemas import PREDICTIONS_SCHEMA

NOW = datetime(2024, 5, 1, tzinfo=UTC)
POINTS = (
    "compaction_before_intake",
    "intake_mid_write",
    "intake_before_commit",
    "intake_after_commit",
    "compaction_before_remove",
    "compaction_mid_remove",
)


def open_log(home: Path, worker: str = "w0-1", at: datetime = NOW, **options: object) -> PredictionLog:
    return PredictionLog(home, "movies", worker=worker, clock=Clock(now=lambda: at), **options)  # type: ignore[arg-type]


def entry(prediction_id: str, n: int = 0, at: datetime = NOW, **parts: object) -> LogEntry:
    given = {"fields": msgspec.Raw(f'{{"n":{n}}}'.encode()), "answer": msgspec.Raw(b"[1,2]"), **parts}
    return LogEntry(id=prediction_id, at=at, release="movies@3", serve="recommend", timings={"answer_us": 5}, **given)  # type: ignore[arg-type]


def fill(log: PredictionLog, count: int, at: datetime = NOW) -> list[str]:
    ids = [log.new_id(at) for _ in range(count)]
    for n, prediction_id in enumerate(ids):
        assert log.append([entry(prediction_id, n, at)])
    return ids


def closed(home: Path, count: int, at: datetime = NOW, worker: str = "w0-1") -> list[str]:
    """Write predictions with a worker that ends, and return their ids."""
    log = open_log(home, worker, at=at)
    ids = fill(log, count, at)
    log.close()
    return ids


def stored(home: Path) -> list[str]:
    return sorted(p.id for p in read_predictions(home, "movies"))


def in_lake(home: Path) -> pl.DataFrame:
    table = tables.table_of(home, "movies", tables.PREDICTIONS)
    version = table.latest()
    return pl.DataFrame(schema=PREDICTIONS_SCHEMA) if version is None else table.scan(version).collect()


def segments(home: Path) -> list[Path]:
    return sorted(predictions_folder(home, "movies").glob("*.log"))


def compact_with_fault(home: Path, fault: str, policy: str = "policy = None") -> "subprocess.CompletedProcess[str]":
    words = f"from pathlib import Path; from penstock.serving.predictions.compaction import compact; {policy}"
    return subprocess.run(
        [sys.executable, "-P", "-c", f"{words}; compact(Path({str(home)!r}), 'movies', policy)"],
        env={**os.environ, "PENSTOCK_FAULT": fault},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_finished_segment_becomes_rows_and_goes(tmp_path: Path) -> None:
    """Every answer is a row with its fields and answer as JSON text; the file is not needed any more."""
    ids = closed(tmp_path, 20)
    assert compact(tmp_path, "movies") == Compacted(segments=1, predictions=20)
    assert segments(tmp_path) == []
    rows = in_lake(tmp_path)
    assert sorted(rows["prediction_id"]) == sorted(ids)
    assert rows.row(0, named=True)["answer"] == "[1,2]"
    assert find_prediction(tmp_path, "movies", ids[7]).fields == {"n": 7}
    assert compact(tmp_path, "movies") == Compacted()


def test_a_segment_that_is_written_is_left_alone(tmp_path: Path) -> None:
    """Of a live worker only the finished segments are taken in; all answers are read all the same, once."""
    log = open_log(tmp_path, segment_bytes=2000)
    ids = fill(log, 50)
    done = compact(tmp_path, "movies")
    assert 0 < done.predictions < 50
    assert len(segments(tmp_path)) == 1
    ids += fill(log, 3)
    assert stored(tmp_path) == sorted(ids)
    assert sorted(predictions_frame(tmp_path, "movies").collect()["prediction_id"]) == sorted(ids)
    log.close()


def test_the_last_segment_of_a_killed_worker_is_taken_in(tmp_path: Path) -> None:
    """A worker that was killed needs nobody to close its segment."""
    code = f"""
import os, signal
from pathlib import Path
from tests.unit.serving.test_compaction import fill, open_log
print(fill(open_log(Path({str(tmp_path)!r})), 5), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert compact(tmp_path, "movies").predictions == 5
    assert stored(tmp_path) == sorted(in_lake(tmp_path)["prediction_id"])


@pytest.mark.parametrize("point", POINTS)
def test_a_compaction_killed_anywhere_loses_and_doubles_nothing(tmp_path: Path, point: str) -> None:
    """After a SIGKILL at each point readers see every answer once, and the next compaction finishes the work."""
    ids = [i for n in range(3) for i in closed(tmp_path, 4, worker=f"w{n}-1")]
    done = compact_with_fault(tmp_path, f"{point}:kill")
    assert done.returncode == -9, done.stderr
    assert stored(tmp_path) == sorted(ids)
    later = closed(tmp_path, 2)
    compact(tmp_path, "movies")
    assert segments(tmp_path) == []
    assert sorted(in_lake(tmp_path)["prediction_id"]) == sorted([*ids, *later])


def test_two_compactions_at_once_are_one(tmp_path: Path) -> None:
    """Whoever comes second does nothing and says so."""
    ids = closed(tmp_path, 4)
    with tables.compacting(tmp_path, "movies") as is_mine:
        assert is_mine
        assert compact(tmp_path, "movies") == Compacted(is_busy=True)
    assert compact(tmp_path, "movies").predictions == 4
    assert stored(tmp_path) == sorted(ids)


def test_segments_stay_while_somebody_reads_them(tmp_path: Path) -> None:
    """A reader in the middle of a segment sees each answer once although all are compacted meanwhile."""
    ids = [i for n in range(3) for i in closed(tmp_path, 4, worker=f"w{n}-1")]
    reader = read_predictions(tmp_path, "movies")
    seen = [next(reader).id]
    assert compact(tmp_path, "movies").predictions == 12
    assert len(segments(tmp_path)) == 3
    seen += [found.id for found in reader]
    assert sorted(seen) == sorted(ids)
    compact(tmp_path, "movies")
    assert segments(tmp_path) == []
    assert stored(tmp_path) == sorted(ids)


def test_each_answer_of_a_batch_is_found_by_itself(tmp_path: Path) -> None:
    """Rows that were attached as they were sent become one row per answer, in the log and in the lake alike."""
    log = open_log(tmp_path)
    request = log.new_id(NOW)
    kept = entry(request, fields=msgspec.Raw(b"{}"), answer=msgspec.Raw(b"[0.5,0.25,null]"), count=3, kind="json-rows")
    log.append([kept], [b'[{"x":1,"y":"a"},{"x":2,"y":"b"},{"x":3,"y":null}]'])
    log.close()
    for _ in range(2):
        found = find_prediction(tmp_path, "movies", f"{request}-1")
        assert (found.fields, found.answer) == ({"x": 2, "y": "b"}, 0.25)
        with pytest.raises(NotFoundError, match="was given 3 answers"):
            find_prediction(tmp_path, "movies", request)
        compact(tmp_path, "movies")
    assert sorted(in_lake(tmp_path)["prediction_id"]) == [f"{request}-{i}" for i in range(3)]


def test_damaged_frames_are_counted_and_set_aside(tmp_path: Path) -> None:
    """What cannot be read is kept beside the table, byte for byte; the answers around it are taken in."""
    closed(tmp_path, 4)
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    size = len(data) // 4
    data[size + size // 2] ^= 0xFF
    path.write_bytes(bytes(data[:-5]))
    done = compact(tmp_path, "movies")
    assert (done.predictions, done.damaged, done.torn) == (2, 1, 1)
    aside = sorted(damaged_folder(tmp_path, "movies").iterdir())
    assert [file.read_bytes() for file in aside] == [bytes(data[size : 2 * size]), bytes(data[3 * size : -5])]


def test_rows_that_cannot_be_read_again_keep_their_answers(tmp_path: Path) -> None:
    """Answers are rows all the same; what was sent is set aside as it came, each request by itself."""
    log = open_log(tmp_path)
    many: dict[str, Any] = {
        "fields": msgspec.Raw(b"{}"),
        "answer": msgspec.Raw(b"[1,2]"),
        "count": 2,
        "kind": "of-tomorrow",
    }
    ids = [log.new_id(NOW) for _ in range(2)]
    log.append([entry(one, **many) for one in ids], [b"first", b"second"])
    log.close()
    done = compact(tmp_path, "movies")
    assert (done.predictions, done.damaged) == (4, 2)
    found = find_prediction(tmp_path, "movies", f"{ids[1]}-1")
    assert (found.fields, found.answer) == (None, 2)
    aside = sorted(damaged_folder(tmp_path, "movies").iterdir())
    assert [file.read_bytes().endswith(end) for file, end in zip(aside, (b"first", b"second"), strict=True)] == [
        True
    ] * 2


def test_a_full_disk_leaves_the_segments_where_they_are(tmp_path: Path) -> None:
    """A compaction that cannot write is refused with a reason; the next one takes the same answers in, once."""
    ids = closed(tmp_path, 4)
    done = compact_with_fault(tmp_path, "intake_mid_write:full")
    assert "DiskFullError" in done.stderr
    assert stored(tmp_path) == sorted(ids)
    assert compact(tmp_path, "movies").predictions == 4
    assert stored(tmp_path) == sorted(ids)


def test_old_predictions_go_as_policy_says(tmp_path: Path) -> None:
    """Rows older than `keep` leave the table; younger ones stay, also those that were in one file with old ones."""
    old = closed(tmp_path, 5, at=NOW - timedelta(days=40))
    young = closed(tmp_path, 5, at=NOW - timedelta(days=2))
    clock = Clock(now=lambda: NOW)
    compact(tmp_path, "movies", clock=clock)
    assert stored(tmp_path) == sorted(old + young)
    compact(tmp_path, "movies", ServePolicy(keep="30d"), clock=clock)
    assert stored(tmp_path) == sorted(young)
    with pytest.raises(NotFoundError, match="No prediction"):
        find_prediction(tmp_path, "movies", old[0])
    later = closed(tmp_path, 1)
    compact(tmp_path, "movies", ServePolicy(keep="30d"), clock=clock)
    assert stored(tmp_path) == sorted(young + later)


@pytest.mark.parametrize("point", ["tidy_before_commit", "tidy_after_commit"])
def test_a_retention_killed_anywhere_leaves_the_table_whole(tmp_path: Path, point: str) -> None:
    """After a SIGKILL the old rows are there or not; the young ones are, once."""
    old = closed(tmp_path, 3, at=NOW - timedelta(days=40))
    young = closed(tmp_path, 3, at=datetime.now(UTC))
    compact(tmp_path, "movies")
    words = "from penstock.core.settings import ServePolicy"
    assert compact_with_fault(tmp_path, f"{point}:kill", f"{words}; policy = ServePolicy(keep='10d')").returncode == -9
    assert set(young) <= set(stored(tmp_path)) <= {*old, *young}
    compact(tmp_path, "movies", ServePolicy(keep="10d"))
    assert stored(tmp_path) == sorted(young)


def test_many_small_files_become_one(tmp_path: Path) -> None:
    """A table that grows by a few rows at a time stays quick to read."""
    ids = []
    for n in range(40):
        ids += closed(tmp_path, 1, worker=f"w{n}-1")
        compact(tmp_path, "movies")
    version = tables.table_of(tmp_path, "movies", tables.PREDICTIONS).latest()
    assert version is not None
    assert stored(tmp_path) == sorted(ids)
    assert version.version > 40
    live = tables.table_of(tmp_path, "movies", tables.PREDICTIONS).scan(version).explain()
    assert live.count("parquet") < 32


def test_a_span_of_time_is_read(tmp_path: Path) -> None:
    """`since` is part of the span, `until` is not, whether the answers are compacted or not."""
    for day in range(4):
        closed(tmp_path, 1, at=NOW + timedelta(days=day))
    since, until = NOW + timedelta(days=1), NOW + timedelta(days=3)
    for _ in range(2):
        found = predictions_frame(tmp_path, "movies", since=since, until=until).collect()
        assert sorted(found["at"]) == [NOW + timedelta(days=1), NOW + timedelta(days=2)]
        compact(tmp_path, "movies")


def test_redacted_fields_reach_neither_the_segment_nor_the_lake(tmp_path: Path) -> None:
    """A field that policy redacts is in no file, not even within rows or as the key; that it was there is said."""
    log = open_log(tmp_path, redact=("email",))
    one, many = log.new_id(NOW), log.new_id(NOW)
    log.append([entry(one, fields=msgspec.Raw(b'{"n":1,"email":"secret@x"}'), key="secret@x")])
    rows = b'{"rows":[{"x":1,"email":"secret@y"},{"x":2,"email":null}],"note":"secret@z"}'
    log.append([entry(many, fields=msgspec.Raw(b'{"note":"n"}'), answer=msgspec.Raw(b"[1,2]"), count=2)], [rows])
    log.close()
    assert all(b"secret@" not in path.read_bytes() for path in segments(tmp_path))
    compact(tmp_path, "movies")
    found = find_prediction(tmp_path, "movies", one)
    assert (found.fields, found.redacted, found.key) == ({"n": 1}, ("email",), "")
    found = find_prediction(tmp_path, "movies", f"{many}-0")
    assert (found.fields, found.redacted) == ({"note": "n", "x": 1}, ("email",))


def test_a_new_segment_that_is_not_locked_yet_is_left_alone(tmp_path: Path) -> None:
    """Between its making and its lock a segment is empty; an empty one is never taken for finished."""
    folder = predictions_folder(tmp_path, "movies")
    folder.mkdir(parents=True)
    (folder / "0-w.log").touch()
    compact(tmp_path, "movies")
    assert len(segments(tmp_path)) == 1
    descriptor = os.open(folder / "0-w.log", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
