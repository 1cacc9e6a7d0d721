"""Reads a piece of an input into rows, in the worker: as columns, or as JSON objects where they came as lines.

A row that cannot be read is set aside with its reason, as a request that cannot be read is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from penstock.core.errors import DataError, InputError
from penstock.serving.offline.pieces import FilePiece, LinesPiece, Piece, TablePiece, is_changed
from penstock.serving.program.fields import Fields
from penstock.serving.program.hazards import refuse_deep, refuse_hazards
from penstock.serving.protocols.rowwise import bare_type
from penstock.serving.refusals import RequestError
from penstock.store.lake import Lake, parse_dtype

_DEPTH = 64
_DTYPES: dict[Any, pl.DataType] = {int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean(), str: pl.String()}


@dataclass(slots=True)
class Chunk:
    """Rows in order; either `frame` or `objects` holds them.

    Attributes:
        refused: Why a row cannot be read, by its place; what stands at that place means nothing.
        is_text: Columns whose type nobody named are text, as they came.
        json_columns: Columns given by `columns` whose text is JSON, since their values were of different types.
    """

    frame: pl.DataFrame | None = None
    objects: list[dict[str, Any]] | None = None
    refused: dict[int, str] = field(default_factory=dict)
    is_text: bool = False
    json_columns: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How many rows there are, refused ones included."""
        return self.frame.height if self.frame is not None else len(self.objects or ())

    @property
    def names(self) -> list[str]:
        """Names of all columns."""
        if self.frame is not None:
            return self.frame.columns
        return list(dict.fromkeys(name for row in self.objects or () for name in row))

    def dicts(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield each row as one object with those of `names` that it has."""
        if self.frame is None:
            for row in self.objects or ():
                yield {name: row[name] for name in names if name in row}
            return
        there = [name for name in names if name in self.frame.columns]
        if not there:
            yield from ({} for _ in range(self.frame.height))
        yield from self.frame.select(there).iter_rows(named=True)

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        """Return some columns; what is of mixed type within JSON objects becomes JSON text."""
        if self.frame is not None:
            return self.frame.select(names)
        rows = self.objects or []
        values = {name: [row.get(name) for row in rows] for name in names}
        found = pl.DataFrame([series_of(name, column) for name, column in values.items()])
        texts = [name for name in names if found[name].dtype == pl.String]
        self.json_columns.update(n for n in texts if any(not isinstance(value, str | None) for value in values[n]))
        return found


def series_of(name: str, values: list[Any]) -> pl.Series:
    """Return values that came as JSON as a column; values of different types become JSON text."""
    kinds = {type(value) for value in values} - {type(None)}
    try:
        return pl.Series(name, values, dtype=pl.Float64() if kinds == {int, float} else None, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        texts = [None if value is None else msgspec.json.encode(value).decode() for value in values]
        return pl.Series(name, texts, dtype=pl.String())


def wanted_types(fields: Fields) -> dict[str, pl.DataType | None]:
    """Return the type of each column that a function reads; None for what a text must hold as JSON."""
    found: dict[str, pl.DataType | None] = {name: parse_dtype(dtype) for name, dtype in fields.columns}
    for spec in fields.specs:
        if spec.name != fields.rows:
            found[spec.name] = _DTYPES.get(bare_type(spec.type))
    return found


def read_piece(piece: Piece, lake: Lake, types: Mapping[str, pl.DataType | None]) -> Chunk:
    """Return the rows of a piece.

    Args:
        piece: What to read.
        lake: Where datasets are.
        types: Types of the columns that are read from text; others stay text.

    Raises:
        InputError: The file changed since it was cut.
        DataError: It cannot be read.
    """
    try:
        match piece:
            case FilePiece(kind="parquet"):
                _refuse_changed(piece)
                rows = pl.scan_parquet(piece.path, glob=False).slice(piece.start, piece.stop - piece.start)
                return Chunk(frame=rows.collect(engine="streaming"))
            case FilePiece(kind="csv"):
                _refuse_changed(piece)
                return _csv_chunk(piece, types)
            case FilePiece():
                _refuse_changed(piece)
                return _lines_chunk(_bytes_of(piece).split(b"\n"))
            case TablePiece():
                table = lake.table(piece.pipeline, piece.dataset)
                part = table.scan_part(table.version(piece.version), piece.part, added=piece.added)
                return Chunk(frame=part.slice(piece.start, piece.stop - piece.start).collect())
            case LinesPiece():
                return _lines_chunk(list(piece.lines))
    except (OSError, pl.exceptions.PolarsError) as error:
        what = piece.path if isinstance(piece, FilePiece) else "The dataset"
        raise DataError(f"{what} cannot be read: {error}.", hint="look at the file") from error


def _refuse_changed(piece: FilePiece) -> None:
    if is_changed(piece):
        raise InputError(
            f"{piece.path!r} changed while it was read.", hint="begin again with --restart when it is complete"
        )


def _bytes_of(piece: FilePiece) -> bytes:
    with Path(piece.path).open("rb") as file:
        file.seek(piece.start)
        return file.read(piece.stop - piece.start)


def _lines_chunk(lines: list[bytes]) -> Chunk:
    found = Chunk(objects=[])
    rows: list[dict[str, Any]] = []
    for line in lines:
        if not line.strip():
            continue
        try:
            rows.append(_object(line))
        except RequestError as error:
            found.refused[len(rows)] = error.message
            rows.append({})
    found.objects = rows
    return found


def _object(line: bytes) -> dict[str, Any]:
    """Return one line as a request's body would be read."""
    refuse_deep(line, _DEPTH)
    try:
        row = msgspec.json.decode(line)
        if isinstance(row, dict):
            refuse_hazards(line)
            return row
    except (ValueError, RecursionError) as error:
        raise RequestError("The line is not valid JSON.", status=400, reason="malformed_json") from error
    raise RequestError("The line is not a JSON object.", status=422, reason="invalid_field")


def _csv_chunk(piece: FilePiece, types: Mapping[str, pl.DataType | None]) -> Chunk:
    frame = pl.read_csv(
        _bytes_of(piece),
        has_header=False,
        new_columns=list(piece.header),
        schema=dict.fromkeys(piece.header, pl.String()),
        truncate_ragged_lines=False,
    )
    found = Chunk(is_text=True)
    found.frame = typed_columns(frame, types, found.refused)
    return found


def typed_columns(
    texts: pl.DataFrame, types: Mapping[str, pl.DataType | None], refused: dict[int, str]
) -> pl.DataFrame:
    """Return columns of text in other types; where a text is none of its type, `refused` says so.

    Args:
        texts: Columns as they came.
        types: By column; None for what holds JSON. Others stay text.
        refused: Filled with the places of rows that do not fit.
    """
    typed = []
    for name in texts.columns:
        column, wrong = _typed(texts[name], types.get(name, pl.String()))
        typed.append(column)
        for place in wrong.arg_true() if wrong is not None else ():
            refused.setdefault(int(place), f"Expected {types[name] or 'JSON'} in column {name!r}.")
    return pl.DataFrame(typed)


def _typed(texts: pl.Series, dtype: pl.DataType | None) -> tuple[pl.Series, pl.Series | None]:
    """Return a column of text in another type, and where that could not be (None: nowhere)."""
    if dtype == pl.String:
        return texts, None
    if dtype is None or dtype.is_nested():
        return _from_json(texts)
    if dtype == pl.Boolean:
        low = texts.str.to_lowercase()
        column = pl.select(
            pl.when(low.is_in(["true", "1"])).then(True).when(low.is_in(["false", "0"])).then(False)  # noqa: FBT003  # polars' own form
        ).to_series()
    else:
        column = texts.str.strip_chars().cast(dtype, strict=False)
    wrong = column.is_null() & texts.is_not_null()
    return column.alias(texts.name), wrong if wrong.any() else None


def _from_json(texts: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    values, wrong = [], []
    for text in texts:
        try:
            values.append(None if text is None else msgspec.json.decode(text))
            wrong.append(False)
        except msgspec.DecodeError:
            values.append(None)
            wrong.append(True)
    return series_of(texts.name, values), pl.Series(wrong) if any(wrong) else None
