"""A batch over real files, datasets and worker processes: right, in order, once, whatever is killed meanwhile."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import DataError, InputError, NotFoundError, StepError
from penstock.core.refs import ReleaseRef
from penstock.releases.manifest import decode_manifest, manifest_hash
from penstock.serving.offline.batch import BatchOptions, Progress, run_batch
from penstock.serving.offline.job import Finished, Folder
from penstock.serving.offline.pieces import Cut
from penstock.serving.offline.scoring import Asking
from penstock.store.blobs import Blobs
from penstock.store.lake import IntakeRules, Lake
from run_processes import until
from serving_release import make_node, make_release

CODE = """
import os
import signal
from pathlib import Path

import numpy as np
import polars as pl

from penstock.core.rows import Row


class Movie(Row):
    movie_id: int
    score: float


def recommend(*, user_id: int, k: int = 2) -> list[Movie]:
    return [Movie(movie_id=i, score=user_id + i / 10) for i in range(k)]


def price(*, item: str, factor: float = 1.0) -> float:
    if item == "broken":
        raise ValueError("no such thing")
    return len(item) * factor


def guarded(*, item: str) -> int | str:
    if item == "broken":
        raise ValueError("no such thing")
    return len(item)


def backup(*, item: str) -> int | str:
    return "popular"


def score(*, rows: pl.DataFrame) -> pl.DataFrame:
    if rows["x"].max() is not None and rows["x"].max() > 1e6:
        raise ValueError("too large")
    return rows.select(twice=pl.col("x") * 2, name=pl.col("name"))


def fatal(*, n: int) -> int:
    if n == 7 and Path("KILL_FILE").exists():
        Path("KILL_FILE").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if n == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return n
