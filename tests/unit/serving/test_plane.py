"""The plane answers each question once, alone or joined, in time or by the fallback, and keeps what it answered."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from penstock.core.clock import Clock
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request
from penstock.serving.observe.counters import Counters, Worker
from penstock.serving.plane.plane import Plane
from penstock.serving.predictions.log import PredictionLog
from penstock.serving.predictions.reading import read_predictions
from penstock.serving.predictions.records import Prediction
from penstock.serving.program.load import Program, load_program
from penstock.serving.protocols import typed
from penstock.store.blobs import Blobs
from serving_release import make_manifest, make_node, own_imports

CODE = """
import sys
import threading
import time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

calls = []


def mean(*, rows: np.ndarray) -> np.ndarray:
    calls.append(len(rows))
    if (rows < 0).any():
        raise ValueError("negative")
    return rows.mean(axis=1)


def frames(*, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(total=pl.col("x") + pl.col("y"), name="name")


def pandas_rows(*, rows: pd.DataFrame) -> pd.Series:
    return rows["x"] * 2


def tables(*, rows: pa.Table) -> list:
    return [{"name": name} for name in rows["name"].to_pylist()]


def short(*, rows: np.ndarray) -> list:
    return [1]


def scaled(*, rows: np.ndarray, factor: float = 2.0) -> list:
    return (rows[:, 0] * factor).tolist()


def leaves(*, n: int) -> int:
    sys.exit(n)


def odd(*, n: int) -> float:
    return float("nan")


def where(*, wait_ms: int) -> str:
    time.sleep(wait_ms / 1000)
    return threading.current_thread().name


def timed(*, wait_ms: int) -> str:
    time.sleep(wait_ms / 1000)
    return "model"


def instead(*, wait_ms: int) -> str:
    return "fallback"
"""
XY = (("x", "Float64"), ("y", "Int64"), ("name", "String"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A release of functions of rows and of fields."""
    home = tmp_path_factory.mktemp("plane")
    blobs = Blobs(home / "blobs")
    rows = {"mean": "numpy.ndarray", "short": "numpy.ndarray", "frames": "polars.DataFrame"}
    rows |= {"pandas_rows": "pandas.DataFrame", "tables": "pyarrow.Table"}
    nodes = (
        *(make_node(name, "serve", {"rows": kind}) for name, kind in rows.items()),
        make_node("scaled", "serve", {"rows": "numpy.ndarray", "factor": "float"}),
        make_node("leaves", "serve", {"n": "int"}),
        make_node("odd", "serve", {"n": "int"}),
        make_node("where", "serve", {"wait_ms": "int"}),
        make_node("timed", "serve", {"wait_ms": "int"}),
        make_node("instead", "fallback", {"wait_ms": "int"}, deadline_ms=200, serves=["timed"]),
    )
    manifest = make_manifest(blobs, CODE, nodes=nodes)
    three = tuple((str(place), "Float64") for place in range(3))
    inputs = {"mean": three, "frames": XY, "pandas_rows": XY, "tables": XY}
    manifest = msgspec.structs.replace(manifest, inputs=inputs)
    with own_imports():
        yield load_program(manifest, blobs, home / "code")


class Asker:
    """Asks a plane on an event loop of its own and gathers the replies in the order of asking."""

    def __init__(self, program: Program, home: Path, limits: Limits) -> None:
        self.program = program
        self.home = home
        self.limits = limits
        self.explored = 0.0

    def ask(self, *requests: tuple[str, object]) -> list[Reply]:
        """Ask all at once, in one turn of the loop."""
        return asyncio.run(self._ask(requests))

    def kept(self) -> list[Prediction]:
        """Return what the log holds."""
        return list(read_predictions(self.home, "movies"))

    async def _ask(self, requests: tuple[tuple[str, object], ...]) -> list[Reply]:
        log = PredictionLog(self.home, "movies", worker="w0", clock=Clock())
        worker = Worker(slot=0, pid=1, pipeline="movies", functions=tuple(self.program.functions))
        counters = Counters(None, worker)
        plane = Plane(self.program, "movies@1", log=log, counters=counters, limits=self.limits, clock=Clock())
        plane.explore(self.explored)
        routes = typed.routes(plane, "movies@1")
        replies: list[asyncio.Future[Reply]] = []
        for name, body in requests:
            reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            path = f"/movies/{name}"
            routes[path].handle(Request("POST", path, {}, msgspec.json.encode(body)), reply.set_result)
            replies.append(reply)
        found = await asyncio.wait_for(asyncio.gather(*replies), 20)
        plane.close()
        log.close()
        return found


@pytest.fixture
def make_asker(program: Program, tmp_path: Path) -> Callable[..., Asker]:
    """Makes askers with other limits."""
    return lambda **limits: Asker(program, tmp_path, Limits(**limits))


def answer(reply: Reply) -> Any:
    """Return the answer of a reply."""
    assert reply.status == 200, reply.body
    return msgspec.json.decode(reply.body)["answer"]


def calls_made() -> list[int]:
    """Return the rows of each call of `mean` since the last look."""
    calls: list[int] = sys.modules["app_code"].calls
    found = list(calls)
    calls.clear()
    return found


def test_questions_of_one_turn_are_joined_into_one_call(make_asker: Callable[..., Asker]) -> None:
    """S1: sixteen requests of one row that arrive together are one call of sixteen rows, each with its own answer."""
    calls_made()
    rows = np.arange(48, dtype=float).reshape(16, 3)
    found = make_asker().ask(*(("mean", {"rows": [row.tolist()]}) for row in rows))
    assert [answer(reply) for reply in found] == [[value] for value in rows.mean(axis=1)]
    assert calls_made() == [16]


def test_a_joined_call_is_bounded_in_rows(make_asker: Callable[..., Asker]) -> None:
    """S1: no call takes more rows than the limit, unless one question alone has more."""
    calls_made()
    found = make_asker(batch_rows=4).ask(*(("mean", [[1.0, 2.0, 3.0]] * n) for n in (3, 1, 2, 6)))
    assert [len(answer(reply)) for reply in found] == [3, 1, 2, 6]
    assert calls_made() == [4, 2, 6]


def test_a_question_that_fails_does_not_spoil_those_it_was_joined_with(make_asker: Callable[..., Asker]) -> None:
    """S1: the rest of the batch is answered as if the failing question had not been there."""
    good, bad = {"rows": [[1.0, 2.0, 3.0]]}, {"rows": [[-1.0, 2.0, 3.0]]}
    found = make_asker().ask(("mean", good), ("mean", bad), ("mean", good))
    assert [reply.status for reply in found] == [200, 500, 200]
    assert answer(found[0]) == answer(found[2]) == [2.0]


@pytest.mark.parametrize("name", ["frames", "pandas_rows", "tables"])
def test_rows_reach_the_function_in_the_form_it_names(make_asker: Callable[..., Asker], name: str) -> None:
    """S6: the same request serves polars, pandas and Arrow functions; objects and columns mean the same."""
    objects = {"rows": [{"x": 1.5, "y": 2, "name": "a"}, {"x": 0.0, "y": -1, "name": "ü"}]}
    columns = {"rows": {"name": ["a", "ü"], "x": [1.5, 0.0], "y": [2, -1]}}
    expected = {
        "frames": [{"total": 3.5, "name": "a"}, {"total": -1.0, "name": "ü"}],
        "pandas_rows": [3.0, 0.0],
        "tables": [{"name": "a"}, {"name": "ü"}],
    }
    first, second = make_asker().ask((name, objects), (name, columns))
    assert answer(first) == answer(second) == expected[name]


def test_other_fields_beside_rows_keep_their_own_values(make_asker: Callable[..., Asker]) -> None:
    """S1: questions whose other fields may differ are not joined."""
    found = make_asker().ask(("scaled", {"rows": [[1.0]], "factor": 3}), ("scaled", {"rows": [[1.0], [2.0]]}))
    assert [answer(reply) for reply in found] == [[3.0], [2.0, 4.0]]


def test_an_answer_per_row_is_required(make_asker: Callable[..., Asker]) -> None:
    """S6: a function that returns another number of answers fails, rather than giving someone another's."""
    (reply,) = make_asker().ask(("short", [[1.0], [2.0]]))
    assert reply.status == 500
    assert b"function_failed" in reply.body


@pytest.mark.parametrize("name", ["leaves", "odd"])
def test_what_a_function_does_stays_in_its_request(make_asker: Callable[..., Asker], name: str) -> None:
    """tO5: sys.exit() ends no worker, and NaN is never sent."""
    asker = make_asker()
    (reply,) = asker.ask((name, {"n": 3}))
    assert reply.status == 500
    (kept,) = asker.kept()
    assert kept.error == {"leaves": "SystemExit", "odd": "AnswerError"}[name]
    assert kept.answer is None


def test_a_late_answer_is_the_fallbacks(make_asker: Callable[..., Asker]) -> None:
    """S7: the fallback answers within the deadline, is marked, and the log says why."""
    asker = make_asker()
    started = time.monotonic()
    late, quick = asker.ask(("timed", {"wait_ms": 2000}), ("timed", {"wait_ms": 0}))
    assert msgspec.json.decode(late.body)["fallback"] is True
    assert answer(late) == "fallback"
    assert answer(quick) == "model"
    assert time.monotonic() - started < 10
    by_answer = {prediction.answer: prediction for prediction in asker.kept()}
    assert by_answer["fallback"].fallback
    assert by_answer["fallback"].error == "deadline"
    assert by_answer["model"].error is None


def test_more_than_may_wait_is_answered_by_the_fallback_at_once(make_asker: Callable[..., Asker]) -> None:
    """Q6, S7: beyond the queue nothing waits; who has a fallback gets it, marked."""
    found = make_asker(queue=3, threads=1).ask(*[("timed", {"wait_ms": 20})] * 10)
    marks = [msgspec.json.decode(reply.body).get("fallback", False) for reply in found]
    assert all(reply.status == 200 for reply in found)
    assert marks[-1] is True
    assert marks[0] is False


def test_without_a_fallback_the_caller_is_told_when_to_come_back(make_asker: Callable[..., Asker]) -> None:
    """Q6: a question that cannot wait gets 503 with Retry-After, at once."""
    found = make_asker(queue=2).ask(*[("mean", [[1.0, 2.0, 3.0]])] * 5)
    assert [reply.status for reply in found] == [200, 200, 503, 503, 503]
    assert (b"retry-after", b"1") in found[-1].headers
    assert b"overloaded" in found[-1].body


def test_a_slow_function_leaves_the_loop(make_asker: Callable[..., Asker]) -> None:
    """Q6: a function that takes long runs in a thread of its own, so that others are answered meanwhile."""
    found = make_asker().ask(*[("where", {"wait_ms": 5})] * 12)
    names = [answer(reply) for reply in found]
    assert names[0] == "MainThread"
    assert names[-1].startswith("serve-where")


def test_every_answer_is_kept_before_it_is_told(make_asker: Callable[..., Asker]) -> None:
    """S4: ids are unique, and the log holds question, answer, release and time of each."""
    asker = make_asker()
    found = asker.ask(*(("mean", {"rows": [[float(n), 0.0, 0.0]]}) for n in range(5)))
    ids = [msgspec.json.decode(reply.body)["prediction_id"] for reply in found]
    kept = {prediction.id: prediction for prediction in asker.kept()}
    assert len(set(ids)) == 5
    assert set(kept) >= set(ids)
    assert all(kept[one].answer == answer(reply)[0] for one, reply in zip(ids, found, strict=True))
    assert {prediction.release for prediction in kept.values()} == {"movies@1"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rows": [[1.0, 2.0]]}, "rows[0]"),
        ({"rows": [[1.0, 2.0, 3.0], [1.0]]}, "rows[1]"),
        ({"rows": [[1.0, "2", 3.0]]}, "rows[0][1]"),
        ({"rows": [[1.0, True, 3.0]]}, "rows[0][1]"),
    ],
)
def test_numbers_of_another_shape_are_refused_with_their_place(program: Program, body: object, field: str) -> None:
    """S6: the error names the row that does not fit what the release was made with."""
    with pytest.raises(Exception, match="Expected") as caught:
        program.functions["mean"].fields.parse(msgspec.json.encode(body))
    assert caught.value.field == field  # type: ignore[attr-defined]  # a RequestError has a field


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"x": 1.0, "y": 2}, "rows[0].name"),
        ({"x": 1.0, "y": 2.5, "name": "a"}, "rows[0].y"),
        ({"x": 1.0, "y": 2, "name": 3}, "rows[0].name"),
        ({"x": 1.0, "y": 2, "name": "a", "z": 0}, "rows[0].z"),
    ],
)
def test_rows_of_other_columns_are_refused_with_their_place(program: Program, row: object, field: str) -> None:
    """S6: names and types are those the release was made with."""
    with pytest.raises(Exception, match=r"Expected|Object") as caught:
        program.functions["frames"].fields.parse(msgspec.json.encode({"rows": [row]}))
    assert caught.value.field == field  # type: ignore[attr-defined]  # a RequestError has a field


