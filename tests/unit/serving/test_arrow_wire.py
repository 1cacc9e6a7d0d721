"""Arrow IPC in and out: the same answers as JSON, and hostile bytes refused within bounds."""

import contextlib
import json
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))
from oip_program import loaded_program
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply
from penstock.serving.predictions.reading import find_prediction
from penstock.serving.protocols.arrow_bodies import read_table
from penstock.serving.refusals import RequestError
from table_asker import TableAsker

STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"
LIMITS = Limits(batch_rows=50, rows=1000, body_bytes=2**20)


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableAsker]:
    home = tmp_path_factory.mktemp("arrow")
    with loaded_program(home) as program:
        made = TableAsker(program, home, LIMITS)
        yield made
        made.close()


def encoded(table: pa.Table, kind: str = STREAM, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    make = pa.ipc.new_file if kind == FILE else pa.ipc.new_stream
    with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def decoded(reply: Reply, kind: str = STREAM) -> pa.Table:
    assert (reply.status, reply.kind.decode()) == (200, kind), reply.body
    reader = pa.ipc.open_file(reply.body) if kind == FILE else pa.ipc.open_stream(reply.body)
    return reader.read_all()


def refused(reply: Reply, status: int) -> str:
    assert reply.status == status, reply.body
    message: str = json.loads(reply.body)["error"]["message"]
    return message


ROWS = pa.table({"x": [1.5, 2.0], "n": [1, 2], "name": ["a", "b"], "tags": [["p"], []]})


@pytest.mark.parametrize("kind", [STREAM, FILE])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_a_table_in_gives_a_table_out(asker: TableAsker, kind: str, compression: str | None) -> None:
    """S1: rows as columns all the way, with the prediction id in the schema."""
    reply = asker.post("/movies/describe", encoded(ROWS, kind, compression), kind, accept=kind)
    found = decoded(reply, kind)
    assert found.to_pydict() == {"total": [2.5, 4.0], "name": ["a", "b"], "tags": [["p"], []], "big": [False, True]}
    about = {key.decode(): value.decode() for key, value in found.schema.metadata.items()}
    assert about["penstock.release"] == "movies@3"
    assert about["penstock.prediction_id"] == dict(reply.headers)[b"x-penstock-prediction-id"].decode()
    assert about["penstock.fallback"] == "false"


def test_either_side_may_be_json(asker: TableAsker) -> None:
    """The forms of question and answer are chosen by themselves, by `content-type` and `accept`."""
    numbers = pa.table({"a": [1.0], "b": [2.0], "c": [6.0]})
    body = json.loads(asker.post("/movies/mean", encoded(numbers), STREAM).body)
    assert body["answer"] == [3.0]
    reply = asker.post("/movies/mean", b"[[1.0, 2.0, 6.0]]", accept=f"{STREAM};q=0.9, */*;q=0.1")
    assert decoded(reply).to_pydict() == {"answer": [3.0]}
    assert json.loads(asker.post("/movies/mean", b"[[1.0, 2.0, 6.0]]").body)["answer"] == [3.0]


def test_each_row_is_a_question_to_a_function_of_fields(asker: TableAsker) -> None:
    """S1: columns named like the fields; a null stands for "not given"."""
    rows = pa.table({"text": ["ab", "abc"], "weight": [2.0, None], "unknown": [1, 2]})
    found = decoded(asker.post("/movies/judge", encoded(rows), STREAM, accept=STREAM))
    assert found["score"].to_pylist() == [4.0, 3.0]
    users = pa.table({"user_id": pa.array([7, 8], pa.int32())})
    found = decoded(asker.post("/movies/recommend", encoded(users), STREAM, accept=STREAM))
    assert json.loads(found["answer"][1].as_py())[0]["score"] == 8.0


def test_rows_are_found_again_in_the_log(asker: TableAsker) -> None:
    """What was sent as a file is kept as the stream within it."""
    reply = asker.post("/movies/describe", encoded(ROWS, FILE), FILE)
    assert find_prediction(asker.home, "movies", json.loads(reply.body)["prediction_id"] + "-1").answer["name"] == "b"


def test_dictionaries_and_views_are_texts(asker: TableAsker) -> None:
    """Categories, as pandas and polars write them, are taken for the texts that they stand for."""
    views = ROWS.set_column(2, "name", ROWS["name"].cast(pa.string_view()))
    assert json.loads(asker.post("/movies/describe", encoded(views), STREAM).body)["answer"][1]["name"] == "b"
    rows = ROWS.set_column(2, "name", ROWS["name"].dictionary_encode())
    assert json.loads(asker.post("/movies/describe", encoded(rows), STREAM).body)["answer"][1]["name"] == "b"


def test_columns_that_do_not_fit_are_named(asker: TableAsker) -> None:
    """422 with the column, as for JSON."""
    wrong = ROWS.set_column(1, "n", pa.array(["1", "x"]))
    assert "'n'" in refused(asker.post("/movies/describe", encoded(wrong), STREAM), 422)
    assert "'n' is missing" in refused(asker.post("/movies/describe", encoded(ROWS.drop(["n"])), STREAM), 422)
    texts = pa.table({"text": [1]})
    assert "Row 0: Expected `str`, got `int`" in refused(asker.post("/movies/judge", encoded(texts), STREAM), 422)


def test_rows_and_bytes_are_bounded(asker: TableAsker) -> None:
    """Fault 23: more rows than may be asked at once, or a body that would become too large, is a 413."""
    many = pa.table({"user_id": range(1001)})
    assert "1001 rows are more than 1000" in refused(asker.post("/movies/recommend", encoded(many), STREAM), 413)
    some = pa.table({"user_id": range(51)})
    assert "51 rows are more than 50" in refused(asker.post("/movies/recommend", encoded(some), STREAM), 413)
    nothing = pa.table({"user_id": pa.nulls(10**9)})
    assert "rows are more" in refused(asker.post("/movies/recommend", encoded(nothing), STREAM), 413)


def test_bombs_are_not_decoded(asker: TableAsker) -> None:
    """A few kilobytes that stand for many megabytes are refused before they become them."""
    zeros = pa.table({"text": ["\x20" * (64 * 2**20)]})
    bomb = encoded(zeros, compression="zstd")
    assert len(bomb) < 20_000
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    assert "too large" in refused(asker.post("/movies/judge", bomb, STREAM), 413)
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["x" * 100_000]))
    assert "too large" in refused(asker.post("/movies/judge", encoded(pa.table({"text": shared})), STREAM), 413)
    views = pa.StringViewArray.from_buffers(
        pa.string_view(),
        1000,
        [None, pa.py_buffer(struct.pack("<i4sii", 100_000, b"xxxx", 0, 0) * 1000), pa.py_buffer(b"x" * 100_000)],
    )
    assert "too large" in refused(asker.post("/movies/judge", encoded(pa.table({"text": views})), STREAM), 413)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    assert pa.total_allocated_bytes() - before < 2**23
    tracemalloc.stop()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array(["a"])),
        pa.array([[["a"]]], pa.list_(pa.list_(pa.list_(pa.list_(pa.string()))))),
        pa.ListViewArray.from_arrays(pa.array([0], pa.int32()), pa.array([1], pa.int32()), pa.array(["a"])),
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array(["a"])]),
        pa.array([b"0" * 16], pa.uuid()),
    ],
    ids=lambda column: str(column.type)[:20],
)
def test_types_with_hidden_depths_are_not_taken(asker: TableAsker, column: pa.Array) -> None:
    """Only plain columns, and lists and records of them: everything else is refused by name before it is read."""
    reply = asker.post("/movies/judge", encoded(pa.table({"text": column})), STREAM)
    assert "is of type" in refused(reply, 422)


