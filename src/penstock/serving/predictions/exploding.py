"""From entries of the log to single answers: an entry of several answers becomes as many."""

from collections.abc import Iterator
from typing import Any

import msgspec

from penstock.serving.predictions.kept_rows import read_rows, rows_as_json
from penstock.serving.predictions.records import Frame, LogEntry, Prediction

_NULL = msgspec.Raw(b"null")
_decode_entry = msgspec.json.Decoder(LogEntry).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Row(msgspec.Struct, frozen=True):
    """One answer with its fields still encoded.

    Attributes:
        id: That of the entry, with "-i" for answer i of several.
        entry: What the answers of one request share.
        fields: JSON; null when the rows that were sent cannot be read.
        answer: JSON.
    """

    id: str
    entry: LogEntry
    fields: msgspec.Raw
    answer: msgspec.Raw


class Exploded(msgspec.Struct, frozen=True):
    """The answers of one entry.

    Attributes:
        is_whole: The rows attached could be read; otherwise their fields are null.
    """

    rows: list[Row]
    is_whole: bool = True


def explode(frame: Frame) -> Exploded:
    """Return the answers of a frame of the log.

    Raises:
        msgspec.DecodeError: It holds no entry, or one of a later form.
    """
    entry = _decode_entry(frame.json)
    if not entry.count or (frame.attached is None and entry.count == 1):
        return Exploded([Row(entry.id, entry, entry.fields, entry.answer)])
    answers = _answers(entry)
    asked = _asked(entry, frame.attached)
    fields = asked or [_NULL] * entry.count
    ids = [entry.id] if entry.count == 1 else [f"{entry.id}-{i}" for i in range(entry.count)]
    rows = [Row(*parts) for parts in zip(ids, [entry] * entry.count, fields, answers, strict=True)]
    return Exploded(rows, is_whole=asked is not None)


def prediction_of(row: Row) -> Prediction:
    """Return an answer with its fields decoded."""
    entry = row.entry
    return Prediction(
        id=row.id,
        at=entry.at,
        release=entry.release,
        serve=entry.serve,
        fields=_plain(row.fields),
        answer=_plain(row.answer),
        timings=entry.timings,
        fallback=entry.fallback,
        error=entry.error,
        key=entry.key,
        consumer=entry.consumer,
        variant=entry.variant,
        protocol=entry.protocol,
        redacted=entry.redacted,
    )


def predictions_of(frame: Frame) -> Iterator[Prediction]:
    """Yield the answers of a frame of the log."""
    return map(prediction_of, explode(frame).rows)


def _plain(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw)


def _answers(entry: LogEntry) -> list[msgspec.Raw]:
    answers = _decode_list(entry.answer) if bytes(entry.answer)[:1] == b"[" else []
    # Failed requests have none; one answer that is no list is that of all.
    return answers if len(answers) == entry.count else [entry.answer] * entry.count


def _asked(entry: LogEntry, attached: bytes | None) -> list[msgspec.Raw] | None:
    if attached is None:
        each = _decode_list(entry.fields) if bytes(entry.fields)[:1] == b"[" else []
        return each if len(each) == entry.count else [entry.fields] * entry.count
    rows = read_rows(entry.kind, attached)
    if rows is None or rows.height != entry.count:
        return None
    shared = _decode_object(entry.fields) if bytes(entry.fields)[:1] == b"{" else {}
    encoded = rows_as_json(rows)
    if not shared:
        return [msgspec.Raw(row) for row in encoded]
    return [msgspec.Raw(_encode({**shared, **_decode_object(row)})) for row in encoded]
