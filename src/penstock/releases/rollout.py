"""When a rollout moves: its stages, and the decision, which is a pure function of what was found.

Belongs here: nothing that reads or writes. The rows: `store.ledger.rollouts`. What guards find: `monitoring.guards`.
"""

import itertools
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from penstock.core.errors import InputError
from penstock.core.records import Record

SHADOW = "shadow"
WHOLE = "100%"
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%")


class Stage(Record, frozen=True, kw_only=True):
    """A stage of a rollout.

    Attributes:
        name: As policy says it, "shadow" or "10%".
        share: Of the users who are answered by the candidate, 0 to 1.
        is_shadow: The candidate is asked what everybody asks, and nobody hears its answers.
    """

    name: str
    share: float
    is_shadow: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether everybody is answered by the candidate."""
        return self.share >= 1


class Found(Record, frozen=True, kw_only=True):
    """What was found in a stage so far.

    Attributes:
        requests: Answers of the candidate.
        broken: What guards say against it, in words; empty when none of them does.
    """

    requests: int
    broken: tuple[str, ...] = ()


class Move(Record, frozen=True, kw_only=True):
    """What is to be done with a rollout."""

    action: Literal["stay", "advance", "finish", "roll_back"]
    reason: str


def parse_stage(text: str) -> Stage:
    """Return the stage that policy means by "shadow" or "10%".

    Raises:
        InputError: It means neither.
    """
    if text.strip() == SHADOW:
        return Stage(name=SHADOW, share=0.0, is_shadow=True)
    match = _PERCENT.fullmatch(text.strip())
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise InputError(f"{text!r} is no stage of a rollout.", hint='write "shadow" or a share, as "1%" or "100%"')
    return Stage(name=text.strip(), share=share)


def parse_stages(texts: Sequence[str]) -> tuple[Stage, ...]:
    """Return the stages of a rollout in order; the last is always the whole.

    Raises:
        InputError: One is no stage, or they do not grow.
    """
    found = [parse_stage(text) for text in texts]
    if any(later.share <= before.share for before, later in itertools.pairwise(found)):
        raise InputError(
            f"The stages {', '.join(map(repr, texts))} do not grow.", hint='write them as "shadow", "1%", "10%", "100%"'
        )
    return tuple(found) if found and found[-1].is_whole else (*found, Stage(name=WHOLE, share=1.0))


def decide(stages: Sequence[Stage], stage: int, *, held: timedelta, hold: timedelta, found: Found, least: int) -> Move:
    """Return what is to be done with a rollout that runs.

    Args:
        stages: All of them.
        stage: Index of the one it is at.
        held: How long it has been there.
        hold: Least time in a stage.
        found: What was found there.
        least: Fewest answers of the candidate before it goes on.
    """
    if found.broken:
        return Move(action="roll_back", reason="; ".join(found.broken))
    if held < hold:
        return Move(action="stay", reason=f"held at {stages[stage].name} for {_told(hold - held)} more")
    if found.requests < least:
        return Move(
            action="stay", reason=f"waits at {stages[stage].name} for requests: {found.requests} of {least} so far"
        )
    after = stages[stage + 1]
    well = f"{found.requests:,} answers in {_told(held)} at {stages[stage].name}, nothing against it"
    return Move(action="finish" if after.is_whole else "advance", reason=f"{well}: on to {after.name}")


def ends_at(entered_at: datetime, hold: timedelta) -> datetime:
    """Return when a stage may end at the earliest."""
    return entered_at + hold


def _told(span: timedelta) -> str:
    seconds = max(span.total_seconds(), 0.0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
