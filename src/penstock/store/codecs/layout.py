"""One layout for equal tables: equal rows give equal bytes, however they were sliced, chunked or computed.

Belongs here: batches of agreed size, and columns without the remains that Arrow permits (values under nulls,
bits beyond the end, chunk borders). Source of the rules: the Arrow columnar format, "Validity bitmaps" and "Slicing".
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_MOST_ROWS = 1 << 20
_FEWEST_ROWS = 1 << 10
_BATCH_BYTES = 1 << 28
_GUESSED_BYTES = 32  # for a text or list of unknown length


def batch_rows(schema: Any) -> int:
    """Return how many rows a batch of this schema has: a power of two, about 256 MiB at most.

    It depends on nothing but the schema, so a stream and a whole table give the same batches.
    """
    width = sum(_width(field.type) for field in schema) or 1
    rows = _MOST_ROWS
    while rows > _FEWEST_ROWS and rows * width > _BATCH_BYTES:
        rows //= 2
    return rows


def _width(kind: Any) -> float:
    try:
        return float(kind.bit_width) / 8
    except ValueError:  # not of fixed width
        return _GUESSED_BYTES


def even_batches(tables: Iterable[Any], schema: Any) -> Iterator[Any]:
    """Yield the rows of `tables` as canonical record batches of `batch_rows` rows, the last one shorter.

    Args:
        tables: pyarrow Tables with the columns of `schema`.
        schema: The pyarrow Schema to write.
    """
    size = batch_rows(schema)
    waiting: list[Any] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        if count < size:
            continue
        joined = pa.concat_tables(waiting)
        whole = count - count % size
        for start in range(0, whole, size):
            yield _one_batch(joined.slice(start, size), schema)
        waiting, count = [joined.slice(whole)], count - whole
    if count:
        yield _one_batch(pa.concat_tables(waiting), schema)


def _one_batch(table: Any, schema: Any) -> Any:
    # One chunk is taken as it is; several are copied together.
    columns = [_joined(column) for column in table.columns]
    return pa.RecordBatch.from_arrays([_canonical(column) for column in columns], schema=schema)


def _joined(column: Any) -> Any:
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def _canonical(array: Any) -> Any:
    """Return an equal array without remains; the same one where there can be none."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(kind, _canonical(array.storage))
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(_canonical(array.indices), array.dictionary, ordered=kind.ordered)
    if pa.types.is_boolean(kind):
        values = _bitmap(pc.fill_null(array, False))  # noqa: FBT003 -- the value to fill with
        return pa.Array.from_buffers(kind, len(array), [_validity(array), values], array.null_count)
    if pa.types.is_struct(kind):
        children = [_canonical(child) for child in array.flatten()]  # a null row makes its fields null
        mask = pc.is_null(array) if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)
    if pa.types.is_nested(kind):
        return _canonical_list(array)
    if array.null_count == 0:
        return array
    return _canonical_nullable(array)


def _canonical_nullable(array: Any) -> Any:
    kind = array.type
    if pa.types.is_null(kind):
        return array
    filled = _zeros(kind, len(array)) if array.null_count == len(array) else pc.fill_null(array, _zeros(kind, 1)[0])
    return pa.Array.from_buffers(kind, len(array), [_validity(array), *filled.buffers()[1:]], array.null_count)


def _zeros(kind: Any, length: int) -> Any:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.array([""] * length, kind)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.array([b""] * length, kind)
    size = kind.bit_width // 8 * length
    return pa.Array.from_buffers(kind, length, [None, pa.py_buffer(bytes(size))])


def _canonical_list(array: Any) -> Any:
    """Gather only the items that rows refer to, and make those canonical."""
    kind = array.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return pc.take(array, np.arange(len(array)))
    fresh = pc.take(array, np.arange(len(array)))
    offsets = fresh.buffers()[1]
    return pa.Array.from_buffers(
        kind, len(fresh), [_validity(fresh), offsets], fresh.null_count, children=[_canonical(fresh.values)]
    )


def _validity(array: Any) -> Any:
    return _bitmap(pc.is_valid(array)) if array.null_count else None


def _bitmap(booleans: Any) -> Any:
    # NumPy packs with zeros beyond the end; Arrow may leave there what a slice cut off.
    return pa.py_buffer(np.packbits(booleans.to_numpy(zero_copy_only=False), bitorder="little").tobytes())
