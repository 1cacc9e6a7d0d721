"""Arrow IPC bytes into a frame, within bounds: a few bytes of Arrow can stand for a great many.

Messages, rows and the size of what is compressed are read from the messages' heads before any of it is decoded; then
types, offsets and texts. Flatbuffers are looked at in place: only four numbers of each message are of interest.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from penstock.serving.limits import Limits
from penstock.serving.refusals import RequestError

FILE_MAGIC = b"ARROW1\x00\x00"
_MOST_MESSAGES = 4096
_MOST_COLUMNS = 10_000
_DEEPEST = 4
# What a body may become when it is decoded, as a multiple of the largest body.
_GROWTH = 4
_HINT = "send one table as an Arrow IPC stream, as pyarrow.ipc.new_stream writes it"

# A name that is not UTF-8 is a ValueError; what an array cannot be is one of Arrow's own.
_DAMAGED = (
    pa.ArrowException,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    OSError,
    struct.error,
    pl.exceptions.PolarsError,
)


def read_table(body: bytes, limits: Limits) -> pl.DataFrame:
    """Return the rows of an Arrow IPC stream or file.

    Raises:
        RequestError: 400 when it is damaged, 413 when it would become too large, 422 when a column's type is not taken.
    """
    stream = stream_of(body)
    try:
        _look_over(stream, limits)
        table = _decode(stream, limits)
        frame = pl.from_arrow(table)
    except _DAMAGED as error:
        raise RequestError(
            "The body is not a whole Arrow IPC stream.", status=400, reason="malformed_arrow", hint=_HINT
        ) from error
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"{type(frame).__name__} is not a frame")
    _refuse_nul(frame)
    return frame


def stream_of(body: bytes) -> bytes:
    """Return the stream that an Arrow IPC stream or file holds, as the log keeps it."""
    # A file holds the stream between its magic words; its index, which may lie about it, is not needed.
    return body.removeprefix(FILE_MAGIC)


def write_table(frame: pl.DataFrame, about: Mapping[str, str], *, is_file: bool) -> bytes:
    """Return a frame as an Arrow IPC stream or file, with notes in its schema."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).replace_schema_metadata(dict(about))
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_file if is_file else pa.ipc.new_stream)(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _look_over(stream: bytes, limits: Limits) -> None:
    reader = pa.ipc.MessageReader.open_stream(pa.BufferReader(stream))
    rows = decoded = count = 0
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            break
        count += 1
        if count > _MOST_MESSAGES:
            _too_large(f"more than {_MOST_MESSAGES} messages", "send fewer, larger batches")
        if message.type == "schema":
            continue
        head, body = memoryview(message.metadata), memoryview(message.body) if message.body is not None else b""
        batch, is_rows = _batch_of(head)
        rows += _int64(head, batch, 0) if is_rows else 0
        decoded += _decoded_bytes(head, batch, body)
        if rows > limits.rows or rows < 0:
            _too_large(f"{rows} rows are more than {limits.rows}", "send fewer rows")
        if decoded > _GROWTH * limits.body_bytes:
            _too_large(f"decoded, it is larger than {_GROWTH * limits.body_bytes} bytes", "send fewer rows")


def _batch_of(head: memoryview) -> tuple[int, bool]:
    """Return the place of a message's record batch, and whether its rows are the table's."""
    message = _uint32(head, 0)
    kind = _field(head, message, 1)
    header = _field(head, message, 2)
    table = header + _uint32(head, header) if header else 0
    match head[kind] if kind else 0:
        case 3:
            return table, True
        case 2:
            data = _field(head, table, 1)
            return data + _uint32(head, data), False
        case _:
            raise IndexError("neither rows nor a dictionary")


def _decoded_bytes(head: memoryview, batch: int, body: memoryview | bytes) -> int:
    """Return how many bytes the buffers of a record batch become; each compressed one says so in its first 8 bytes."""
    vector = _field(head, batch, 2)
    if not vector or not _field(head, batch, 3):
        return len(body)
    start = vector + _uint32(head, vector)
    total = 0
    for number in range(_uint32(head, start)):
        offset, length = struct.unpack_from("<qq", head, start + 4 + 16 * number)
        if length == 0:
            continue
        if offset < 0 or length < 8 or offset + length > len(body):
            raise IndexError("a buffer lies outside the message")
        (said,) = struct.unpack_from("<q", body, offset)
        total += length if said < 0 else said
    return total


def _field(head: memoryview, table: int, number: int) -> int:
    """Return the place of a field of a flatbuffer's table; 0 when it is not there."""
    vtable = table - struct.unpack_from("<i", head, table)[0]
    if vtable < 0:
        raise IndexError("a table lies outside the message")
    (size,) = struct.unpack_from("<H", head, vtable)
    slot = 4 + 2 * number
    if slot + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", head, vtable + slot)
    return table + offset if offset else 0


def _uint32(head: memoryview, place: int) -> int:
    return int(struct.unpack_from("<I", head, place)[0])


def _int64(head: memoryview, table: int, number: int) -> int:
    place = _field(head, table, number)
    return int(struct.unpack_from("<q", head, place)[0]) if place else 0


def _decode(stream: bytes, limits: Limits) -> pa.Table:
    reader = pa.ipc.open_stream(pa.BufferReader(stream))
    names = reader.schema.names
    if len(names) > _MOST_COLUMNS or len(set(names)) != len(names):
        _refuse(f"The table has {len(names)} columns, some with the same name or too many.")
    for field in reader.schema:
        if not _is_taken(field.type, _DEEPEST):
            _refuse(f"Column {field.name[:128]!r} is of type {str(field.type)[:128]}, which is not taken.", field.name)
    table = reader.read_all()
    table.validate(full=True)
    for name, column in zip(names, table.columns, strict=True):
        if _text_bytes(column) > _GROWTH * limits.body_bytes:
            _too_large(f"decoded, column {name[:128]!r} is larger than {_GROWTH * limits.body_bytes} bytes", _HINT)
    # Only values are taken over: notes of the schema may ask a reader for more than it knows of.
    return pa.Table.from_arrays(table.columns, names=names)


_TAKEN: tuple[Callable[[Any], bool], ...] = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_null,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_time,
    pa.types.is_duration,
    pa.types.is_decimal128,
)


