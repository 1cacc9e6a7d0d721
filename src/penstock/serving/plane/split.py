"""Which arm of a split a key falls on: one pure function that rollouts and experiments share."""

import hashlib
from collections.abc import Sequence


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
    said = salt.encode()
    digest = hashlib.blake2b(len(said).to_bytes(4, "big") + said + key, digest_size=8, person=b"split").digest()
    place = int.from_bytes(digest, "big") / 2.0**64 * whole
    end = 0.0
    for index, share in enumerate(shares):
        end += share
        if place < end:
            return index
    # Rounding may leave a hair above the sum of the shares.
    return max(index for index, share in enumerate(shares) if share > 0)
