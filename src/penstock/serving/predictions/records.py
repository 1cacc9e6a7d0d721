"""Predictions: their ids, the records of them, and their form in a segment of the log.

A segment is a file of frames: magic, length, CRC-32 of the body and of the head, then one entry as JSON, with rows
attached as they were sent where there are some. A frame cut short by a crash, or with flipped bytes, is told apart
from good ones; the next magic starts the next good one. Writing is in `log`, reading back in `reading`.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.errors import InputError
from penstock.core.records import Record

# The application by which load tests ask: what they are answered is nobody's prediction.
LOAD_CONSUMER = "penstock-load"
_MAGIC = b"PSP"
_PLAIN = b"PSP1"
_WITH_ROWS = b"PSP2"
_START = struct.Struct("<4sII")
_HEAD = struct.Struct("<4sIII")
_LENGTH = struct.Struct("<I")
_ID_LETTERS = frozenset("0123456789abcdef")
_ID_LENGTH = 32
_SEED_LETTERS = 8
_NULL = msgspec.Raw(b"null")


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one request asked and was answered, on its way to disk.

    Attributes:
        id: From `PredictionLog.new_id`. Answer i of several is found as "ID-i".
        at: When the request was read, UTC.
        release: The release that answered, "movies@3".
        serve: Name of the serve function.
        fields: What was asked, as JSON with defaults filled in; without the rows where those are attached. Of several
            answers without rows: a list of as many objects, or one object that they share.
        answer: As JSON; a list of `count` answers where rows are attached or `count` is more than one; null when there
            is none.
        timings: Microseconds by part: "parse_us", "answer_us".
        fallback: The fallback answered.
        error: Type of the error of the serve function, or None; "deadline" when it was late.
        key: What the request was routed by, as text; "" when by nothing.
        consumer: The application that asked, as it calls itself.
        variant: The arm of a rollout or an experiment that answered.
        protocol: How it was asked, as "json" or "oip".
        count: Answers due.
        kind: How the attached rows are to be read again, as "json", "oip-binary:120", "csv", "arrow".
        redacted: Fields that policy left out.
    """

    id: str
    at: datetime
    release: str
    serve: str
    fields: msgspec.Raw
    answer: msgspec.Raw = _NULL
    timings: dict[str, int] = {}
    fallback: bool = False
    error: str | None = None
    key: str = ""
    consumer: str = ""
    variant: str = ""
    protocol: str = "json"
    count: int = 1
    kind: str = "json"
    redacted: tuple[str, ...] = ()


class Prediction(Record, frozen=True, kw_only=True):
    """One answer, as it is found again.

    Attributes:
        id: Sorts by time, cannot be guessed; ends in "-i" for answer i of several.
        at: When the request was read, UTC.
        release: The release that answered, "movies@3".
        serve: Name of the serve function.
        fields: What was asked, with defaults filled in.
        answer: What was answered; None when nothing could be.
        timings: Microseconds by part: "parse_us", "answer_us".
        fallback: The fallback answered.
        error: Type of the error of the serve function, or None; "deadline" when it was late.
        key: What the request was routed by, as text.
        consumer: The application that asked.
        variant: The arm of a rollout or an experiment that answered.
        protocol: How it was asked.
        redacted: Fields that policy left out.
    """

    id: str
    at: datetime
    release: str
    serve: str
    fields: Any
    answer: Any
    timings: dict[str, int]
    fallback: bool = False
    error: str | None = None
    key: str = ""
    consumer: str = ""
    variant: str = ""
    protocol: str = "json"
    redacted: tuple[str, ...] = ()


class Frame(msgspec.Struct, frozen=True):
    """A good frame of a segment.

    Attributes:
        json: The entry.
        attached: Rows as they were sent, or None.
        at: Offset in the segment.
    """

    json: bytes
    attached: bytes | None
    at: int = 0

    @property
    def end(self) -> int:
        """Offset behind it."""
        rows = 0 if self.attached is None else _LENGTH.size + len(self.attached)
        return self.at + _HEAD.size + len(self.json) + rows


class Damage(msgspec.Struct, frozen=True):
    """Bytes of a segment that are no good frame.

    Attributes:
        at: Offset in the segment.
        data: The bytes.
        is_torn: They end the segment: a write that a crash cut short, never acknowledged.
    """

    at: int
    data: bytes
    is_torn: bool


def make_id(at: datetime, noise: bytes) -> str:
    """Return a prediction id: "p", 44 bits of milliseconds, then the 10 bytes of `noise`, in hexadecimal."""
    return f"p{int(at.timestamp() * 1000):011x}{noise.hex()}"