"""
NODES = (
    make_node("recommend", "serve", {"user_id": "int", "k": "int"}),
    make_node("price", "serve", {"item": "str", "factor": "float"}),
    make_node("guarded", "serve", {"item": "str"}),
    make_node("backup", "fallback", {"item": "str"}, deadline_ms=100, serves=["guarded"]),
    make_node("score", "serve", {"rows": "polars.DataFrame"}),
    make_node("fatal", "serve", {"n": "int"}),
)


class Shop:
    """A store with one release, and batches over it."""

    def __init__(self, root: Path, version: int = 1) -> None:
        self.root = root
        self.home = root / "home"
        code = CODE.replace("KILL_FILE", str(root / "kill")) + f"\n# version {version}\n"
        self.manifest = make_release(self.home, version, code, nodes=NODES).manifest
        self.release = str(ReleaseRef("movies", version))

    def options(self, function: str, source: str, **changes: Any) -> BatchOptions:
        asking = Asking(
            function=function,
            keep=changes.pop("keep", None),
            keys=changes.pop("keys", ()),
            constants=changes.pop("constants", {}),
            batch_rows=changes.pop("batch_rows", 64),
        )
        hash_ = manifest_hash(decode_manifest(Blobs(self.home / "blobs").read(self.manifest)))
        known = {"out": self.root / "out", "workers": 1, "cores": 2, "cut": Cut(rows=100, size_bytes=600), **changes}
        return BatchOptions(
            home=self.home,
            folder=self.root,
            pipeline="movies",
            release=self.release,
            hash=hash_,
            manifest=self.manifest,
            asking=asking,
            input=source,
            **known,
        )

    def batch(self, function: str, source: str, **changes: Any) -> Finished:
        return run_batch(self.options(function, source, **changes))

    def answers(self) -> pl.DataFrame:
        return pl.read_parquet(self.root / "out" / "*.parquet")

    def parts(self) -> list[str]:
        return sorted(path.name for path in (self.root / "out").iterdir() if path.is_file())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def items(count: int) -> pl.DataFrame:
    return pl.DataFrame({"item": ["x" * (n % 7) + f'é,"{n}"\n' for n in range(count)], "n": range(count)})


def write(frame: pl.DataFrame, path: Path) -> None:
    match path.suffix:
        case ".parquet":
            frame.write_parquet(path, row_group_size=70)
        case ".csv":
            frame.write_csv(path)
        case _:
            frame.write_ndjson(path)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_every_row_is_answered_once_and_in_order(shop: Shop, kind: str) -> None:
    """S1: whatever the form of the file, row by row the answer that the function gives, beside what was asked."""
    rows = items(1000)
    write(rows, shop.root / f"in.{kind}")
    found = shop.batch("price", f"in.{kind}")
    answers = shop.answers()
    assert answers.columns == ["item", "answer", "fallback", "error"]
    assert answers["item"].to_list() == rows["item"].to_list()
    assert answers["answer"].to_list() == [float(len(item)) for item in rows["item"]]
    assert found.parts > 5
    assert (found.counts.rows, found.counts.refused, found.counts.failed) == (1000, 0, 0)
    assert len(shop.parts()) == found.parts


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_results_come_in_the_form_that_was_asked_for(shop: Shop, form: str) -> None:
    """Columns are the same in every part, nested answers are JSON, and nothing but results lies there."""
    pl.DataFrame({"user_id": range(250)}).write_parquet(shop.root / "in.parquet")
    shop.batch("recommend", "in.parquet", form=form, constants={"k": 1})
    assert {name.partition(".")[2] for name in shop.parts()} == {form}
    match form:
        case "parquet":
            found = [json.loads(text) for text in shop.answers()["answer"]]
        case "csv":
            found = [json.loads(text) for text in pl.read_csv(shop.root / "out" / "*.csv")["answer"]]
        case _:
            lines = b"".join(path.read_bytes() for path in sorted((shop.root / "out").glob("*.jsonl"))).splitlines()
            found = [json.loads(line)["answer"] for line in lines]
    assert found == [[{"movie_id": 0, "score": float(user)}] for user in range(250)]


def test_a_directory_and_a_pattern_are_read_file_by_file(shop: Shop) -> None:
    """Files are taken in the order of their names; bookkeeping and half-written files are passed over."""
    folder = shop.root / "days"
    folder.mkdir()
    for day in (2, 1, 3):
        pl.DataFrame({"item": [f"day {day}"]}).write_parquet(folder / f"{day}.parquet")
    (folder / "_job").mkdir()
    pl.DataFrame({"item": ["hidden"]}).write_parquet(folder / "_job" / "x.parquet")
    (folder / "4.parquet.tmp").write_bytes(b"half")
    shop.batch("price", "days")
    assert shop.answers()["item"].to_list() == ["day 1", "day 2", "day 3"]
    shop.batch("price", "days/[13].parquet", out=shop.root / "out2")
    assert pl.read_parquet(shop.root / "out2" / "*.parquet")["item"].to_list() == ["day 1", "day 3"]


def test_a_dataset_version_is_read_as_a_run_reads_it(shop: Shop) -> None:
    """The newest row per key, in order, of the version that is named; keys are kept beside the answers."""
    table = Lake(shop.home / "lake").table("movies", "visits")
    rules = IntakeRules(key=("user_id",))
    first = pl.DataFrame({"user_id": range(300), "x": [float(n) for n in range(300)], "name": ["a"] * 300})
    table.intake(iter([first]), rules)
    again = pl.DataFrame({"user_id": [5, 300], "x": [0.5, 1.5], "name": ["b", "b"]})
    table.intake(iter([again]), IntakeRules(key=("user_id",), expected_version=1))
    shop.batch("score", "visits@1", keys=("user_id",))
    assert shop.answers()["twice"].to_list() == [2.0 * n for n in range(300)]
    shop.batch("score", "visits", keys=("user_id",), out=shop.root / "newest")
    newest = pl.read_parquet(shop.root / "newest" / "*.parquet")
    assert newest["user_id"].to_list() == [n for n in range(300) if n != 5] + [5, 300]
    assert newest.filter(pl.col("user_id") == 5)["twice"].to_list() == [1.0]


def test_rows_that_do_not_fit_are_written_with_their_reason(shop: Shop) -> None:
    """A refused or failing row takes no other with it, in a function of fields as in one of rows."""
    lines = ['{"item": "tea"}', "not json", '{"item": 7}', "[1]", '{"item": "broken"}', '{"item": "milk"}']
    (shop.root / "in.jsonl").write_text("\n".join(lines))
    found = shop.batch("price", "in.jsonl")
    answers = shop.answers()
    assert answers["answer"].to_list() == [3.0, None, None, None, None, 4.0]
    assert [bool(error) for error in answers["error"]] == [False, True, True, True, True, False]
    assert "Expected `str`, got `int`" in answers["error"][2]
    assert answers["error"][4] == "ValueError"
    assert (found.counts.refused, found.counts.failed) == (3, 1)
    assert "no such thing" in found.failure

    rows = pl.DataFrame({"x": [1.0, 2e6, 3.0, 4.0], "name": ["a", "b", "c", "d"]})
    rows.write_parquet(shop.root / "rows.parquet")
    shop.batch("score", "rows.parquet", out=shop.root / "rows")
    by_row = pl.read_parquet(shop.root / "rows" / "*.parquet")
    assert by_row["twice"].to_list() == [2.0, None, 6.0, 8.0]
    assert by_row["error"].to_list() == [None, "ValueError", None, None]


def test_the_fallback_answers_where_the_function_fails(shop: Shop) -> None:
    """Such a row is marked; answers of different types are kept without loss, as JSON."""
    pl.DataFrame({"item": ["tea"] * 150 + ["broken", "milk"]}).write_csv(shop.root / "in.csv")
    found = shop.batch("guarded", "in.csv")
    answers = shop.answers()
    assert (found.counts.fallback, found.counts.failed) == (1, 0)
    assert answers["fallback"].sum() == 1
    assert [json.loads(text) for text in answers["answer"]] == [3] * 150 + ["popular", 4]


def test_kept_columns_are_those_that_are_named(shop: Shop) -> None:
    """`keep` chooses columns of the input; one that is missing is an error before anything is written."""
    items(10).write_parquet(shop.root / "in.parquet")
    shop.batch("price", "in.parquet", keep=("n",))
    assert shop.answers().columns == ["n", "answer", "fallback", "error"]
    with pytest.raises(DataError, match="no column 'nn' to keep"):
        shop.batch("price", "in.parquet", keep=("nn",), out=shop.root / "other")
    with pytest.raises(InputError, match="has no field 'facto'"):
        shop.batch("price", "in.parquet", constants={"facto": 2}, out=shop.root / "third")


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from test_batch import Cut, Shop
shop = Shop(Path(sys.argv[1]))
shop.batch("price", "in.parquet", workers=2, form=sys.argv[2], cut=Cut(rows=int(sys.argv[3])))
"""


