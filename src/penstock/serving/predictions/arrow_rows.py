"""Kept rows that came as Arrow; apart from the others, since few workers ever need pyarrow."""

import polars as pl
import pyarrow as pa


def read_arrow(body: bytes) -> pl.DataFrame | None:
    """Return the rows of an Arrow stream, checked; polars alone would trust what it reads.

    Raises:
        ValueError: It is no Arrow stream, or a damaged one.
    """
    try:
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    found = pl.from_arrow(table)
    return found if isinstance(found, pl.DataFrame) else None
