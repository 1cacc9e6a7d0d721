"""What became of requests: when each was due, left and was answered, and how. Plain arrays that cross a pipe."""

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# In place of an HTTP status: the connection broke, and nobody answered while a caller would have waited.
BROKEN, UNANSWERED = 0, -1


class Phase(msgspec.Struct, frozen=True):
    """A stretch of time in which requests are due at one rate, by a Poisson process."""

    rate_per_s: float
    seconds: float


class LoadOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a generator is to ask.

    Attributes:
        requests: Whole HTTP requests, asked in turn.
        phases: When they are due.
        seed: Of the times at which they are due.
        connections: Callers at once; a request that finds none free waits, and its latency counts.
        patience_s: How long a caller waits before it gives up.
        is_closed: Ask again as soon as each answer is there, for as long as the phases last, instead of at set times.
        gives_up: End early where requests pile up so far that the promise cannot be kept any more.
        keeps_ids: Return the prediction ids of answers.
    """

    host: str
    port: int
    requests: tuple[bytes, ...]
    phases: tuple[Phase, ...]
    seed: int = 0
    connections: int = 64
    patience_s: float = 1.0
    is_closed: bool = False
    gives_up: bool = False
    keeps_ids: bool = False


class LoadReply(msgspec.Struct, frozen=True, kw_only=True):
    """The same as `Outcomes`, as bytes."""

    began_s: float
    cpu_s: float
    wall_s: float
    due: bytes
    left: bytes
    done: bytes
    lag: bytes
    status: bytes
    marks: bytes
    ids: tuple[str, ...] = ()


# Bits of `Outcomes.marks`.
FALLBACK, RETRY_AFTER = 1, 2


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of each request, in the order in which they were due; times in seconds after `began_s`.

    Attributes:
        began_s: Monotonic time of this host.
        cpu_s: Processor time of the generators.
        wall_s: How long they worked.
        due: When the request was to leave.
        left: When it left; NaN where no caller was free before it was given up.
        done: When its answer was whole; infinite where there was none.
        lag: By how much it left late although a caller was free: the generator's own fault.
        status: HTTP status, `BROKEN` or `UNANSWERED`.
        marks: `FALLBACK` where the fallback answered, `RETRY_AFTER` where the refusal says when to come again.
        ids: Prediction ids of the answers, where they were wanted.
    """

    began_s: float
    cpu_s: float
    wall_s: float
    due: Floats
    left: Floats
    done: Floats
    lag: Floats
    status: npt.NDArray[np.int16]
    marks: npt.NDArray[np.uint8]
    ids: tuple[str, ...] = ()

    @property
    def latency_s(self) -> Floats:
        """From when a request was due to its answer, infinite where there was none: no coordinated omission."""
        return self.done - self.due

    @property
    def is_answered(self) -> npt.NDArray[np.bool_]:
        """Which got what they asked for, from the function itself or its fallback."""
        return np.equal(self.status, 200)

    @property
    def is_fallback(self) -> npt.NDArray[np.bool_]:
        """Which the fallback answered."""
        found: npt.NDArray[np.bool_] = (self.marks & FALLBACK) == FALLBACK
        return found

    def between(self, start_s: float, end_s: float) -> "Outcomes":
        """Return those that were due in a stretch of time."""
        chosen = (self.due >= start_s) & (self.due < end_s)
        parts = {name: getattr(self, name)[chosen] for name in ("due", "left", "done", "lag", "status", "marks")}
        return Outcomes(self.began_s, self.cpu_s, self.wall_s, **parts, ids=self.ids)


def packed(found: Outcomes) -> LoadReply:
    """Return outcomes as they cross a pipe."""
    arrays = {name: getattr(found, name).tobytes() for name in ("due", "left", "done", "lag", "status", "marks")}
    return LoadReply(began_s=found.began_s, cpu_s=found.cpu_s, wall_s=found.wall_s, ids=found.ids, **arrays)


def merged(replies: list[LoadReply]) -> Outcomes:
    """Return what several generators saw as one, on the clock of the one that began first."""
    began_s = min(reply.began_s for reply in replies)
    times: dict[str, list[Floats]] = {"due": [], "left": [], "done": []}
    for reply in replies:
        for name, parts in times.items():
            parts.append(np.frombuffer(getattr(reply, name), np.float64) + (reply.began_s - began_s))
    due, left, done = (np.concatenate(parts) for parts in times.values())
    order = np.argsort(due, kind="stable")
    return Outcomes(
        began_s=began_s,
        cpu_s=max(reply.cpu_s for reply in replies),
        wall_s=max(reply.wall_s for reply in replies),
        due=due[order],
        left=left[order],
        done=done[order],
        lag=np.concatenate([np.frombuffer(reply.lag, np.float64) for reply in replies])[order],
        status=np.concatenate([np.frombuffer(reply.status, np.int16) for reply in replies])[order],
        marks=np.concatenate([np.frombuffer(reply.marks, np.uint8) for reply in replies])[order],
        ids=tuple(made for reply in replies for made in reply.ids),
    )


def due_times(phases: tuple[Phase, ...], seed: int) -> Floats:
    """Return when requests are due: a Poisson process whose rate changes from phase to phase."""
    noise = np.random.default_rng(seed)
    found, start = [], 0.0
    for phase in phases:
        count = int(noise.poisson(phase.rate_per_s * phase.seconds))
        found.append(start + np.sort(noise.uniform(0.0, phase.seconds, count)))
        start += phase.seconds
    return np.concatenate(found) if found else np.zeros(0)
