"""Tells when a worker's event loop stands still: the process lives, and nobody is answered. No processes, no clock."""

_LOOK_S = 0.5
_GAP_S = 2.0
_DEADLINES = 3.0


class HangWatch:
    """Judges the beats of workers; times are monotonic seconds.

    Args:
        hang_s: Longest silence of a worker that is not yet a hang.
        now_s: When watching begins.
    """

    def __init__(self, hang_s: float, *, now_s: float) -> None:
        self._hang_s = hang_s
        self._looked_s = self._watching_s = now_s

    def is_due(self, now_s: float) -> bool:
        """Whether to look at the workers now; called far more often than it says so."""
        if now_s - self._looked_s < min(_LOOK_S, self._hang_s / 4):
            return False
        if now_s - self._looked_s > _GAP_S:
            # The watcher stood still itself (Ctrl-Z, a paused machine), and so did they, perhaps.
            self._watching_s = now_s
        self._looked_s = now_s
        return True

    def silence_s(self, beat_s: float | None, *, ready_s: float, longest_s: float) -> float | None:
        """Return for how long a worker has been silent when that is too long, else None.

        Args:
            beat_s: Its last beat; None when it has no file of counters, so that nothing can be said.
            ready_s: When it was ready.
            longest_s: Longest deadline that its release declares.
        """
        if beat_s is None:
            return None
        silent_s = self._looked_s - max(beat_s, ready_s, self._watching_s)
        return silent_s if silent_s > max(self._hang_s, _DEADLINES * longest_s) else None