def test_texts_are_checked_as_in_json(asker: TableAsker) -> None:
    """Fault 22: NUL, repeated columns, texts that are not UTF-8."""
    assert "NUL" in refused(asker.post("/movies/judge", encoded(pa.table({"text": ["a\x00"]})), STREAM), 422)
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    assert "same name" in refused(asker.post("/movies/judge", encoded(twice), STREAM), 422)
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe")]
    )
    assert "whole Arrow" in refused(asker.post("/movies/judge", encoded(pa.table({"text": broken})), STREAM), 400)


def test_many_small_messages_are_bounded() -> None:
    """Thousands of empty batches cost more than they bring."""
    schema = pa.schema([("n", pa.int64())])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for _ in range(5000):
            writer.write_batch(pa.record_batch({"n": pa.array([], pa.int64())}))
    with pytest.raises(RequestError, match="more than 4096 messages"):
        read_table(bytes(sink.getvalue()), Limits())


@pytest.mark.parametrize("body", [b"", b"ARROW1\x00\x00", b"{}", b"\xff\xff\xff\xff\x10\x00\x00\x00", b"\x00" * 64])
def test_what_is_no_arrow_is_refused(asker: TableAsker, body: bytes) -> None:
    """400, and nothing else happens."""
    refused(asker.post("/movies/judge", body, STREAM), 400)


BASES = [
    encoded(ROWS),
    encoded(ROWS, FILE),
    encoded(ROWS, compression="zstd"),
    encoded(ROWS, compression="lz4"),
    encoded(ROWS.set_column(2, "name", ROWS["name"].dictionary_encode())),
    encoded(pa.table(pl.DataFrame({"x": [1.0], "name": ["a text that is longer than a view"]}).to_arrow())),
]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_bytes_are_an_error_of_ours(data: st.DataObject) -> None:
    """Flipped bytes, cut ends, lying lengths: a frame within bounds or a refusal, never anything else."""
    body = bytearray(data.draw(st.sampled_from(BASES)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        word = data.draw(
            st.sampled_from([b"\x00", b"\xff", b"\x7f", b"\xff\xff\xff\x7f", b"\x00" * 8, b"\x01\x00\x00\x40"])
        )
        body[place : place + len(word)] = word
    kept = bytes(body[: data.draw(st.integers(0, len(body)) | st.just(len(body)))])
    before = pa.total_allocated_bytes()
    with contextlib.suppress(RequestError):
        frame = read_table(kept, LIMITS)
        assert frame.height <= LIMITS.rows
        frame.to_dicts()
    assert pa.total_allocated_bytes() - before < 2**24
