"""Predictions: their ids, their form on disk, and how they are read back.

A segment is a file of frames: magic, length, CRC-32, then one prediction as JSON. A frame cut short by a crash or a
frame with flipped bytes is passed over; the next magic starts the next good one. Writing is in `log`.
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
import structlog

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record

_MAGIC = b"PSP1"
_HEAD = struct.Struct("<4sII")
_ID_LETTERS = frozenset("0123456789abcdef")
_ID_LENGTH = 32
_events = structlog.get_logger("penstock.serving")


class Prediction(Record, frozen=True, kw_only=True):
    """One answered request.

    Attributes:
        id: Sorts by time, cannot be guessed.
        at: When the request was parsed, UTC.
        release: The release that answered, "movies@3".
        serve: Name of the serve function.
        fields: What was asked, with defaults filled in.
        answer: What was answered; None when nothing could be.
        timings: Microseconds by part: "parse_us", "answer_us".
        fallback: The fallback answered.
        error: Type of the error of the serve function, or None; "deadline" when it was late.
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


def make_id(at: datetime, noise: bytes) -> str:
    """Return a prediction id: "p", 44 bits of milliseconds, then the 10 bytes of `noise`, in hexadecimal."""
    return f"p{int(at.timestamp() * 1000):011x}{noise.hex()}"


def predictions_folder(home: Path, pipeline: str) -> Path:
    """Return where the segments of `pipeline` are."""
    return home / "predictions" / pipeline


def frame(payload: bytes) -> bytes:
    """Return `payload` framed for a segment."""
    return _HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload


def read_predictions(home: Path, pipeline: str) -> Iterator[Prediction]:
    """Yield the predictions of a pipeline, segment by segment, in the order in which each worker answered.

    Safe while workers write: a frame that is not whole yet is not yielded.
    """
    decoder = msgspec.json.Decoder(Prediction)
    for path in sorted(predictions_folder(home, pipeline).glob("*.log")):
        for payload in read_frames(path):
            yield decoder.decode(payload)


def find_prediction(home: Path, pipeline: str, prediction_id: str) -> Prediction:
    """Return one prediction by its id.

    Raises:
        InputError: The text is not a prediction id.
        NotFoundError: No segment holds it.
    """
    letters = prediction_id[1:]
    if len(prediction_id) != _ID_LENGTH or prediction_id[0] != "p" or not _ID_LETTERS.issuperset(letters):
        raise InputError(f"{prediction_id[:64]!r} is not a prediction id.", hint="an id looks like p018f312b4c00...")
    needle = f'"id":"{prediction_id}"'.encode()
    for path in sorted(predictions_folder(home, pipeline).glob("*.log"), reverse=True):
        if (found := _find_in(path, needle)) is not None:
            return found
    raise NotFoundError(
        f"No prediction {prediction_id!r} of pipeline {pipeline!r} is stored.", hint="check the pipeline's name"
    )


def read_frames(path: Path) -> Iterator[bytes]:
    """Yield the payloads of the whole, undamaged frames of a segment; says in the log what it passed over."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            yield from _payloads(data, path.name)


def _payloads(data: mmap.mmap, segment: str) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        payload = _payload_at(data, place)
        if payload is not None:
            yield payload
            place += _HEAD.size + len(payload)
            continue
        following = data.find(_MAGIC, place + 1)
        after = len(data) if following < 0 else following
        _events.warning("prediction_bytes_skipped", segment=segment, at=place, size_bytes=after - place)
        place = after


def _payload_at(data: mmap.mmap, place: int) -> bytes | None:
    if place + _HEAD.size > len(data):
        return None
    magic, length, checksum = _HEAD.unpack_from(data, place)
    payload = data[place + _HEAD.size : place + _HEAD.size + length]
    if magic != _MAGIC or len(payload) != length or zlib.crc32(payload) != checksum:
        return None
    return payload


def _find_in(path: Path, needle: bytes) -> Prediction | None:
    # The id stands first in each payload, so its bytes are searched before anything is decoded.
    for payload in read_frames(path):
        if payload.startswith(b"{" + needle):
            return msgspec.json.decode(payload, type=Prediction)
    return None
