"""Rows kept as a caller sent them are read again years later, whatever protocol they came by."""

import io
import struct

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.serving.predictions.kept_rows import read_rows, rows_as_json, write_rows

ROWS = [{"x": 1.5, "n": 1, "t": "a"}, {"x": 2.5, "n": 2, "t": "ü"}]
COLUMNS = {"x": [1.5, 2.5], "n": [1, 2], "t": ["a", "ü"]}
SPLIT = {"columns": ["x", "n", "t"], "data": [[1.5, 1, "a"], [2.5, 2, "ü"]]}
KINDS = ("json", "json-rows", "oip", "oip-binary:4", "mlflow", "csv", "arrow", "of-tomorrow")


def oip() -> list[dict[str, object]]:
    return [
        {"name": "x", "shape": [2, 1], "datatype": "FP64", "data": [[1.5], [2.5]]},
        {"name": "n", "shape": [2], "datatype": "INT64", "data": [1, 2]},
        {"name": "t", "shape": [2], "datatype": "BYTES", "data": ["a", "ü"]},
    ]


def binary_oip() -> tuple[str, bytes]:
    texts = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in ("a", "ü"))
    parts = [
        ("x", "FP64", struct.pack("<2d", 1.5, 2.5)),
        ("n", "INT64", struct.pack("<2q", 1, 2)),
        ("t", "BYTES", texts),
    ]
    inputs = [
        {"name": name, "shape": [2], "datatype": kind, "parameters": {"binary_data_size": len(data)}}
        for name, kind, data in parts
    ]
    head = msgspec.json.encode({"inputs": inputs})
    return f"oip-binary:{len(head)}", head + b"".join(data for _, _, data in parts)


def csv() -> bytes:
    out = io.BytesIO()
    pl.DataFrame(COLUMNS).write_csv(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("json", msgspec.json.encode({"rows": ROWS, "k": 3})),
        ("json", msgspec.json.encode({"rows": COLUMNS})),
        ("json-rows", msgspec.json.encode(ROWS)),
        ("oip", msgspec.json.encode({"inputs": oip()})),
        binary_oip(),
        ("mlflow", msgspec.json.encode({"dataframe_records": ROWS})),
        ("mlflow", msgspec.json.encode({"dataframe_split": SPLIT})),
        ("mlflow", msgspec.json.encode({"inputs": COLUMNS})),
        ("csv", csv()),
        ("arrow", write_rows(pl.DataFrame(COLUMNS))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_rows_of_every_protocol_are_read_again(kind: str, body: bytes) -> None:
    """The same rows, one by one as JSON objects, without the release and without user code."""
    found = read_rows(kind, body)
    assert found is not None
    assert [msgspec.json.decode(row) for row in rows_as_json(found)] == ROWS


def test_numbers_without_names_are_numbered() -> None:
    """A matrix has columns "0", "1"..., whether it came as lists or as one tensor."""
    matrix = msgspec.json.encode({"rows": [[1.0, 2.0], [3.0, 4.0]]})
    tensor = {"name": "input", "shape": [2, 2], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}
    for kind, body in (("json", matrix), ("oip", msgspec.json.encode({"inputs": [tensor]}))):
        found = read_rows(kind, body)
        assert found is not None
        assert found.rows(named=True) == [{"0": 1.0, "1": 2.0}, {"0": 3.0, "1": 4.0}]


def test_values_that_json_does_not_know_are_text_or_null() -> None:
    """NaN is null and a time is text: the log never holds what cannot be read as JSON."""
    frame = pl.DataFrame({"x": [float("nan"), 1.0], "at": pl.Series(["2024-05-01T00:00:00"] * 2).str.to_datetime()})
    assert [msgspec.json.decode(row) for row in rows_as_json(frame)] == [
        {"x": None, "at": "2024-05-01T00:00:00"},
        {"x": 1.0, "at": "2024-05-01T00:00:00"},
    ]


@settings(deadline=None, max_examples=300)
@given(kind=st.sampled_from(KINDS), body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_nonsense_is_no_rows(kind: str, body: bytes) -> None:
    """Whatever bytes lie there, reading them gives rows or None and never an exception."""
    found = read_rows(kind, body)
    assert found is None or isinstance(found, pl.DataFrame)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["inputs", "rows", "name", "shape", "data", "datatype", "columns", "dataframe_split", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(kind=st.sampled_from(("json", "json-rows", "oip", "mlflow")), value=_JSON)
def test_json_of_another_form_is_no_rows(kind: str, value: object) -> None:
    """JSON that is no request of the protocol is None, however near it comes."""
    try:
        body = msgspec.json.encode(value)
    except OverflowError:
        return
    found = read_rows(kind, body)
    assert found is None or isinstance(found, pl.DataFrame)
