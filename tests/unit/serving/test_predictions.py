"""The prediction log keeps what was acknowledged, whatever becomes of the process or the disk."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from penstock.core import faults
from penstock.core.clock import Clock
from penstock.core.errors import InputError, NotFoundError
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.serving.predictions.reading import find_prediction, read_predictions
from penstock.serving.predictions.records import frame, make_id, predictions_folder

NOW = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PredictionLog]:
    made = PredictionLog(tmp_path, "movies", worker="w0-1", clock=Clock(now=lambda: NOW), segment_bytes=2000)
    yield made
    made.close()


def entry(prediction_id: str, n: int = 0) -> LogEntry:
    return LogEntry(
        id=prediction_id,
        at=NOW,
        release="movies@3",
        serve="recommend",
        fields=msgspec.Raw(f'{{"n":{n}}}'.encode()),
        answer=msgspec.Raw(b"[1,2]"),
        timings={"answer_us": 5},
    )


def fill(log: PredictionLog, count: int) -> list[str]:
    ids = [log.new_id(NOW) for _ in range(count)]
    for n, prediction_id in enumerate(ids):
        assert log.append([entry(prediction_id, n)])
    return ids


def segments(home: Path) -> list[Path]:
    return sorted(predictions_folder(home, "movies").glob("*.log"))


def test_predictions_are_read_back_in_order_across_segments(log: PredictionLog, tmp_path: Path) -> None:
    """Segments rotate by size, and a reader sees every record while the writer is still open."""
    ids = fill(log, 50)
    found = list(read_predictions(tmp_path, "movies"))
    assert sorted(p.id for p in found) == sorted(ids)
    assert len(segments(tmp_path)) > 3
    assert found[0].fields == {"n": 0}
    assert found[0].answer == [1, 2]
    assert found[0].at == NOW


def test_a_prediction_is_found_by_its_id(log: PredictionLog, tmp_path: Path) -> None:
    """An id leads to its record; another one is an error."""
    ids = fill(log, 20)
    assert find_prediction(tmp_path, "movies", ids[7]).fields == {"n": 7}
    with pytest.raises(NotFoundError, match="No prediction"):
        find_prediction(tmp_path, "movies", log.new_id(NOW))
    with pytest.raises(InputError, match="not a prediction id"):
        find_prediction(tmp_path, "movies", "../../etc/passwd")


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    """Text order is time order."""
    ids = [make_id(NOW + timedelta(milliseconds=n), os.urandom(10)) for n in range(500)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 500
    assert {len(i) for i in ids} == {32}


def test_a_torn_tail_is_passed_over(log: PredictionLog, tmp_path: Path) -> None:
    """A record cut at any byte by a crash is not read; those before it are."""
    fill(log, 3)
    path = segments(tmp_path)[0]
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert len(list(read_predictions(tmp_path, "movies"))) == size // (len(whole) // 3)


def test_flipped_bytes_lose_one_record_only(log: PredictionLog, tmp_path: Path) -> None:
    """The record after a damaged one is found again."""
    fill(log, 3)
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert [p.fields for p in read_predictions(tmp_path, "movies")] == [{"n": 0}, {"n": 2}]


def test_bytes_that_look_like_a_frame_head_do_no_harm(tmp_path: Path) -> None:
    """A magic within garbage leads nowhere and the reader goes on."""
    folder = predictions_folder(tmp_path, "movies")
    folder.mkdir(parents=True)
    (folder / "0-w.log").write_bytes(b"PSP1" * 40 + frame(msgspec.json.encode(entry("p1"))) + b"PSP1\xff\xff\xff\xff")
    assert [p.id for p in read_predictions(tmp_path, "movies")] == ["p1"]


def test_a_full_disk_delays_records_but_loses_none(
    log: PredictionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is full an answer is not held up; when space returns the record is written, once, in order."""
    monkeypatch.setattr(faults, "_visits", {})
    monkeypatch.setenv("PENSTOCK_FAULT", "prediction_mid_write:full:2")
    ids = [log.new_id(NOW) for _ in range(4)]
    assert [log.append([entry(i)]) for i in ids] == [True, False, True, True]
    assert [p.id for p in read_predictions(tmp_path, "movies")] == ids


def test_a_disk_that_stays_full_drops_and_counts(tmp_path: Path) -> None:
    """The buffer is bounded; what does not fit is counted, and nothing raises."""
    (tmp_path / "predictions").write_text("a file where the folder should be")
    log = PredictionLog(tmp_path, "movies", worker="w0", clock=Clock(), buffer_bytes=1000)
    for _ in range(20):
        assert not log.append([entry(log.new_id(NOW))])
    kept = 20 - log.dropped
    assert 0 < kept < 10
    log.close()
    assert log.dropped == 20


def test_closing_twice_the_same_folder_keeps_both_writers_apart(tmp_path: Path) -> None:
    """Two workers never write to one segment."""
    logs = [PredictionLog(tmp_path, "movies", worker=f"w{n}", clock=Clock()) for n in range(2)]
    for one in logs:
        one.append([entry(one.new_id(NOW))])
        one.close()
    assert len(segments(tmp_path)) == 2
    assert len(list(read_predictions(tmp_path, "movies"))) == 2


def test_durability_of_requests_syncs_once_per_batch_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `durability="request"` all answers of a batch are on the disk, by one sync, when the caller hears."""
    synced: list[int] = []
    real = os.fdatasync

    def noted(file: int) -> None:
        real(file)
        synced.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fdatasync", noted)
    log = PredictionLog(tmp_path, "movies", worker="w0", clock=Clock(), durability="request")
    for batch in (1, 2):
        assert log.append([entry(log.new_id(NOW)) for _ in range(3)])
        (path,) = segments(tmp_path)
        assert (len(synced), synced[-1]) == (batch, path.stat().st_size)
    log.close()


def test_what_the_disk_refuses_to_sync_is_not_written_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed sync is told to the caller; the entry is there once."""

    def refuse(_: int) -> None:
        raise OSError(5, "no")

    log = PredictionLog(tmp_path, "movies", worker="w0", clock=Clock(), durability="request")
    monkeypatch.setattr(os, "fdatasync", refuse)
    made = log.new_id(NOW)
    assert not log.append([entry(made)])
    monkeypatch.undo()
    assert log.append([entry(log.new_id(NOW))])
    log.close()
    assert [p.id for p in read_predictions(tmp_path, "movies")].count(made) == 1


def test_bytes_of_a_caller_do_not_become_a_prediction(log: PredictionLog, tmp_path: Path) -> None:
    """Rows are stored as they were sent: a frame hidden in them does not count when the one around it breaks."""
    forged = frame(msgspec.json.encode(entry("p" + "0" * 31)))
    rows = msgspec.structs.replace(entry(log.new_id(NOW)), answer=msgspec.Raw(b"[1,2]"), count=2)
    assert log.append([rows], [forged * 3])
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[20] ^= 0xFF
    path.write_bytes(data)
    assert list(read_predictions(tmp_path, "movies")) == []