def _is_taken(kind: pa.DataType, deepest: int) -> bool:
    if isinstance(kind, pa.BaseExtensionType) or not deepest:
        return False
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_taken(kind.value_type, deepest - 1)
    if pa.types.is_struct(kind):
        return all(_is_taken(kind.field(place).type, deepest - 1) for place in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        # Within lists a dictionary could grow without its rows telling; as a column of texts it is common.
        return deepest == _DEEPEST and (
            pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
        )
    return any(is_kind(kind) for is_kind in _TAKEN)


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Return how many bytes the texts of a column are, each counted as often as it stands there."""
    return sum(_chunk_bytes(chunk) for chunk in column.chunks if len(chunk))


def _chunk_bytes(chunk: pa.Array) -> int:
    if pa.types.is_dictionary(chunk.type):
        return pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
    if pa.types.is_string_view(chunk.type):
        # A view is 16 bytes, the first four of which are the length of its text.
        views = np.frombuffer(chunk.buffers()[1], np.uint32)[::4]
        return int(views[chunk.offset : chunk.offset + len(chunk)].sum(dtype=np.int64))
    return 0  # texts with offsets are as large as their buffer


def _refuse_nul(frame: pl.DataFrame) -> None:
    for name, dtype in frame.schema.items():
        if dtype in {pl.String, pl.Categorical}:
            text = frame[name].cast(pl.String)
            if text.str.contains("\x00", literal=True).any():
                _refuse(f"Column {name[:128]!r} holds a NUL character.", name)


def _refuse(message: str, field: str = "") -> NoReturn:
    raise RequestError(message, status=422, reason="invalid_field", field=field[:200], hint=_HINT)


def _too_large(what: str, hint: str) -> NoReturn:
    raise RequestError(f"The Arrow body is too large: {what}.", status=413, reason="too_large", hint=hint)
