"""Rows that were kept as a caller sent them, read again without user code and without the release.

The forms are those of the protocols. What cannot be read is None: a log is read long after it was written.
"""

import importlib
import io
import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import polars as pl

_TYPES = {
    "BOOL": "?",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_MLFLOW = ("dataframe_split", "dataframe_records", "instances", "inputs")
_LENGTH_BYTES = 4
_UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError, OSError),
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
)


def read_rows(kind: str, body: bytes) -> pl.DataFrame | None:
    """Return rows as a frame, one row per answer that was due; columns without names are called "0", "1"...

    Args:
        kind: "json" (an object with a field of rows), "json-rows", "oip", "oip-binary:LENGTH" (of the JSON at its
            start), "mlflow", "csv" or "arrow".
        body: As it was sent.
    """
    form, _, length = kind.partition(":")
    try:
        match form:
            case "oip-binary":
                return _tensors(msgspec.json.decode(body[: int(length)])["inputs"], body[int(length) :])
            case "csv":
                return pl.read_csv(io.BytesIO(body))
            case "arrow":
                return _arrow(body)
            case _:
                read = _JSON_FORMS.get(form)
                return None if read is None else read(msgspec.json.decode(body))
    except _UNREADABLE:
        return None


def write_rows(rows: pl.DataFrame) -> bytes:
    """Return rows as they are kept under the kind "arrow"."""
    out = io.BytesIO()
    rows.write_ipc_stream(out)
    return out.getvalue()


def rows_as_json(rows: pl.DataFrame) -> list[bytes]:
    """Return each row as a JSON object; what JSON does not know (NaN, times, bytes) as text or null."""
    return [msgspec.json.encode(row, enc_hook=str) for row in rows.iter_rows(named=True)]


def _arrow(body: bytes) -> pl.DataFrame | None:
    found: pl.DataFrame | None = importlib.import_module("penstock.serving.predictions.arrow_rows").read_arrow(body)
    return found


def _field_of_rows(value: Any) -> pl.DataFrame | None:
    if isinstance(value, dict):
        fields = [item for item in value.values() if _is_rows(item)]
        if len(fields) == 1:
            return _frame(fields[0])
    return _frame(value)


def _is_rows(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(isinstance(column, list) for column in value.values())
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict | list) for row in value)


def _frame(value: Any) -> pl.DataFrame | None:
    if not _is_rows(value):
        return None
    if isinstance(value, dict):
        return _of_columns(value)
    if all(isinstance(row, dict) for row in value):
        names = dict.fromkeys(name for row in value for name in row)
        return _of_columns({name: [row.get(name) for row in value] for name in names})
    return _of_columns({str(i): list(column) for i, column in enumerate(zip(*value, strict=True))})


def _of_columns(columns: dict[str, list[Any]]) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(str(name), column, strict=False) for name, column in columns.items()])


def _tensors(inputs: list[dict[str, Any]], data: bytes) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {}
    place = 0
    for tensor in inputs:
        shape = [int(size) for size in tensor["shape"]]
        size_bytes = tensor.get("parameters", {}).get("binary_data_size")
        if size_bytes is None:
            flat = _flat(tensor["data"])
        else:
            flat = _binary(tensor["datatype"], data[place : place + size_bytes])
            place += size_bytes
        columns |= _tensor_columns(tensor["name"], flat, shape, is_only=len(inputs) == 1)
    return _of_columns(columns)


def _tensor_columns(name: str, flat: list[Any], shape: list[int], *, is_only: bool) -> dict[str, list[Any]]:
    count, width = shape[0], math.prod(shape[1:])
    if len(flat) != count * width:
        raise ValueError("the data does not fill the shape")
    if width == 1:
        return {name: flat}
    if is_only:
        return {str(i): flat[i::width] for i in range(width)}
    return {name: [flat[row * width : (row + 1) * width] for row in range(count)]}


def _flat(data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        data = [item for part in data for item in part]
    return data


def _binary(datatype: str, data: bytes) -> list[Any]:
    if datatype != "BYTES":
        found: list[Any] = np.frombuffer(data, dtype=_TYPES[datatype]).tolist()
        return found
    texts = []
    place = 0
    while place < len(data):
        start = place + _LENGTH_BYTES
        place = start + int.from_bytes(data[place:start], "little")
        texts.append(data[start:place].decode("utf-8", errors="replace"))
    return texts


def _mlflow(value: dict[str, Any]) -> pl.DataFrame | None:
    name = next((name for name in _MLFLOW if name in value), "inputs")
    rows = value[name]
    if name == "dataframe_split":
        names = rows.get("columns") or [str(i) for i in range(len(rows["data"][0]))]
        columns = [list(column) for column in zip(*rows["data"], strict=True)]
        return _of_columns(dict(zip(map(str, names), columns, strict=True)))
    if isinstance(rows, list) and rows and not isinstance(rows[0], dict | list):
        return _of_columns({"0": rows})
    return _frame(rows)


_JSON_FORMS: dict[str, Callable[[Any], pl.DataFrame | None]] = {
    "json": _field_of_rows,
    "json-rows": _frame,
    "oip": lambda value: _tensors(value["inputs"], b""),
    "mlflow": _mlflow,
}
