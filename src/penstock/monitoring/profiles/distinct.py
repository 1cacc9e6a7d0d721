"""How many different values there are, from few of their hashes, so that parts add up.

Bottom-k sketch: the k smallest hashes of a set are known from those of its parts, and the k-th tells how dense they lie
(Bar-Yossef et al., 2002, RANDOM, LNCS 2483:1-10; the unbiased form is Beyer et al., 2007, SIGMOD, 199-210). Unlike
registers of leading zeros it needs one comparison per value.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

Hashes = npt.NDArray[np.uint64]
KEPT = 2048
_ALL = 2.0**64


def hashes_of(text: pl.Series) -> Hashes:
    """Return a 64-bit hash of each text; equal over processes as long as `hashing` is."""
    return np.asarray(text.hash().to_numpy(), dtype=np.uint64)


@cache
def hashing() -> int:
    """Return what tells one way of hashing from another: polars may change its own between versions."""
    return int(pl.Series(["penstock"]).hash()[0])


def fewest(hashes: Hashes, expected: float) -> Hashes:
    """Return the smallest different hashes, ascending, at most `KEPT`.

    Args:
        hashes: With repetitions, in any order.
        expected: About how many different ones there are; only speed depends on it.
    """
    share = min(1.5 * KEPT / max(expected, 1.0), 1.0)
    while share < 0.5:
        found = np.unique(hashes[hashes < np.uint64(share * _ALL)])
        if len(found) >= KEPT:
            return found[:KEPT]
        share *= 4
    return np.unique(hashes)[:KEPT]


def estimated(kept: Hashes) -> int:
    """Return how many different values there are: exact below `KEPT`, else within 2.2 % (one standard error)."""
    if len(kept) < KEPT:
        return len(kept)
    return round((KEPT - 1) * _ALL / float(kept[-1]))
