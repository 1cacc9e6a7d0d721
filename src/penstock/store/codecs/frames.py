"""What arrives as a frame and what leaves as one: each library's types to Arrow tables and back.

Belongs here: conversions, without a copy where the library allows. Files and digests are the business of `arrow`.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from penstock.core.errors import UnsupportedError
from penstock.store.codecs.codec import library, type_name, unsupported
from penstock.store.codecs.layout import batch_rows

_FORM = b"penstock.form"
_MORE = b"penstock.more"
_CATEGORICAL = b"_PL_CATEGORICAL2"
_POLARS = {pl.DataFrame: "polars", pl.LazyFrame: "lazy", pl.Series: "series"}
_ARROW = {pa.Table: "arrow", pa.RecordBatch: "batch"}
_PANDAS = {"DataFrame": "pandas", "Series": "pandas_series"}


@dataclass(frozen=True, slots=True)
class Stream:
    """A frame on its way to a file.

    Attributes:
        form: What the value was: polars, lazy, series, pandas, pandas_series, arrow, batch, batches.
        schema: pyarrow Schema of every table; its metadata says the form, so that the digest covers it.
        tables: The rows.
        columns: Name and dtype of each column, for people.
    """

    form: str
    schema: Any
    tables: Iterable[Any]
    columns: list[list[str]]


def frame_form(value: object) -> str | None:
    """Return which sort of frame `value` is, or None; imports nothing."""
    kind = type(value)
    if kind in _POLARS or kind in _ARROW:
        return _POLARS.get(kind) or _ARROW[kind]
    if library(kind) == "pandas":
        return _PANDAS.get(kind.__name__)
    return "batches" if isinstance(value, Iterator) else None


def to_stream(value: Any) -> Stream:
    """Return `value` as Arrow tables of one schema.

    Raises:
        UnsupportedError: A column has no exact counterpart in Arrow.
    """
    form = frame_form(value)
    match form:
        case "polars":
            return _from_polars(value, [value], form)
        case "series":
            return _from_polars(value.to_frame(), [value.to_frame()], form)
        case "lazy":
            return _from_lazy(value)
        case "pandas":
            return _from_pandas(value, form, {})
        case "pandas_series":
            return _from_pandas_series(value)
        case "arrow":
            return _from_arrow(value, [value], form)
        case "batch":
            return _from_arrow(value, [pa.Table.from_batches([value])], form)
        case _:
            return _from_batches(value)


def _stream(schema: Any, tables: Iterable[Any], form: str, *, more: object = None, dtypes: Any = None) -> Stream:
    metadata = {**(schema.metadata or {}), _FORM: form.encode()}
    if more:
        metadata[_MORE] = json.dumps(more, sort_keys=True).encode()
    kinds = dtypes if dtypes is not None else [str(field.type) for field in schema]
    columns = [[name, str(kind)] for name, kind in zip(schema.names, kinds, strict=False)]
    return Stream(form, schema.with_metadata(metadata), tables, columns)


def _from_polars(head: pl.DataFrame, frames: Iterable[pl.DataFrame], form: str) -> Stream:
    empty = head.clear()
    try:
        schema = _polars_table(empty).schema
    except (pa.ArrowInvalid, pl.exceptions.PolarsError) as error:
        raise unsupported(
            head, f"Arrow has no counterpart for one of its columns ({error})", hint="cast 128-bit integers to Decimal"
        ) from error
    if pl.DataFrame(pl.from_arrow(_polars_table(empty))).schema != head.schema:
        raise unsupported(head, "its column types do not survive Arrow", hint="cast the columns to standard types")
    nested = [name for name, dtype in head.schema.items() if dtype.is_nested() and "Categorical" in str(dtype)]
    if nested:
        # The codes of a Categorical depend on what else the process has seen.
        raise unsupported(head, f"column {nested[0]!r} nests a Categorical", hint="cast it to Enum or String")
    tables = (_polars_table(frame).cast(schema) if frame.width == 0 else _polars_table(frame) for frame in frames)
    return _stream(schema, tables, form, dtypes=head.dtypes)


def _polars_table(frame: pl.DataFrame) -> Any:
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    for index, field in enumerate(table.schema):
        if field.metadata and _CATEGORICAL in field.metadata:
            table = table.set_column(index, field, _recoded(table.column(index)))
    return table


def _recoded(column: Any) -> Any:
    """Number the categories in the order in which they appear, which is the same in every process."""
    kind = column.type
    encoded = column.cast(kind.value_type).combine_chunks().dictionary_encode()
    chunks = encoded.chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]
    return pa.chunked_array(
        [pa.DictionaryArray.from_arrays(chunk.indices.cast(kind.index_type), chunk.dictionary) for chunk in chunks],
        type=kind,
    )


def _from_lazy(value: pl.LazyFrame) -> Stream:
    schema = value.collect_schema()
    head = schema.to_frame()
    if any(dtype == pl.Categorical for dtype in schema.values()):
        # A file holds one dictionary per column, known only once all rows were seen.
        return _from_polars(head, [value.collect(engine="streaming")], "lazy")
    size = batch_rows(_polars_table(head).schema) if schema else 1
    return _from_polars(head, value.collect_batches(chunk_size=size, maintain_order=True, engine="streaming"), "lazy")


def _from_arrow(value: Any, tables: list[Any], form: str) -> Stream:
    schema = _without_views(value.schema)
    if any(pa.types.is_dictionary(field.type) for field in schema):
        tables = [table.unify_dictionaries() for table in tables]
    return _stream(schema, [table.cast(schema) if table.schema != schema else table for table in tables], form)


def _without_views(schema: Any) -> Any:
    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    return pa.schema([field.with_type(plain.get(field.type, field.type)) for field in schema], metadata=schema.metadata)


def _from_batches(value: Iterator[Any]) -> Stream:
    first = next(value, None)
    if first is None:
        raise unsupported(value, "it yielded nothing, so it has no columns", hint="yield one empty frame")
    convert = _batch_converter(first)
    head = convert(first)
    schema = _without_views(head.schema)
    dictionaries = any(pa.types.is_dictionary(field.type) for field in schema)
    tables: Iterator[Any] = (_fitting(convert(item), schema) for item in chain([first], value))
    if dictionaries:
        # A file holds one dictionary per column, known only once all rows were seen.
        tables = iter([pa.concat_tables(list(tables)).unify_dictionaries()])
    return _stream(schema, tables, "batches")


def _batch_converter(first: object) -> Callable[[Any], Any]:
    match frame_form(first):
        case "polars":
            return _polars_table
        case "pandas":
            return lambda frame: _pandas_table(frame)[0]
        case "arrow":
            return lambda table: table
        case "batch":
            return lambda batch: pa.Table.from_batches([batch])
    raise unsupported(first, "an iterator of these is not a table", hint="yield frames or record batches")


def _fitting(table: Any, schema: Any) -> Any:
    if table.schema.equals(schema):
        return table
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, ValueError) as error:
        raise UnsupportedError(
            f"A later batch has other columns than the first: {error}.", hint="yield batches of one schema"
        ) from error


def _from_pandas(value: Any, form: str, more: dict[str, object]) -> Stream:
    table, objects = _pandas_table(value)
    stream = _stream(table.schema, [table], form, more={**more, **({"objects": objects} if objects else {})})
    back = pandas_frame(table.replace_schema_metadata(stream.schema.metadata), rows=None if objects else 0)
    wanted = value if objects else value.iloc[:0]
    if list(back.dtypes) != list(wanted.dtypes) or (objects and not _is_same(back, wanted, objects)):
        raise unsupported(value, "its columns would come back as other types or values", hint=_PANDAS_HINT)
    return stream


def _is_same(back: Any, wanted: Any, objects: list[list[int]]) -> bool:
    kinds = all(list(map(type, back.iloc[:, index])) == list(map(type, wanted.iloc[:, index])) for index, _ in objects)
    return kinds and bool(back.equals(wanted))


_PANDAS_HINT = "give every column one dtype, and text column names"


def _pandas_table(value: Any) -> tuple[Any, list[list[int]]]:
    """Return the Arrow table, and which columns pandas keeps as objects: position, whether NaN stands for missing."""
    if type_name(type(value)).rpartition(":")[2] != "DataFrame":
        raise unsupported(value, "subclasses of DataFrame hold more than columns", hint="return a plain DataFrame")
    objects = [
        [index, _has_nan(value.iloc[:, index])] for index, kind in enumerate(value.dtypes) if str(kind) == "object"
    ]
    try:
        return pa.Table.from_pandas(value), objects
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise unsupported(value, f"Arrow cannot hold it ({error})", hint=_PANDAS_HINT) from error


def _has_nan(column: Any) -> int:
    return int(any(type(item) is float for item in column[column.isna()]))


def _from_pandas_series(value: Any) -> Stream:
    if not (value.name is None or type(value.name) in {str, int}):
        raise unsupported(value, f"its name is a {type(value.name).__name__!r}", hint="name it with text")
    return _from_pandas(value.rename("value").to_frame(), "pandas_series", {"name": value.name})


def pandas_frame(table: Any, *, rows: int | None = None) -> Any:
    """Return a pandas DataFrame of the first `rows` rows (all by default), with the dtypes it had."""
    frame = (table if rows is None else table.slice(0, rows)).to_pandas()
    for index, has_nan in read_more(table.schema).get("objects", []):
        column = frame.iloc[:, index]
        if column.dtype != object:
            items = np.empty(len(frame), dtype=object)
            items[:] = table.column(frame.columns[index]).slice(0, len(frame)).to_pylist()
            column = type(column)(items, index=frame.index, dtype=object)
        frame.isetitem(index, column.where(column.notna(), float("nan") if has_nan else None))
    return frame


def read_form(schema: Any) -> str:
    """Return what the value was."""
    return str((schema.metadata or {}).get(_FORM, b"arrow"), "ascii")


def read_more(schema: Any) -> dict[str, Any]:
    """Return what a form needs beside its rows."""
    more = json.loads((schema.metadata or {}).get(_MORE, b"{}"))
    return dict(more)


def without_ours(table: Any) -> Any:
    """Return the table with the metadata its maker gave it."""
    left = {key: value for key, value in (table.schema.metadata or {}).items() if key not in {_FORM, _MORE}}
    return table.replace_schema_metadata(left or None)
