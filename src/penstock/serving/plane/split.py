"""Who is answered by which release: a hash of the key, the same in every worker and for as long as a split stands.

Belongs here: what a split is, drawing, and what a plane hands requests on to. Does not: sockets (`processes.relay`).
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from penstock.core.records import Record
from penstock.serving.messages import Request, Respond
from penstock.serving.plane.questions import Question

Variant = Literal["canary", "shadow", "experiment"]
SHADOW: Variant = "shadow"  # as readers of the log know it, `predictions.reading.SHADOW`


class Split(Record, frozen=True, kw_only=True):
    """How a worker shares requests with another release.

    Attributes:
        release: The other release, "movies@5".
        share: Of the keys that it answers, 0 to 1; 0 for a shadow.
        salt: What it is for; another salt draws other keys.
        variant: What the log says of its answers. Of a "shadow", nobody hears them.
        sockets: Paths of the Unix sockets of the workers that hold it; without one, nothing is handed on.
    """

    release: str
    share: float
    salt: str
    variant: Variant
    sockets: tuple[str, ...] = ()


class Aside(Protocol):
    """Takes requests that another release is to answer, or to see."""

    def take(self, question: Question, key: bytes, exchange: "Exchange") -> bool:
        """Take a request and see to its reply; False leaves it to the plane."""
        ...


class Exchange(Record, frozen=True, kw_only=True):
    """A request with the two ways to its reply.

    Attributes:
        respond: Sends the reply of somebody else.
        otherwise: Asks the plane after all.
    """

    request: Request
    respond: Respond
    otherwise: Callable[[], None]


def arm_of(key: bytes, salt: str, shares: Sequence[float]) -> int:
    """Return the index of the share that a key falls in; the same for the same key, salt and shares.

    A key stays where it is when the first shares grow at the cost of the last: who is in 1 % is in 10 %.

    Args:
        key: Who asks.
        salt: What the split is for.
        shares: They sum to 1; what is missing to it belongs to the last.
    """
    place, bound = drawn(key, salt), 0.0
    for index, share in enumerate(shares):
        bound += share
        if place < bound:
            return index
    return len(shares) - 1


def drawn(key: bytes, salt: str) -> float:
    """Return a number from 0 to 1, evenly drawn by the hash of key and salt."""
    digest = hashlib.blake2b(key, digest_size=8, person=b"split", key=salt.encode()[-64:]).digest()
    return int.from_bytes(digest, "big") / 2.0**64
