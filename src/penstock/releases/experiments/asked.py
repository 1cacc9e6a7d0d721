"""What a person asks of an experiment, read as it is written in `penstock.toml` and on the command line."""

import re

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.core.settings import ExperimentPolicy
from penstock.releases.experiments.plan import Wanted

_SHARE = re.compile(r"([0-9]*\.?[0-9]+)\s*(%?)")


class Asked(Record, frozen=True, kw_only=True):
    """What a person asks for.

    Attributes:
        arms: "movies@3", "fallback"; the first is the control.
        shares: Of all keys; equal parts when empty.
        outcome: What decides; the only outcome when None.
        guards: "conversion" or "conversion=0.05", with the loss that is put up with.
        effect: The least difference to be found; None takes what `days` can find.
        days: How long it may take.
    """

    name: str
    arms: tuple[str, ...]
    shares: tuple[float, ...] = ()
    outcome: str | None = None
    metrics: tuple[str, ...] = ()
    guards: tuple[tuple[str, float | None], ...] = ()
    effect: Wanted | None = None
    days: float | None = None
    alpha: float = 0.05
    span: str = "1d"
    history_days: float = 28


def read_asked(pipeline: str, name: str, written: ExperimentPolicy) -> Asked:
    """Return what is asked for by words.

    Raises:
        InputError: A share is none, or there is no arm.
    """
    if not written.arms:
        hint = f"give --arms {pipeline}@1,{pipeline}@2, or arms under [{pipeline}.experiments.{name}] in penstock.toml"
        raise InputError(f"Experiment {name!r} has no arms.", hint=hint)
    effect = written.effect
    return Asked(
        name=name,
        arms=written.arms,
        shares=tuple(_share(one, "share") for one in written.shares),
        outcome=written.outcome,
        metrics=written.metrics,
        guards=tuple(_guard(one) for one in written.guards),
        effect=None
        if effect is None
        else Wanted(amount=_share(effect, "effect"), is_relative=effect.strip().endswith("%")),
        days=written.days,
        alpha=written.alpha,
        span=written.span,
        history_days=written.history_days,
    )


def _share(text: str, what: str) -> float:
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{what} {text!r} is no share.", hint="write it as 5% or 0.05")
    return float(match[1]) / (100.0 if match[2] else 1.0)


def _guard(text: str) -> tuple[str, float | None]:
    name, equals, loss = text.partition("=")
    return name.strip(), _share(loss, "guard") if equals else None
