"""Asks a serve function about rows, so that each row gets the answer it would get alone over HTTP.

A row that is refused or fails is written with its reason; it never takes others with it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import polars as pl

from penstock.core.errors import DataError, InputError
from penstock.core.plain import plain
from penstock.core.records import Record
from penstock.serving.offline.reading import Chunk, typed_columns
from penstock.serving.plane.calls import USER_ERRORS
from penstock.serving.program.load import ServeFunction, user_frames
from penstock.serving.program.values import ANSWER, Values
from penstock.serving.protocols.rowwise import takes_null
from penstock.serving.refusals import RequestError

FALLBACK, ERROR, MESSAGE_ID = "fallback", "error", "message_id"
_PLACE = "__place"


class Asking(Record, frozen=True, kw_only=True):
    """How a serve function is asked.

    Attributes:
        function: Its name.
        keep: Columns of the input to write beside the answers; None for those that say what a row is about.
        keys: Keys of the pipeline's datasets, to choose those columns by.
        constants: Fields that are the same for all rows.
        batch_rows: Most rows of one call of a function of rows.
    """

    function: str
    keep: tuple[str, ...] | None = None
    keys: tuple[str, ...] = ()
    constants: dict[str, Any] = {}
    batch_rows: int = 4096


class Counts(Record, frozen=True, kw_only=True):
    """What became of rows.

    Attributes:
        rows: All of them.
        fallback: Answered by the fallback.
        refused: Not fit for the function's fields.
        failed: The function failed on them, and there was no fallback or it failed too.
    """

    rows: int = 0
    fallback: int = 0
    refused: int = 0
    failed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return Counts(**dict(zip(self.__struct_fields__, (a + b for a, b in pairs), strict=True)))


@dataclass(slots=True)
class Scored:
    """Answers to the rows of a chunk.

    Attributes:
        frame: One row per row asked: kept columns, columns of the answer, `fallback`, `error`.
        json_columns: Those of them whose text is JSON, since the answer has parts.
        failure: The first failure of user code with its frames, "" when there was none.
    """

    frame: pl.DataFrame
    json_columns: tuple[str, ...]
    counts: Counts
    failure: str


def score(chunk: Chunk, function: ServeFunction, asking: Asking) -> Scored:
    """Return the answers to all rows of a chunk, in order.

    Raises:
        DataError: A column that is to be kept is not there.
        InputError: A constant names no field.
    """
    _refuse_unknown_constants(function, asking)
    kept = _kept(chunk, function, asking)
    asked = _Asked(function, asking)
    for place, message in chunk.refused.items():
        asked.refuse([place], message)
    if function.fields.rows is None:
        asked.ask_fields(chunk)
    else:
        asked.ask_rows(_rows_of(chunk, kept, asked))
    frame, renamed = _assembled(chunk, kept, asked)
    return Scored(
        frame=frame,
        json_columns=(
            *(renamed.get(name, name) for name in asked.json_columns),
            *(name for name in kept if name in chunk.json_columns),
        ),
        counts=Counts(rows=chunk.count, fallback=len(asked.fallbacks), refused=asked.refused, failed=asked.failed),
        failure=asked.failure,
    )


@dataclass(slots=True)
class _Asked:
    """A chunk being asked, and what is known of each of its rows."""

    function: ServeFunction
    asking: Asking
    answers: list[tuple[Sequence[int], pl.DataFrame]] = field(default_factory=list)
    json_columns: dict[str, None] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    fallbacks: set[int] = field(default_factory=set)
    refused: int = 0
    failed: int = 0
    failure: str = ""

    def refuse(self, places: Sequence[int], message: str) -> None:
        self.errors.update(dict.fromkeys(places, message))
        self.refused += len(places)

    def ask_fields(self, chunk: Chunk) -> None:
        specs = self.function.fields.specs
        names = [spec.name for spec in specs if spec.name not in self.asking.constants]
        # A column has no other word for "not given" than null.
        not_null = {spec.name for spec in specs if not takes_null(spec.type)}
        places: list[int] = []
        answers: list[Any] = []
        for place, row in enumerate(chunk.dicts(names)):
            if place in self.errors:
                continue
            given = row if chunk.frame is None else {n: v for n, v in row.items() if v is not None or n not in not_null}
            try:
                fields = self.function.fields.parse_object({**given, **self.asking.constants})
            except RequestError as error:
                self.refuse([place], error.message)
                continue
            found = self._answer(fields, place)
            if found is not None:
                places.append(place)
                answers += found.to_list()
        if places:
            self._keep(places, Values(answers))

    def ask_rows(self, rows: pl.DataFrame) -> None:
        good = [place for place in range(rows.height) if place not in self.errors]
        is_whole = len(good) == rows.height
        for start in range(0, len(good), self.asking.batch_rows):
            places = good[start : start + self.asking.batch_rows]
            self._ask_part(rows.slice(start, len(places)) if is_whole else rows[places], places)

    def _ask_part(self, rows: pl.DataFrame, places: Sequence[int]) -> None:
        """Ask about rows at once; where that does not go, about each half, down to the row that is to blame."""
        try:
            fields = self.function.fields.of_rows(rows, self.asking.constants or None)
        except RequestError as error:
            if len(places) == 1 or self._is_hopeless(rows):
                self.refuse(places, error.message)
            else:
                self._ask_halves(rows, places)
            return
        if len(places) == 1:
            found = self._answer(fields, places[0])
        else:
            found = _try(self.function, fields)
            if found is None:
                self._ask_halves(rows, places)
        if found is not None:
            self._keep(places, found)

    def _ask_halves(self, rows: pl.DataFrame, places: Sequence[int]) -> None:
        half = len(places) // 2
        self._ask_part(rows[:half], places[:half])
        self._ask_part(rows[half:], places[half:])

    def _is_hopeless(self, rows: pl.DataFrame) -> bool:
        """Return whether rows are refused for their columns, whatever they hold."""
        try:
            self.function.fields.of_rows(rows.clear(), self.asking.constants or None)
        except RequestError:
            return True
        return False

    def _answer(self, fields: msgspec.Struct, place: int) -> Values | None:
        """Return the one answer to fields, by the fallback where the function fails; None when there is none."""
        try:
            return _sendable(self.function.values(fields))
        except USER_ERRORS as error:
            found = _fall_back(self.function.fallback, fields)
            self._note_failure(place, error, is_answered=found is not None)
            return found

    def _note_failure(self, place: int, error: BaseException, *, is_answered: bool) -> None:
        self.errors[place] = type(error).__qualname__
        self.failed += not is_answered
        if is_answered:
            self.fallbacks.add(place)
        if not self.failure:
            self.failure = f"{user_frames(error)}{type(error).__qualname__}: {error}"

    def _keep(self, places: Sequence[int], values: Values) -> None:
        frame = values.frame()
        texts = {name for name, dtype in frame.schema.items() if dtype == pl.String}
        if texts:
            self.json_columns.update(dict.fromkeys(_json_columns(values.to_list(), texts)))
        self.answers.append((places, frame))


def _refuse_unknown_constants(function: ServeFunction, asking: Asking) -> None:
    names = {spec.name for spec in function.fields.specs} - {function.fields.rows}
    unknown = sorted(asking.constants.keys() - names)
    if unknown:
        raise InputError(
            f"{function.name!r} has no field {unknown[0]!r}.", hint=f"it has {', '.join(sorted(names)) or 'only rows'}"
        )


def _kept(chunk: Chunk, function: ServeFunction, asking: Asking) -> list[str]:
    there = chunk.names
    if asking.keep is not None:
        missing = [name for name in asking.keep if name not in there]
        if missing and chunk.frame is not None:
            raise DataError(f"The input has no column {missing[0]!r} to keep.", hint=f"it has {', '.join(there[:20])}")
        return list(asking.keep)
    fields = function.fields
    names = [spec.name for spec in fields.specs if spec.name not in asking.constants]
    return [name for name in (names if fields.rows is None else asking.keys) if name in there]


def _rows_of(chunk: Chunk, kept: Sequence[str], asked: _Asked) -> pl.DataFrame:
    """Return the columns that a function of rows reads."""
    fields = asked.function.fields
    released = [name for name, _ in fields.columns]
    others = [spec.name for spec in fields.specs if spec.name != fields.rows]
    there = [name for name in chunk.names if name not in others]
    if released and (fields.form != "numpy" or set(released) <= set(there)):
        return chunk.columns([name for name in released if name in there])
    rows = chunk.columns([name for name in there if name not in kept])
    if not chunk.is_text or fields.form != "numpy":
        return rows
    wrong: dict[int, str] = {}
    numbers = typed_columns(rows, dict.fromkeys(rows.columns, pl.Float64()), wrong)
    for place, message in wrong.items():
        if place not in asked.errors:
            asked.refuse([place], message)
    return numbers


def _fall_back(fallback: ServeFunction | None, fields: msgspec.Struct) -> Values | None:
    if fallback is None:
        return None
    try:
        return _sendable(fallback.values(fields))
    except USER_ERRORS:  # the first failure is the one that is told
        return None


def _sendable(values: Values) -> Values:
    """Return answers that can be sent, as over HTTP."""
    values.json()
    return values


def _try(function: ServeFunction, fields: msgspec.Struct) -> Values | None:
    try:
        values = function.values(fields)
        frame = values.frame()
        if not all(dtype.is_numeric() or dtype in {pl.Boolean, pl.String} for dtype in frame.schema.values()):
            return _sendable(values)
        floats = frame.select(pl.col(pl.Float32, pl.Float64).is_finite().all())
    except USER_ERRORS:  # asked row by row, it says on which
        return None
    return values if all(floats.row(0) if floats.width else ()) else None


def _json_columns(items: list[Any], texts: set[str]) -> set[str]:
    """Return the columns of text that hold JSON: those in which some answer was no text."""
    plain_items = [msgspec.to_builtins(item, enc_hook=plain, str_keys=True) for item in items]
    if texts == {ANSWER} and not all(isinstance(item, dict) and ANSWER in item for item in plain_items):
        return texts if any(not isinstance(item, str | None) for item in plain_items) else set()
    return {name for name in texts if any(not isinstance(item[name], str | None) for item in plain_items)}


def _assembled(chunk: Chunk, kept: list[str], asked: _Asked) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return one row per row asked, and which columns of the answer got another name."""
    count = chunk.count
    frames = [frame for _, frame in asked.answers]
    answers = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
    places = list(itertools.chain.from_iterable(places for places, _ in asked.answers))
    if frames and places != list(range(count)):
        placed = answers.with_columns(pl.Series(_PLACE, places, dtype=pl.Int64))
        every = pl.DataFrame({_PLACE: np.arange(count)})
        answers = every.join(placed, on=_PLACE, how="left", maintain_order="left").drop(_PLACE)
    taken = {*kept, FALLBACK, ERROR, MESSAGE_ID}
    renamed = {name: f"answer_{name}" for name in answers.columns if name in taken}
    state = pl.DataFrame(
        {
            FALLBACK: [place in asked.fallbacks for place in range(count)],
            ERROR: pl.Series([asked.errors.get(place) for place in range(count)], dtype=pl.String),
        }
    )
    parts = [chunk.columns(kept) if kept else pl.DataFrame(), answers.rename(renamed), state]
    return pl.concat([part for part in parts if part.width], how="horizontal"), renamed
