"""When a worker that died is started again, and when a release that keeps dying is given up. No processes, no clock."""

from dataclasses import dataclass, field

HEALTHY_S = 2.0
PROBATION_S = 60.0
CRASHES_ALLOWED = 3
_LONGEST_KILLED_S = 0.5
_PAUSES_S = (0.0, 0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class Restarts:
    """The deaths among the workers of one release, by slot; times are monotonic seconds.

    Args:
        live_s: When the release began to answer.
    """

    live_s: float
    _crashes: dict[int, int] = field(default_factory=dict)
    _due_s: dict[int, float] = field(default_factory=dict)
    _early: int = 0

    def died(self, slot: int, *, now_s: float, ready_s: float | None, is_own_fault: bool = True) -> float:
        """Note a death; return the pause in seconds before the worker is started again.

        Args:
            slot: Whose.
            now_s: When.
            ready_s: When it began to answer; None when it never did.
            is_own_fault: It was not killed from outside.
        """
        if is_own_fault and now_s - self.live_s <= PROBATION_S:
            self._early += 1
        was_healthy = ready_s is not None and now_s - ready_s > HEALTHY_S
        crashes = 0 if was_healthy else self._crashes.get(slot, 0) + 1
        self._crashes[slot] = crashes
        pause_s = _PAUSES_S[min(crashes, len(_PAUSES_S) - 1)]
        if not is_own_fault:
            pause_s = min(pause_s, _LONGEST_KILLED_S)
        self._due_s[slot] = now_s + pause_s
        return pause_s

    def is_noted(self, slot: int) -> bool:
        """Whether the death of this slot's worker is noted and it is not started again yet."""
        return slot in self._due_s

    def is_due(self, slot: int, *, now_s: float) -> bool:
        """Whether the pause is over."""
        return now_s >= self._due_s[slot]

    def started(self, slot: int) -> None:
        """Note that a worker was started again."""
        del self._due_s[slot]

    @property
    def is_hopeless(self) -> bool:
        """Whether workers died so often right after the release began to answer that it is not fit to."""
        return self._early >= CRASHES_ALLOWED
