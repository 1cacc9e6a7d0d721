"""The keys that callers show where others than this machine may ask."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Self

from penstock.core.errors import InputError
from penstock.serving.messages import Header
from penstock.serving.refusals import RequestError

CHALLENGE: Header = (b"www-authenticate", b"Bearer")
SHORTEST_KEY = 32  # characters; drawn from 64 kinds, 192 random bits


class Keys:
    """Checks that a request shows one of the keys; only their digests are held.

    Args:
        digests: SHA-256 of each key: keys are random, so nothing slower is needed.
    """

    def __init__(self, digests: Sequence[bytes]) -> None:
        self.digests = tuple(digests)

    @classmethod
    def of(cls, keys: Sequence[str]) -> Self | None:
        """Return the check for keys; None where there are none, and so none is needed.

        Raises:
            InputError: One is so short that it could be guessed.
        """
        for number, key in enumerate(keys, 1):
            if len(key) < SHORTEST_KEY:
                raise InputError(
                    f"Key {number} in PENSTOCK_SERVE_KEYS has {len(key)} characters; the least is {SHORTEST_KEY}.",
                    hint="draw one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
                )
        return cls([hashlib.sha256(key.encode()).digest() for key in keys]) if keys else None

    def check(self, headers: dict[bytes, bytes]) -> None:
        """Refuse a request without a key that is known.

        Raises:
            RequestError: 401.
        """
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        shown = hashlib.sha256(key.strip()).digest()
        # All are compared, so that the time tells nothing.
        is_known = [hmac.compare_digest(shown, digest) for digest in self.digests]
        if scheme.lower() != b"bearer" or not any(is_known):
            raise RequestError(
                "The request shows no key that is known here.",
                status=401,
                reason="no_key",
                hint="send the header authorization: Bearer KEY",
            )
