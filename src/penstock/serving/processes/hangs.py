"""Finds workers whose event loop stands still: the process lives, and nobody is answered."""

import time

from penstock.serving.observe.counters import read_beat
from penstock.serving.processes.workers import WorkerProcess

_LOOK_S = 0.5
_GAP_S = 2.0
_DEADLINES = 3.0


class HangWatch:
    """Looks at the beats of workers now and then.

    Args:
        hang_s: Longest silence of a worker that is not yet a hang.
    """

    def __init__(self, hang_s: float) -> None:
        self._hang_s = hang_s
        self._looked_s = self._watching_s = time.monotonic()

    def hung(self, workers: list[WorkerProcess]) -> list[tuple[WorkerProcess, float]]:
        """Return workers that are ready and silent for too long, with their silence in seconds."""
        now_s = time.monotonic()
        if now_s - self._looked_s < min(_LOOK_S, self._hang_s / 4):
            return []
        if now_s - self._looked_s > _GAP_S:
            # This process stood still itself (Ctrl-Z, a paused machine), and so did they, perhaps.
            self._watching_s = now_s
        self._looked_s = now_s
        silences = ((worker, self._silence_s(worker, now_s)) for worker in workers if worker.state == "ready")
        return [(worker, silent_s) for worker, silent_s in silences if silent_s > self._allowed_s(worker)]

    def _silence_s(self, worker: WorkerProcess, now_s: float) -> float:
        beat_s = read_beat(worker.counters)
        if beat_s is None:  # a full disk left it without a file: nothing can be said
            return 0.0
        return now_s - max(beat_s, worker.ready_s or now_s, self._watching_s)

    def _allowed_s(self, worker: WorkerProcess) -> float:
        longest_s = 0.0 if worker.status is None else worker.status.longest_s
        return max(self._hang_s, _DEADLINES * longest_s)
