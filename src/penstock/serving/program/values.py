"""What a serve function gave, kept as it gave it until a protocol wants another form."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.plain import plain
from penstock.serving.program.answers import encode_answer
from penstock.serving.refusals import AnswerError

Column = npt.NDArray[Any] | list[Any]
_SCALARS = (bool, int, float, str)
ANSWER = "answer"


class Values:
    """Answers to one or more questions: a list of Python values, an array or a frame, one entry or row per question.

    Attributes:
        count: How many.
    """

    __slots__ = ("_raw", "count")

    def __init__(self, raw: list[Any] | npt.NDArray[Any] | pl.DataFrame) -> None:
        self._raw = raw
        self.count = len(raw)

    def slice(self, start: int, count: int) -> "Values":
        """Return `count` answers from `start` on, without a copy where the form allows it."""
        if isinstance(self._raw, pl.DataFrame):
            return Values(self._raw.slice(start, count))
        return Values(self._raw[start : start + count])

    def listed(self) -> "Values":
        """Return the same answers as Python values at once, where each would be one by one."""
        is_array = isinstance(self._raw, np.ndarray)
        return Values(self.to_list()) if is_array and self._is_finite() else self

    def to_list(self) -> list[Any]:
        """Return the answers as Python values; rows of a frame become dictionaries."""
        if isinstance(self._raw, pl.DataFrame):
            return self._raw.to_dicts()
        if isinstance(self._raw, np.ndarray):
            found: list[Any] = self._raw.tolist()
            return found
        return self._raw

    def json(self) -> bytes:
        """Return a JSON list of the answers.

        Raises:
            AnswerError: One holds NaN or an infinity, or is of a type that JSON cannot show.
        """
        if not self._is_finite():
            raise AnswerError(
                "The answer holds NaN or an infinity, which JSON cannot show.",
                hint="return None where there is no value",
                is_not_finite=True,
            )
        return encode_answer(self.to_list())

    def _is_finite(self) -> bool:
        raw = self._raw
        return not isinstance(raw, np.ndarray) or raw.dtype.kind != "f" or bool(np.isfinite(raw).all())

    def one_json(self) -> bytes:
        """Return the JSON of the first answer, the only one of a function of fields.

        Raises:
            AnswerError: It holds NaN or an infinity, or is of a type that JSON cannot show.
        """
        return encode_answer(self.to_list()[0])

    def columns(self) -> dict[str, Column]:
        """Return the answers as flat columns.

        Scalars and arrays give one column called "answer" (2-D arrays stay 2-D); frames and records give a column per
        field. What is nested or of mixed type becomes JSON text.

        Raises:
            AnswerError: An answer is of a type that JSON cannot show.
        """
        if isinstance(self._raw, np.ndarray):
            return {ANSWER: self._raw}
        if isinstance(self._raw, pl.DataFrame):
            return {series.name: _column_of(series) for series in self._raw}
        items = [msgspec.to_builtins(item, enc_hook=plain, str_keys=True) for item in self._raw]
        names = list(items[0]) if items and isinstance(items[0], dict) else []
        if not names or not all(isinstance(item, dict) and list(item) == names for item in items):
            return {ANSWER: _column(items)}
        return {name: _column([item[name] for item in items]) for name in names}

    def frame(self) -> pl.DataFrame:
        """Return the answers as a frame with the columns of `columns`.

        Raises:
            AnswerError: An answer is of a type that JSON cannot show.
        """
        if isinstance(self._raw, pl.DataFrame):
            return self._raw
        return pl.DataFrame({name: pl.Series(name, column) for name, column in self.columns().items()})


def joined(parts: list[Values]) -> Values:
    """Return the answers of several calls as one; of different forms as a list of Python values."""
    return parts[0] if len(parts) == 1 else Values([item for part in parts for item in part.to_list()])


def values_of_rows(found: object, count: int) -> Values:
    """Return what a function of rows gave, one answer per row.

    Args:
        found: A list, tuple, array, series, frame, table, or a dictionary of columns.
        count: How many rows it was asked about.

    Raises:
        AnswerError: It is something else, or has not one entry per row.
    """
    raw = _known_form(found)
    if raw is None:
        raise AnswerError(
            f"A function of rows returned {type(found).__qualname__}, which has no entry per row.",
            hint="return a list, an array, a series or a frame with one entry per row",
        )
    if len(raw) != count:
        raise AnswerError(
            f"A function of rows returned {len(raw)} answers to {count} rows.", hint="return one answer per row"
        )
    return Values(raw)


def _known_form(found: object) -> list[Any] | npt.NDArray[Any] | pl.DataFrame | None:
    match found:
        case np.ndarray():
            return found if found.ndim else None
        case pl.DataFrame():
            return found
        case pl.Series():
            return found.to_list() if found.dtype.is_nested() or found.null_count() else found.to_numpy()
        case list():
            return found
        case tuple():
            return list(found)
        case Mapping():
            return pl.DataFrame(dict(found)) if found else None
    return _foreign_form(found)


def _foreign_form(found: Any) -> list[Any] | npt.NDArray[Any] | pl.DataFrame | None:
    # By module name, so that no optional library is imported to recognise its values.
    match type(found).__module__.partition(".")[0]:
        case "pandas":
            return _from_pandas(found)
        case "pyarrow":
            return _known_form(pl.from_arrow(found))
        case "torch":
            return _known_form(found.detach().cpu().numpy())
        case _:
            return _known_form(np.asarray(found)) if hasattr(found, "__array__") else None


def _from_pandas(found: Any) -> list[Any] | npt.NDArray[Any] | pl.DataFrame | None:
    if found.ndim == 1:
        return _known_form(pl.from_pandas(found))
    return pl.from_pandas(found)


def _column_of(series: pl.Series) -> Column:
    if series.dtype.is_nested() or series.dtype == pl.Object:
        return _column(series.to_list())
    if series.dtype.is_numeric() and not series.dtype.is_decimal() and not series.null_count():
        return series.to_numpy()
    return _column([plain_or_text(item) for item in series.to_list()])


def plain_or_text(item: object) -> object:
    """Return a scalar that JSON knows: dates and times as ISO text, the rest as it is."""
    return item if item is None or isinstance(item, _SCALARS) else msgspec.to_builtins(item, enc_hook=plain)


def _column(items: list[Any]) -> Column:
    kinds = {type(item) for item in items} - {type(None)}
    if kinds == {int, float}:
        return [item if item is None else float(item) for item in items]
    if kinds == {int} and any(item is not None and not -(2**63) <= item < 2**63 for item in items):
        return [encode_answer(item).decode() for item in items]
    if len(kinds) <= 1 and kinds <= set(_SCALARS):
        return items
    return [encode_answer(item).decode() for item in items]
