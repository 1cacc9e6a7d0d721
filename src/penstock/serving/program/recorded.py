"""A recorded request, as it stands in the log, put again to a serve function."""

from typing import Any

import msgspec
import polars as pl

from penstock.serving.program.fields import Fields
from penstock.store.lake.dtypes import parse_dtype


def recorded_fields(known: Fields, given: dict[str, Any]) -> msgspec.Struct:
    """Return the fields of a request that was recorded.

    Args:
        known: The fields of the function that is asked.
        given: What was asked; of a function of rows, its row and its other fields in one object.

    Raises:
        RequestError: The function does not take them.
    """
    if known.rows is None:
        return known.parse_object(given)
    others = {spec.name: given[spec.name] for spec in known.specs if spec.name in given and spec.name != known.rows}
    row = {name: value for name, value in given.items() if name not in others}
    if known.columns and list(row) == [str(place) for place in range(len(known.columns))]:
        row = dict(zip((name for name, _ in known.columns), row.values(), strict=True))  # sent without names
    types = {name: parse_dtype(dtype) for name, dtype in known.columns}
    rows = pl.DataFrame([pl.Series(name, [value], dtype=types.get(name), strict=False) for name, value in row.items()])
    return known.of_rows(rows, others)
