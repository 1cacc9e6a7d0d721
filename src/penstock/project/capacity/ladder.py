"""From one user to a million: what rate each asks for, and what it takes with what was measured."""

from penstock.core.records import Record
from penstock.project.capacity.records import FILL, Load, Needs, needs_of
from penstock.project.capacity.traffic import PEAK

USERS = (1, 100, 10_000, 1_000_000)
_DAY_S = 86_400.0


class Rung(Record, frozen=True, kw_only=True):
    """What a number of users takes.

    Attributes:
        rate_per_s: Requests a second in their busiest minute.
        is_held: Whether the server that was measured holds it with room to spare; None where nothing is known.
        needs: Workers and machines.
        said: In words.
    """

    users: int
    rate_per_s: float
    is_held: bool | None
    needs: Needs | None
    said: str


def ladder(load: Load, *, per_user: float) -> tuple[Rung, ...]:
    """Return the rungs.

    Args:
        load: What was measured.
        per_user: Requests of one user a day.
    """
    peak = load.peak_factor or PEAK
    return tuple(_rung(users, users * per_user / _DAY_S * peak, load) for users in USERS)


def _rung(users: int, rate_per_s: float, load: Load) -> Rung:
    knee = load.knee.rate_per_s
    if knee is None:
        return Rung(users=users, rate_per_s=rate_per_s, is_held=None, needs=None, said="not known: there is no knee")
    needs = needs_of(rate_per_s, knee_per_s=knee, workers=load.workers, cores=load.cores)
    is_held = rate_per_s <= FILL * knee
    share = f"{rate_per_s / knee:.1%} of its knee" if is_held else f"{rate_per_s / knee:,.3g} times its knee"
    said = f"held by this server, {share}" if is_held else f"takes {needs.said} ({share})"
    return Rung(users=users, rate_per_s=rate_per_s, is_held=is_held, needs=needs, said=said)