def check_id(text: str) -> str:
    """Return a prediction id, "p018f312b4c00..." or that of one answer of several, "p018f312b4c00...-3".

    Raises:
        InputError: The text is not one.
    """
    if not is_id(text):
        raise InputError(f"{text[:64]!r} is not a prediction id.", hint="an id looks like p018f312b4c00...")
    return text


def is_id(text: str) -> bool:
    """Return whether `text` is a well-formed prediction id, with or without the number of an answer."""
    head, dash, row = text.partition("-")
    if len(head) != _ID_LENGTH or head[0] != "p" or not _ID_LETTERS.issuperset(head[1:]):
        return False
    return not dash or (row.isascii() and row.isdigit() and len(row) <= len("100000") and str(int(row)) == row)


def predictions_folder(home: Path, pipeline: str) -> Path:
    """Return where the segments of `pipeline` are."""
    return home / "predictions" / pipeline


def new_seed() -> int:
    """Return a random seed for the checksums of a segment."""
    return int.from_bytes(os.urandom(4), "little")


def seed_of(name: str) -> int:
    """Return the seed that stands in a segment's name; 0 for a name without one.

    Callers choose bytes that are attached to a frame. Without a seed they could write frames of their own, which would
    count once the frame around them is damaged.
    """
    text = name.removesuffix(".log").rpartition("-")[2]
    return int(text, 16) if len(text) == _SEED_LETTERS and _ID_LETTERS.issuperset(text) else 0


def frame(json: bytes, *, seed: int = 0, attached: bytes | None = None) -> bytes:
    """Return an entry framed for a segment."""
    magic, body = (
        (_PLAIN, json) if attached is None else (_WITH_ROWS, b"".join((_LENGTH.pack(len(json)), json, attached)))
    )
    start = _START.pack(magic, len(body), zlib.crc32(body, seed))
    return b"".join((start, _LENGTH.pack(zlib.crc32(start, seed)), body))


def read_frames(path: Path) -> Iterator[Frame | Damage]:
    """Yield what a segment holds, in order: good frames, and the bytes between them that are none.

    Safe while its worker writes: what is not whole yet is torn.
    """
    with path.open("rb") as file:
        yield from frames_of(file.fileno(), seed_of(path.name))


def frames_of(descriptor: int, seed: int, start: int = 0) -> Iterator[Frame | Damage]:
    """Yield what an open segment holds from an offset on; see `read_frames`."""
    size = os.fstat(descriptor).st_size
    if size <= start:
        return
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as data:
        place = start
        while place < len(data):
            payload = _payload_at(data, place, seed)
            if payload is not None:
                yield _decode(payload, place, has_rows=data[place : place + 4] == _WITH_ROWS)
                place += _HEAD.size + len(payload)
                continue
            after = _next_good(data, place + 1, seed)
            yield Damage(place, data[place:after], is_torn=after == len(data))
            place = after


def frame_at(data: mmap.mmap, place: int, seed: int) -> Frame | None:
    """Return the good frame whose entry begins at `place`; None when none does."""
    for start, has_rows in ((place - _HEAD.size, False), (place - _HEAD.size - _LENGTH.size, True)):
        payload = _payload_at(data, start, seed) if start >= 0 else None
        if payload is not None:
            return _decode(payload, start, has_rows=has_rows)
    return None


def _next_good(data: mmap.mmap, place: int, seed: int) -> int:
    while (place := data.find(_MAGIC, place)) >= 0:
        if _payload_at(data, place, seed) is not None:
            return place
        place += 1
    return len(data)


def _payload_at(data: mmap.mmap, place: int, seed: int) -> bytes | None:
    if place + _HEAD.size > len(data):
        return None
    magic, length, checksum, of_start = _HEAD.unpack_from(data, place)
    # The head has a sum of its own: a damaged body full of made-up heads must not cost a look at all that they claim.
    if zlib.crc32(data[place : place + _START.size], seed) != of_start:
        return None
    if magic not in {_PLAIN, _WITH_ROWS} or place + _HEAD.size + length > len(data):
        return None
    payload = data[place + _HEAD.size : place + _HEAD.size + length]
    return payload if zlib.crc32(payload, seed) == checksum else None


def _decode(payload: bytes, at: int, *, has_rows: bool) -> Frame:
    if not has_rows:
        return Frame(payload, None, at)
    (length,) = _LENGTH.unpack_from(payload)
    end = _LENGTH.size + length
    return Frame(payload[_LENGTH.size : end], payload[end:], at)