def run_in_process(shop: Shop, form: str, rows: int = 100, **environment: str) -> "subprocess.Popen[bytes]":
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    command = [sys.executable, "-c", SCRIPT, str(shop.root), form, str(rows), *folders]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    ("form", "fault"),
    [("parquet", "batch_before_part:kill:3"), ("csv", "batch_after_part:kill:4"), ("csv", "batch_before_done:kill")],
)
def test_a_killed_batch_goes_on_with_what_is_missing(shop: Shop, form: str, fault: str) -> None:
    """SIGKILL at its worst moments: parts that are there stay untouched, and each row is there once in the end."""
    items(1000).write_parquet(shop.root / "in.parquet")
    with run_in_process(shop, form, PENSTOCK_FAULT=fault) as process:
        assert process.wait(60) == -signal.SIGKILL
    kept = {p: p.stat().st_mtime_ns for p in (shop.root / "out").rglob("part-*") if p.suffix != ".tmp"}
    assert kept
    with run_in_process(shop, form) as process:
        assert process.wait(60) == 0, process.stderr.read().decode() if process.stderr else ""
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items() if path.exists())
    found = pl.read_csv(shop.root / "out" / "*.csv") if form == "csv" else shop.answers()
    assert found["item"].to_list() == items(1000)["item"].to_list()


@pytest.mark.slow
def test_random_kills_lose_and_double_nothing(shop: Shop) -> None:
    """SIGKILL of the parent at random moments, again and again; at last one gets through."""
    items(2000).write_parquet(shop.root / "in.parquet")
    dice = random.Random(7)
    for _ in range(8):
        there = len(list(shop.root.glob("out/*.parquet")))
        assert there < 500
        with run_in_process(shop, "parquet", 4) as process:
            until(lambda n=there: len(list(shop.root.glob("out/*.parquet"))) > n)  # type: ignore[misc]  # the default binds the loop's value
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(dice.random() / 20)
            process.kill()
    with run_in_process(shop, "parquet", 4) as process:
        assert process.wait(60) == 0
    assert shop.answers()["item"].to_list() == items(2000)["item"].to_list()
    assert not list((shop.root / "out").rglob("*.tmp"))


def test_a_worker_that_is_killed_is_replaced(shop: Shop) -> None:
    """Its piece is answered by another; nothing is lost."""
    (shop.root / "kill").touch()
    pl.DataFrame({"n": [*range(12), *range(20, 500)]}).write_parquet(shop.root / "in.parquet")
    shop.batch("fatal", "in.parquet")
    assert not (shop.root / "kill").exists()
    assert shop.answers()["answer"].to_list() == [*range(12), *range(20, 500)]


