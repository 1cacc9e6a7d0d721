"""Cursors as plain JSON: which source wrote one, and values of columns that JSON has no word for."""

from datetime import date, datetime
from typing import Any

from penstock.core.errors import DataError


def own_cursor(cursor: Any, source: str) -> dict[str, Any]:
    """Return a cursor that `source` wrote; an empty one for None.

    Raises:
        DataError: Another source wrote it.
    """
    if cursor is None:
        return {}
    if isinstance(cursor, dict) and cursor.get("source") == source:
        return cursor
    raise DataError(
        f"The dataset's last intake did not come from sources.{source}, so where to go on is not known.",
        hint="give the dataset a new name, or return what the function returned before",
    )


def encode_value(value: object) -> Any:
    """Return a column's value as plain JSON.

    Raises:
        DataError: The value cannot serve as a cursor.
    """
    match value:
        case bool() | None:
            pass
        case int() | float() | str():
            return value
        case datetime():
            return {"datetime": value.isoformat()}
        case date():
            return {"date": value.isoformat()}
        case _:
            pass
    raise DataError(
        f"A column of {type(value).__name__} cannot say what is new.",
        hint="name a growing column of numbers, text, dates or times",
    )


def decode_value(value: Any) -> Any:
    """Return the value `encode_value` was given."""
    match value:
        case {"datetime": text}:
            return datetime.fromisoformat(text)
        case {"date": text}:
            return date.fromisoformat(text)
        case _:
            return value
