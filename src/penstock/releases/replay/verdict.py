"""Whether a candidate may be released, judged by recorded requests: the built-in check `replay`."""

import math

import msgspec

from penstock.checks.results import built_in
from penstock.core.records import CheckResult, Record
from penstock.releases.replay.records import Replay
from penstock.store.ledger.evidence import NewEvidence

CHECK = "replay"
_ALPHA = 0.05


class Gated(Record, frozen=True, kw_only=True):
    """What the gate was told.

    Attributes:
        check: For the record of the run. It is no part of a release: that does not depend on who asked what lately.
        replay: What it rests on; None where nothing was replayed.
    """

    check: CheckResult
    replay: Replay | None = None


def not_replayed(why: str) -> CheckResult:
    """Return the check where there was nothing to replay, with the reason."""
    return built_in(CHECK, f"not replayed: {why}", passed=True, evidence={"compared": 0})


def judge_replay(found: Replay, *, most_changed: float | None = None) -> CheckResult:
    """Return the check that a candidate answers what the live release answers.

    It fails where the candidate errs, refuses, gives NaN or never ends on requests to which the live release gives an
    answer of its own:

    - more often than the reverse, by the exact sign test of the requests that only one of them answers (5 %), or
    - on a request asked twice, while there is none that only the candidate answers. Two releases that fail by chance,
      on a share q of requests alike, come to that in n q^2 exp(-n q) of cases, which is 4 / (e^2 n) at most.

    That answers change is evidence and no fault, unless policy says how many may.

    Args:
        found: The replay.
        most_changed: Largest share of answers that may change; None for any.
    """
    chance = sign_test(found.lost, found.gained)
    is_surely_lost = found.lost > 0 and (chance < _ALPHA or (found.lost_again > 0 and found.gained == 0))
    share = found.changed / found.compared if found.compared else 0.0
    is_too_much = most_changed is not None and share > most_changed
    evidence = {
        "candidate": found.candidate,
        "against": found.against,
        "recorded": found.recorded,
        "compared": found.compared,
        "changed": found.changed,
        "kinds": found.kinds,
        "lost": found.lost,
        "lost_again": found.lost_again,
        "gained": found.gained,
        "p": chance,
        "errors": found.sides[1].errors,
        "refused": found.sides[1].refused,
        "not_finite": found.sides[1].not_finite,
        "slices": [one.name for one in found.slices if one.is_sure],
        "predictions": [one.prediction_id for one in found.examples],
        "most_changed": most_changed,
    }
    message = found.headline
    if found.slices and found.slices[0].is_sure:
        first = found.slices[0]
        message += f", most where {first.name} ({first.changed:,} of {first.n:,})"
    if is_too_much:
        message += f"; policy allows {most_changed:.1%}".replace("%", " %")
    if is_surely_lost:
        message = f"{_losses(found)}; {message}"
    return built_in(CHECK, message, passed=not (is_surely_lost or is_too_much), evidence=evidence)


def evidence_of(found: Replay, check: CheckResult, *, by: str) -> NewEvidence:
    """Return a replay as evidence on its candidate, without values of requests and answers."""
    return NewEvidence(
        pipeline=found.pipeline,
        subject=found.candidate,
        kind="replay",
        by=by,
        passed=check.passed,
        figures=msgspec.to_builtins(found.kept),
    )


def released_as(found: Replay, candidate: str) -> Replay:
    """Return a replay of what a run made, by the name of the release that it became."""
    sides = found.sides[0], msgspec.structs.replace(found.sides[1], release=candidate)
    return msgspec.structs.replace(found, candidate=candidate, sides=sides)


def _losses(found: Replay) -> str:
    errors = ", ".join(f"{name} {count:,} times" for name, count in list(found.sides[1].errors.items())[:3])
    fallback = f", {found.fell_back:,} of them by its fallback" if found.fell_back else ""
    return (
        f"{found.lost:,} of {found.compared:,} recorded requests that {found.against} answers are not answered by "
        f"{found.candidate} itself{fallback} ({errors})"
    )


def sign_test(more: int, fewer: int) -> float:
    """Return the chance of at least `more` of `more + fewer` even coins: the exact one-sided sign test."""
    count = more + fewer
    if not count:
        return 1.0
    if 2 * more <= count:
        return 1.0 if not more else 1.0 - sign_test(fewer + 1, more - 1)
    # The first term by logarithms, each further one from the one before: they fall, as `more` is above the mean.
    log = math.lgamma(count + 1) - math.lgamma(more + 1) - math.lgamma(fewer + 1) - count * math.log(2)
    term = total = 1.0
    for heads in range(more, count):
        term *= (count - heads) / (heads + 1)
        total += term
        if term < total * 1e-17:
            break
    return min(math.exp(log) * total, 1.0)
