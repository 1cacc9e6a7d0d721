"""What was said about an answer afterwards: feedback of callers and outcomes, as records and as rows of their table."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl

from penstock.core.digest import digest_value
from penstock.core.errors import InputError
from penstock.core.refs import NAME
from penstock.serving.predictions.records import Frame, check_id, predictions_folder
from penstock.serving.predictions.schemas import FEEDBACK_SCHEMA

Source = Literal["caller", "outcome"]
DEFAULT_NAME = "feedback"
_LONGEST_DETAIL = 65_536
_FAR_YEARS = (1970, 2200)
_NUMBER_LIMIT = 2**53


class Truth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was said about one answer.

    Attributes:
        prediction_id: Which answer.
        name: What it is about, as "feedback" or the name of an outcome function.
        source: Who says it.
        value: The number it comes to; true is 1, false is 0; None for text and objects.
        detail: What was said, as JSON, where that is no number.
        at: When it was true, UTC; when it was received where that was not said.
        received_at: When it was received, UTC.
        entry: Equal for the same thing said twice.
    """

    prediction_id: str
    name: str
    source: Source
    value: float | None
    detail: str | None
    at: datetime
    received_at: datetime
    entry: str


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Feedback as a caller sends it."""

    prediction_id: str
    value: Any
    name: str = DEFAULT_NAME
    at: datetime | None = None


def truth_of(said: Said, received_at: datetime) -> Truth:
    """Return what a caller said, checked.

    Raises:
        InputError: The id, the name, the value or the time is not usable.
    """
    check_id(said.prediction_id)
    if not NAME.fullmatch(said.name):
        raise InputError(
            f"{said.name[:64]!r} is not a usable name of feedback.",
            hint="use lower-case letters, digits, '.', '_', '-'",
        )
    value, detail = _value_of(said.value)
    at = _in_utc(said.at)
    # Said twice is known as once; with a time of its own it is another thing at another time.
    same = [said.prediction_id, said.name, value, detail, None if at is None else at.isoformat()]
    return Truth(
        prediction_id=said.prediction_id,
        name=said.name,
        source="caller",
        value=value,
        detail=detail,
        at=at or received_at,
        received_at=received_at,
        entry=digest_value(same)[:32],
    )


def outcome_of(
    prediction_id: str, name: str, value: float | None, *, detail: str | None, at: datetime, received_at: datetime
) -> Truth:
    """Return what an outcome function found; found again it replaces what it found before."""
    return Truth(
        prediction_id=prediction_id,
        name=name,
        source="outcome",
        value=value,
        detail=detail,
        at=at,
        received_at=received_at,
        entry=digest_value([prediction_id, name, "outcome"])[:32],
    )


def frame_of_truths(truths: Sequence[Truth]) -> pl.DataFrame:
    """Return rows of the table of feedback."""
    return pl.DataFrame(
        {
            "prediction_id": [truth.prediction_id for truth in truths],
            "name": [truth.name for truth in truths],
            "source": [truth.source for truth in truths],
            "value": [truth.value for truth in truths],
            "detail": [truth.detail for truth in truths],
            "at": [truth.at for truth in truths],
            "received_at": [truth.received_at for truth in truths],
            "entry": [truth.entry for truth in truths],
        },
        schema=FEEDBACK_SCHEMA,
    )


def truth_of_frame(frame: Frame) -> Truth:
    """Return what a frame of a segment says.

    Raises:
        msgspec.DecodeError: It holds something else.
    """
    return msgspec.json.decode(frame.json, type=Truth)


def feedback_folder(home: Path, pipeline: str) -> Path:
    """Return where the segments of feedback lie."""
    return predictions_folder(home, pipeline) / "feedback"


def _value_of(value: Any) -> tuple[float | None, str | None]:
    match value:
        case bool():
            return float(value), None
        case int() if abs(value) <= _NUMBER_LIMIT:
            return float(value), None
        case float():
            return value, None
        case None:
            raise InputError(
                "Feedback without a value says nothing.", hint="send a number, true, false, text or object"
            )
        case _:
            detail = msgspec.json.encode(value).decode()
    if len(detail) > _LONGEST_DETAIL:
        raise InputError(f"The value is longer than {_LONGEST_DETAIL} bytes.", hint="send what is to be compared later")
    return None, detail


def _in_utc(at: datetime | None) -> datetime | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise InputError("The time in 'at' has no zone.", hint="write it as 2024-05-01T12:00:00Z")
    if not _FAR_YEARS[0] <= at.year <= _FAR_YEARS[1]:
        raise InputError(f"The year {at.year} in 'at' is too far away.", hint="write it as 2024-05-01T12:00:00Z")
    return at.astimezone(UTC)
