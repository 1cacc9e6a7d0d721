"""Which faults are planted, and in which steps."""

from typing import Literal

from penstock.core.errors import InputError
from penstock.core.records import Record

FaultName = Literal["feed", "genre", "burst", "schema", "bad_release"]
FAULTS: tuple[FaultName, ...] = ("feed", "genre", "burst", "schema", "bad_release")
# How many steps each lasts.
_LASTS: dict[FaultName, int] = {"feed": 3, "genre": 7, "burst": 1, "schema": 1, "bad_release": 1}
# Between two faults, so that what one does is not taken for the other; and before the first, so that ordinary is known.
_APART = 7
_FIRST = 14
BURST = 10


class Fault(Record, frozen=True, kw_only=True):
    """A fault and its steps.

    Attributes:
        first: The first step in which it is there.
        after: The first step after it.
    """

    name: FaultName
    first: int
    after: int

    def is_on(self, step: int) -> bool:
        """Return whether it is there in a step."""
        return self.first <= step < self.after


def parse_faults(text: str) -> tuple[FaultName, ...]:
    """Return the faults that are named in a text, as "feed,burst".

    Raises:
        InputError: There is no such fault.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FAULTS]
    if unknown or not names:
        raise InputError(f"There is no fault {text!r} to plant.", hint=f"name some of {','.join(FAULTS)}")
    return tuple(name for name in FAULTS if name in names)


def lay_out(names: tuple[FaultName, ...], steps: int) -> tuple[Fault, ...]:
    """Return when each fault is there, spread over the steps of a rehearsal.

    Raises:
        InputError: There are too few steps for them.
    """
    if not names:
        return ()
    needed = _FIRST + sum(_LASTS[name] + _APART for name in names)
    if steps < needed:
        raise InputError(
            f"Planting {len(names)} of the faults needs {needed} steps, and the rehearsal has {steps}.",
            hint="make it longer with --weeks, or plant fewer",
        )
    spare = (steps - needed) // len(names)
    found: list[Fault] = []
    at = _FIRST
    for name in names:
        at += spare // 2
        found.append(Fault(name=name, first=at, after=at + _LASTS[name]))
        at += _LASTS[name] + _APART + spare - spare // 2
    return tuple(found)
