"""Column types that give back exactly what was stored, on SQLite and PostgreSQL alike.

NaN, infinities, negative zero, huge integers, NUL and lone surrogates come back as they went in.
"""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from penstock.core.digest import canonical_json

# JSON has no NaN: such a float is kept as {"$float": "nan"}, and a user's own lone "$" key gets one more "$".
_FLOAT_KEY = "$float"
_ESCAPED = '"$'  # how such a key begins in text; JSON of ours never spells it otherwise
# SQLite keeps NaN as NULL and -0.0 as 0; as words they survive, for its columns hold any type.
_WORDS = {"nan": math.nan, "-zero": -0.0}


def encode_json(value: object) -> str:
    """Return `value` as canonical JSON text that `decode_json` turns back into exactly the same plain value."""
    plain = _escape(msgspec.to_builtins(value))
    try:
        return canonical_json(plain).decode()
    except UnicodeEncodeError:
        # Text with lone surrogates is not UTF-8; JSON can still spell it in ASCII.
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def decode_json(text: str) -> Any:
    """Read what `encode_json` wrote."""
    try:
        plain = msgspec.json.decode(text)
    except msgspec.DecodeError:
        plain = json.loads(text)
    # Hardly any value holds a key that was escaped, and walking through all of it costs more than reading it.
    return _unescape(plain) if _ESCAPED in text else plain


def _escape(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return {_FLOAT_KEY: str(value)}
        case dict():
            inner = {key: _escape(item) for key, item in value.items()}
            lone = next(iter(inner)) if len(inner) == 1 else None
            return {f"${lone}": inner[lone]} if isinstance(lone, str) and lone.startswith("$") else inner
        case list() | tuple():
            return [_escape(item) for item in value]
        case _:
            return value


def _unescape(value: Any) -> Any:
    match value:
        case {"$float": str(word)} if len(value) == 1:
            return float(word)
        case dict():
            inner = {key: _unescape(item) for key, item in value.items()}
            lone = next(iter(inner)) if len(inner) == 1 else None
            return {lone[1:]: inner[lone]} if lone is not None and lone.startswith("$$") else inner
        case list():
            return [_unescape(item) for item in value]
        case _:
            return value


class Json(TypeDecorator[Any]):
    """Plain values and records, as canonical JSON text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002  # the signature is SQLAlchemy's
        """Write as text; None stays NULL."""
        return None if value is None else encode_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002  # the signature is SQLAlchemy's
        """Read the plain value."""
        return None if value is None else decode_json(value)


class AnyText(TypeDecorator[str]):
    """Text from outside: logs and messages, which may hold NUL (PostgreSQL refuses it) or lone surrogates."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  # the signature is SQLAlchemy's
        """Write as it is where both databases can hold it, as a JSON string otherwise."""
        if value is None or not (value.startswith('"') or "\x00" in value or _has_surrogate(value)):
            return value
        return json.dumps(value, ensure_ascii=True)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  # the signature is SQLAlchemy's
        """Read the text; only an escaped one starts with a quote."""
        return str(json.loads(value)) if value is not None and value.startswith('"') else value


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


class Moment(TypeDecorator[datetime]):
    """A UTC time as ISO 8601 text of fixed width, so that it sorts and reads the same everywhere."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002  # the signature is SQLAlchemy's
        """Write the time in UTC with microseconds."""
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # the signature is SQLAlchemy's
        """Read the time, timezone-aware."""
        return None if value is None else datetime.fromisoformat(value)


class ExactFloat(TypeDecorator[float]):
    """A double that keeps NaN and negative zero on SQLite too."""

    impl = sa.Double
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[float | None], Any] | None:
        """Write the number; on SQLite, what it cannot hold as a number as a word."""
        # Instead of `process_bind_param`, after which SQLAlchemy would make a number of the word again.
        return _as_word if dialect.name == "sqlite" else None

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:  # noqa: ARG002  # the signature is SQLAlchemy's
        """Read the number or the word."""
        return _WORDS[value] if isinstance(value, str) else value


def _as_word(value: float | None) -> Any:
    if value is None:
        return None
    if math.isnan(value):
        return "nan"
    return "-zero" if value == 0 and math.copysign(1, value) < 0 else value
