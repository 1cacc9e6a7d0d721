"""What a monitor found before: the earlier windows that are ordinary, with the profiles of their rows."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from penstock.core.errors import DamagedError, InputError
from penstock.monitoring.drift.compare import Reference, Seen
from penstock.monitoring.drift.variation import FEWEST
from penstock.monitoring.findings import Finding, Window
from penstock.monitoring.profiles.profile import Profile, decode_profile
from penstock.monitoring.volume import Counted
from penstock.project.watching.look import Look
from penstock.store.ledger import windows


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """A window that was looked at, with the profile of its rows where it had some."""

    start: datetime
    rows: int
    release: str | None
    is_alarm: bool
    profile: Profile | None = None
    digest: str | None = None


class History:
    """The windows of one monitor, those of this look among them.

    Args:
        look: What is known.
        monitor: Which, as "data:ratings".

    Attributes:
        rows: Rows of the windows that are recorded, by their start.
    """

    def __init__(self, look: Look, monitor: str) -> None:
        self._look = look
        with look.workspace.ledger.read() as conn:
            kept = windows.page(conn, look.pipeline, monitor, limit=2 * look.reference)
        self.rows = {one.start_at: one.rows for one in kept}
        self._found: dict[datetime, Earlier] = {one.start_at: _earlier(one) for one in kept}

    def add(self, window: Window, profile: Profile | None) -> None:
        """Let later windows be compared with this one too."""
        is_alarm = any(finding.is_alarm for finding in window.findings)
        self._found[window.start] = Earlier(
            start=window.start, rows=window.rows, release=window.release, is_alarm=is_alarm, profile=profile
        )

    def ordinary(self, start: datetime) -> list[Earlier]:
        """Return the newest ordinary windows before `start`, oldest first.

        A window with an alarm is not ordinary. But a change that lasts is how things are now: after eight alarming
        windows in a row, these are ordinary and none before them is.
        """
        before = sorted((one for one in self._found.values() if one.start < start), key=lambda one: one.start)
        begin = end = run = 0
        for place, one in enumerate(before):
            run = run + 1 if one.is_alarm else 0
            if run >= FEWEST:
                begin, end = place + 1 - run, place + 1
        kept = [one for place, one in enumerate(before) if place >= begin and (place < end or not one.is_alarm)]
        return [self._with_profile(one) for one in kept[-self._look.reference :]]

    def _with_profile(self, one: Earlier) -> Earlier:
        if one.profile is None and one.digest is not None:
            try:
                found = decode_profile(self._look.workspace.blobs.read(one.digest))
            except (DamagedError, InputError):  # lost, or of another version: the others still tell what is ordinary
                found = None
            one = msgspec.structs.replace(one, profile=found, digest=None)
            self._found[one.start] = one
        return one


def seen(earlier: Sequence[Earlier], like: Profile) -> list[Seen]:
    """Return the windows that can be compared with a profile: those with rows, of the same columns and types."""
    wanted = kinds_of(like)
    there = [(one.start, one.profile) for one in earlier if one.profile is not None]
    return [Seen(start=start, profile=found) for start, found in there if kinds_of(found) == wanted]


def kinds_of(found: Profile) -> dict[str, str]:
    """Return the type of each column."""
    return {name: column.dtype for name, column in found.columns.items()}


def counted(earlier: Sequence[Earlier]) -> list[Counted]:
    """Return how many rows earlier windows had."""
    return [Counted(start=one.start, rows=one.rows) for one in earlier]


def newest_profile(earlier: Sequence[Earlier]) -> Profile | None:
    """Return the newest profile: the columns that are expected."""
    return next((one.profile for one in reversed(earlier) if one.profile is not None), None)


def reference_of(earlier: Sequence[Earlier]) -> Reference | None:
    """Return what a window is compared with: ordinary windows with the columns of the newest; None before the first."""
    like = newest_profile(earlier)
    return None if like is None else Reference(seen(earlier, like))


def told(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings as facts that are no alarm."""
    return tuple(msgspec.structs.replace(finding, is_alarm=False) for finding in findings)


def _earlier(kept: windows.KeptWindow) -> Earlier:
    return Earlier(
        start=kept.start_at, rows=kept.rows, release=kept.release, is_alarm=kept.is_alarm, digest=kept.profile
    )
