"""Who is answered by which release: a hash of the key, the same in every worker and for as long as a split stands.

Belongs here: what a split is, drawing, and what a plane hands requests on to. Does not: sockets (`processes.relay`).
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from penstock.core.records import Record
from penstock.serving.messages import Request, Respond

if TYPE_CHECKING:  # it loads what a release is made of, which the supervisor has no use for
    from penstock.serving.plane.questions import Question

Variant = Literal["canary", "shadow", "experiment", "fallback"]
SHADOW: Variant = "shadow"  # as readers of the log know it, `predictions.reading.SHADOW`
FALLBACK: Variant = "fallback"  # the name of that arm of an experiment, `releases.experiments.plan.FALLBACK`


class Split(Record, frozen=True, kw_only=True):
    """How a worker shares requests with another release, or with its own fallback.

    Attributes:
        release: The other release, "movies@5"; its own for a "fallback".
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

    def take(self, question: "Question", key: bytes, exchange: "Exchange") -> bool:
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
    """Return the index of the arm that a key falls on; the same key and salt always fall at the same place.

    The place of a key is a number from 0 to 1, and arms lie side by side in their order. So a first arm that grows
    keeps its keys and only takes others in; another salt deals all keys anew, independently of the first.

    Args:
        key: What the split sticks to, as of one user.
        salt: Names the split.
        shares: Share of each arm, of any sum above zero; one of 0 gets nothing.

    Raises:
        ValueError: A share is below zero, or all are zero.
    """
    whole = sum(shares)
    if whole <= 0 or min(shares) < 0:
        raise ValueError(f"shares {list(shares)!r} cannot be split by")
    place, end = drawn(key, salt) * whole, 0.0
    for index, share in enumerate(shares):
        end += share
        if place < end:
            return index
    # Rounding may leave a hair above the sum of the shares.
    return max(index for index, share in enumerate(shares) if share > 0)


def drawn(key: bytes, salt: str) -> float:
    """Return the place of a key, from 0 to 1, evenly drawn by the hash of key and salt."""
    said = salt.encode()
    digest = hashlib.blake2b(len(said).to_bytes(4, "big") + said + key, digest_size=8, person=b"split").digest()
    return int.from_bytes(digest, "big") / 2.0**64
