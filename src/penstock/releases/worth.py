"""What releases were worth: figures offline, online and in money, and whether the first tells anything of the others.

Belongs here: pure functions. Where the figures come from: `penstock.project.worth`.
"""

from collections.abc import Sequence
from typing import Literal

from penstock.checks.correlation import FEWEST, rank_correlation
from penstock.core.records import Interval, Record


class Triple(Record, frozen=True, kw_only=True):
    """A release offline, online and in money.

    Attributes:
        offline: The main metric of its evaluation; None where it has none.
        online: The outcome per answer; None where no truth came yet.
        half: Half the width of the 95 % interval of `online`.
        answers: Answers whose truth is known.
        money: What an answer was worth; None where the outcome has no value.
        won: Experiments it won, and lost, by name.
    """

    release: str
    offline: Interval | None = None
    online: float | None = None
    half: float = 0.0
    answers: int = 0
    money: float | None = None
    won: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


class Match(Record, frozen=True, kw_only=True):
    """An experiment, and whether the arm that was better offline won."""

    experiment: str
    winner: str
    is_as_offline: bool


class Agreement(Record, frozen=True, kw_only=True):
    """Whether the offline metric and the outcome go together over releases.

    Attributes:
        r: Rank correlation, turned so that above 0 is what one hopes for.
        found: "against" where they surely run against each other, "flipped" where they seem to.
    """

    metric: str
    outcome: str
    releases: int
    r: float
    low: float
    high: float
    found: Literal["agrees", "unclear", "flipped", "against", "unknown"]
    matches: tuple[Match, ...] = ()

    @property
    def said(self) -> str:
        """In a sentence."""
        if self.found == "unknown":
            return f"{self.releases} releases have both figures; {FEWEST} are needed to say whether they go together."
        figures = f"{self.r:.2f} ({self.low:.2f} to {self.high:.2f}) over {self.releases} releases"
        match self.found:
            case "agrees":
                return f"A release with better {self.metric} has better {self.outcome}: rank correlation {figures}."
            case "unclear":
                return f"Whether {self.metric} and {self.outcome} go together is not clear: {figures}."
            case "flipped" | "against":
                how = "surely run" if self.found == "against" else "seem to run"
                return (
                    f"CAUTION: {self.metric} and {self.outcome} {how} against each other: rank correlation {figures}."
                )


def agreement_of(
    triples: Sequence[Triple], matches: Sequence[Match], *, metric: str, outcome: str, is_turned: bool
) -> Agreement:
    """Return whether the offline metric goes with the outcome.

    Args:
        triples: One per release.
        matches: Experiments between releases that have the metric.
        metric: Name of the offline metric.
        outcome: Name of the outcome.
        is_turned: Less of one of the two is better, so that they should run against each other.
    """
    both = [(one.offline.mean, one.online) for one in triples if one.offline is not None and one.online is not None]
    found = rank_correlation([offline for offline, _ in both], [online for _, online in both])
    r, low, high = (-found.r, -found.high, -found.low) if is_turned else (found.r, found.low, found.high)
    return Agreement(
        metric=metric,
        outcome=outcome,
        releases=found.n,
        r=r,
        low=low,
        high=high,
        found=_word(found.n, r, low, high),
        matches=tuple(matches),
    )


def _word(n: int, r: float, low: float, high: float) -> Literal["agrees", "unclear", "flipped", "against", "unknown"]:
    if n < FEWEST:
        return "unknown"
    if low > 0:
        return "agrees"
    if high < 0:
        return "against"
    return "flipped" if r < 0 else "unclear"
