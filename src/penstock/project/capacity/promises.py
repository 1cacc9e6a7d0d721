"""What callers are promised: as it is typed ("p99=50ms"), or as policy says it (`slo`)."""

import re

from penstock.core.errors import InputError
from penstock.core.settings import LoopPolicy, parse_duration
from penstock.serving.load.promise import Promise

_TYPED = re.compile(r"p(?P<percent>[0-9]{1,2}(?:\.[0-9]+)?)\s*=\s*(?P<within>.+)")
_KEPT = re.compile(r"p(?P<percent>[0-9]{2,3})_ms")
_FAILED = 0.01


def promise_of(policy: LoopPolicy, text: str | None = None, *, failed: float | None = None) -> Promise:
    """Return the promise to hold a release to.

    Args:
        policy: What the engineer says about the pipeline.
        text: As typed, "p99=50ms"; the promise of the policy when None.
        failed: Share that may fail; by default what `slo.availability` leaves, or one of a hundred.

    Raises:
        InputError: The text is no promise, or there is none at all.
    """
    if failed is None:
        available = policy.slo.get("availability")
        failed = _FAILED if available is None else max(1 - available, 1e-4)
    if text is not None:
        return parse_promise(text, failed=failed)
    for name, limit_ms in policy.slo.items():
        found = _KEPT.fullmatch(name)
        if found is not None:
            digits = found["percent"]
            return Promise(quantile=int(digits) / 10 ** len(digits), within_s=limit_ms / 1000, failed=failed)
    raise InputError(
        "Nothing is promised, so there is nothing to hold.",
        hint="say --slo p99=50ms, or write slo = { p99_ms = 50 } in penstock.toml",
    )


def parse_promise(text: str, *, failed: float = _FAILED) -> Promise:
    """Return the promise that "p99=50ms" stands for.

    Raises:
        InputError: The text is no promise.
    """
    found = _TYPED.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{text!r} is no promise.", hint="write it as p99=50ms: 99 of 100 within 50 ms")
    share = float(found["percent"]) / 100
    within_s = parse_duration(found["within"])
    if not 0 < share < 1 or within_s <= 0:
        raise InputError(f"{text!r} can be kept by nobody.", hint="write it as p99=50ms: 99 of 100 within 50 ms")
    return Promise(quantile=share, within_s=within_s, failed=failed)


def said(promise: Promise) -> str:
    """Return "p99 within 50 ms, at most 1 % failed"."""
    return (
        f"p{100 * promise.quantile:g} within {1000 * promise.within_s:g} ms, at most {100 * promise.failed:g} % failed"
    )