def test_a_repeated_column_in_a_row_is_refused(program: Program) -> None:
    """Fault 22: the last of two values is not silently taken."""
    with pytest.raises(Exception, match="more than once"):
        program.functions["frames"].fields.parse(b'{"rows":[{"x":1.0,"y":2,"name":"a","x":2.0}]}')


def test_frames_of_other_protocols_are_checked_alike(program: Program) -> None:
    """S6: further columns are left out, exact conversions made, anything else refused with the column."""
    fields = program.functions["frames"].fields
    given = pl.DataFrame({"name": ["a"], "extra": [1], "y": [2.0], "x": [1]})
    rows = getattr(fields.of_rows(given), "rows")  # noqa: B009  # the Struct is made at run time
    assert rows.schema == {"x": pl.Float64, "y": pl.Int64, "name": pl.String}
    with pytest.raises(Exception, match="'name' is missing"):
        fields.of_rows(given.drop("name"))
    with pytest.raises(Exception, match="column 'y'"):
        fields.of_rows(given.with_columns(y=pl.lit(2.5)))
    with pytest.raises(Exception, match="rows of 3 numbers"):
        program.functions["mean"].fields.of_rows(np.zeros((2, 4)))


def test_a_share_of_questions_is_answered_by_the_fallback_and_marked(make_asker: Callable[..., Asker]) -> None:
    """B3: what the model would not have shown is shown to some, by chance that repeats itself, and told apart later."""
    asker = make_asker(threads=16)
    asker.explored = 0.3
    asked = [("timed", {"wait_ms": wait}) for wait in range(60)]
    first, second = ([answer(reply) for reply in asker.ask(*asked)] for _ in range(2))
    assert first == second
    assert 8 <= first.count("fallback") <= 30
    kept = asker.kept()
    assert {(p.variant, p.fallback, p.answer) for p in kept} == {("explore", False, "fallback"), ("", False, "model")}


def test_nothing_explores_without_a_fallback_or_a_share(make_asker: Callable[..., Asker]) -> None:
    """B3: the share is zero unless policy says otherwise, and a function without a fallback answers as always."""
    asker = make_asker()
    asker.ask(("timed", {"wait_ms": 0}), ("timed", {"wait_ms": 1}))
    asker.explored = 1.0
    assert answer(asker.ask(("where", {"wait_ms": 0}))[0])
    assert {p.variant for p in asker.kept()} == {""}
