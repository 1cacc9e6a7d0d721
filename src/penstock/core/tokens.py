"""Tokens: random secrets that are shown once and kept as a hash, `pst_<kind>_<id>_<secret>`.

A hash without salt or stretching is right for secrets of 192 random bits: nobody can guess one.
"""

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

_FORM = re.compile(r"pst_(?P<kind>[a-z]{1,16})_(?P<id>[0-9a-f]{12})_(?P<secret>[0-9a-f]{48})")
_ID_BYTES, _SECRET_BYTES = 6, 24


class Token(NamedTuple):
    """A token, new or as somebody gave it.

    Attributes:
        id: Says which one it is; no secret.
        hash: SHA-256 of the secret, in hexadecimal.
    """

    kind: str
    id: str
    hash: str


def new_token(kind: str) -> tuple[str, Token]:
    """Return a new token as text, to be shown once, and what is kept of it."""
    number, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
    return f"pst_{kind}_{number}_{secret}", Token(kind, number, _hashed(secret))


def read_token(text: str) -> Token | None:
    """Return what a text says, as a token; None when it is none. That it has the form proves nothing."""
    found = _FORM.fullmatch(text)
    return None if found is None else Token(found["kind"], found["id"], _hashed(found["secret"]))


def is_same(one: str, other: str) -> bool:
    """Return whether two hashes are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