def test_rows_that_kill_every_worker_end_the_batch_with_a_reason(shop: Shop) -> None:
    """After three deaths on the same piece the job stops and says so; what was finished is kept."""
    pl.DataFrame({"n": range(300, 0, -1)}).write_parquet(shop.root / "in.parquet")
    with pytest.raises(StepError, match=r"killed by SIGKILL .* third time on part 2"):
        shop.batch("fatal", "in.parquet")


def test_another_input_is_refused_by_name_and_restart_begins_again(shop: Shop) -> None:
    """What was begun with other bytes, another release or other words does not go on; --restart forgets it."""
    items(10).write_parquet(shop.root / "in.parquet")
    shop.batch("price", "in.parquet")
    os.utime(shop.root / "in.parquet")
    shop.batch("price", "in.parquet")  # the same bytes at another time are the same input
    items(11).write_parquet(shop.root / "in.parquet")
    with pytest.raises(InputError, match=r"the input is not the same: .*in\.parquet' has other bytes"):
        shop.batch("price", "in.parquet")
    with pytest.raises(InputError, match="its function was 'price', not 'guarded'"):
        shop.batch("guarded", "in.parquet")
    with pytest.raises(InputError, match=r"it was begun with movies@1 .* not movies@2"):
        Shop(shop.root, 2).batch("price", "in.parquet")
    shop.batch("price", "in.parquet", restart=True)
    assert shop.answers().height == 11


def test_a_directory_with_other_files_is_refused(shop: Shop) -> None:
    """Results are never written among things that are not theirs, and nothing of those is removed."""
    items(10).write_parquet(shop.root / "in.parquet")
    (shop.root / "out").mkdir()
    (shop.root / "out" / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"holds other files, as 'thesis\.txt'"):
        shop.batch("price", "in.parquet", restart=True)
    assert (shop.root / "out" / "thesis.txt").exists()


def test_two_batches_do_not_write_to_one_directory(shop: Shop) -> None:
    """The second one is told, and changes nothing."""
    items(10).write_parquet(shop.root / "in.parquet")
    with Folder(shop.root / "out").held(), pytest.raises(InputError, match="Another process writes"):
        shop.batch("price", "in.parquet")


def test_what_is_neither_a_file_nor_a_dataset_is_told(shop: Shop) -> None:
    """The hint names the datasets there are."""
    with pytest.raises(NotFoundError, match="'nothing' is neither a file nor a dataset of 'movies'"):
        shop.batch("price", "nothing")
    (shop.root / "in.txt").touch()
    with pytest.raises(InputError, match="of no kind that can be read"):
        shop.batch("price", "in.txt")
    (shop.root / "in.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        shop.batch("price", "in.parquet")


def test_a_file_that_changes_meanwhile_ends_the_batch(shop: Shop) -> None:
    """Answers to two states of a file are never mixed."""
    items(1000).write_parquet(shop.root / "in.parquet")

    def change(progress: Progress) -> None:
        if progress.done == 2:
            items(999).write_parquet(shop.root / "in.parquet")

    with pytest.raises(InputError, match="changed while it was read"):
        shop.batch("price", "in.parquet", on_progress=change, workers=1)


def test_an_empty_input_gives_an_empty_result(shop: Shop) -> None:
    """No rows, no parts, no failure."""
    (shop.root / "in.jsonl").touch()
    assert shop.batch("price", "in.jsonl").counts.rows == 0
    assert shop.parts() == []


def test_memory_stays_flat_whatever_the_size(shop: Shop) -> None:
    """L2: ten times the rows take no more memory, in the process that answers."""
    peaks = []
    for count in (100_000, 1_000_000):
        numbers = pl.int_range(count, eager=True)
        rows = pl.DataFrame({"x": numbers / 7, "name": pl.Series(["abc"]).new_from_index(0, count), "y": numbers})
        rows.write_parquet(shop.root / f"{count}.parquet", row_group_size=100_000)
        del rows, numbers
        seen: list[int] = []

        def look(progress: Progress, seen: list[int] = seen) -> None:
            me = psutil.Process()
            workers = [child.memory_info().rss for child in me.children() if child.is_running()]
            seen.append(max([0, *workers]))

        out = shop.root / f"out-{count}"
        found = shop.batch("score", f"{count}.parquet", cut=Cut(), batch_rows=4096, out=out, on_progress=look)
        assert found.counts.rows == count
        peaks.append(max(seen))
    assert peaks[1] < peaks[0] + 50 * 2**20
