"""Answers as JSON: what serve functions return, encoded without inventing or losing a value."""

import math

import msgspec

from penstock.core.plain import plain
from penstock.serving.refusals import AnswerError


def encode_answer(value: object) -> bytes:
    """Return `value` as JSON; frames become lists of rows, arrays become lists.

    Raises:
        AnswerError: It holds NaN or an infinity, text that is not Unicode, or a type JSON cannot show.
    """
    try:
        encoded = _encoder.encode(value)
        # msgspec writes NaN and infinities as null: only an answer with a null needs the look.
        place = _not_finite(msgspec.to_builtins(value, enc_hook=plain), "answer") if b"null" in encoded else None
    except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as error:
        raise AnswerError(
            f"The answer, a {type(value).__qualname__}, cannot be sent as JSON: {error}.",
            hint="return Row objects, dataclasses, dicts, lists, numbers, text, arrays or frames",
        ) from error
    if place is not None:
        raise AnswerError(
            f"The answer holds NaN or an infinity at {place!r}, which JSON cannot show.",
            hint="return None where there is no value",
            is_not_finite=True,
        )
    return encoded


_encoder = msgspec.json.Encoder(enc_hook=plain)


def _not_finite(value: object, place: str) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    if isinstance(value, dict):
        pairs = ((f"{place}.{key}", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        pairs = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    else:
        return None
    return next((found for inner, item in pairs if (found := _not_finite(item, inner)) is not None), None)
