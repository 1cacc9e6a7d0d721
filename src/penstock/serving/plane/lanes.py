"""Where a serve function runs: on the event loop when it is fast, else in threads; joined by tick when it takes rows.

No timer joins questions: what arrives in one turn of the loop, or while a call computes, becomes the next call.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from penstock.serving.limits import Limits
from penstock.serving.plane.calls import LATE, Outcome, call, call_joined
from penstock.serving.plane.questions import Answered, Question
from penstock.serving.program.load import ServeFunction

# A call of this length on the loop holds up the others for as long as parsing a hundred of their requests.
SLOW_NS = 2_000_000
_SLOW_PER_ROW_NS = 20_000
_SURELY_SLOW_NS = 100_000_000
# Judged by the quickest of the last calls: on a busy machine any call may stand still for longer than it computes.
_REMEMBERED = 8
_WEIGHT = 0.1


class Asked:
    """A question on its way through the plane."""

    __slots__ = ("asked_ns", "done", "is_settled", "question", "timer", "variant")

    def __init__(self, question: Question, done: Callable[[Answered], None]) -> None:
        self.question = question
        self.done = done
        self.asked_ns = time.perf_counter_ns()
        self.is_settled = False
        self.timer: asyncio.TimerHandle | None = None
        self.variant = ""


Settle = Callable[[Asked, Outcome], None]


class Lane:
    """The questions of one function, in order; used on the event loop only.

    Args:
        function: Whose.
        settle: Told once per question what came of it.
        called: Told the rows of each call of a function of rows.
        limits: Bounds on what waits and runs.
    """

    def __init__(
        self, function: ServeFunction, *, settle: Settle, called: Callable[[str, int], None], limits: Limits
    ) -> None:
        self._function = function
        self._settle = settle
        self._called = called
        self._limits = limits
        self._is_joined = function.fields.is_batched
        # A declared deadline can only be kept by someone who is free to look at the clock.
        self.is_inline = function.deadline_s is None
        self._waiting: deque[Asked] = deque()
        self._is_flush_due = False
        self._running = 0
        self._recent_ns: deque[int] = deque(maxlen=_REMEMBERED)
        self._mean_ns = 0.0
        self._pool: ThreadPoolExecutor | None = None

    def would_be_late(self) -> bool:
        """Whether a new question must wait longer than its deadline, or than the queue allows."""
        waiting = len(self._waiting)
        if waiting >= self._limits.queue:
            return True
        if self._function.deadline_s is None or waiting + self._running < self._threads:
            return False
        return (waiting + self._running) / self._threads * self._mean_ns > self._function.deadline_s * 1e9

    @property
    def held(self) -> int:
        """Questions that wait, and calls that run in threads."""
        return len(self._waiting) + self._running

    def wait_s(self) -> float:
        """Return about how long a new question would wait."""
        return (len(self._waiting) + self._running) / self._threads * self._mean_ns / 1e9

    def take(self, asked: Asked) -> None:
        """Call the function for a question, now or when it is its turn."""
        if self.is_inline and not self._is_joined and not self._running:
            started = time.perf_counter_ns()
            outcome = call(self._function, asked.question)
            self._note(time.perf_counter_ns() - started, 1)
            self._end(asked, outcome)
            return
        self._waiting.append(asked)
        if self._function.deadline_s is not None:
            loop = asyncio.get_running_loop()
            asked.timer = loop.call_later(self._function.deadline_s, self._end, asked, LATE)
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def learn(self, calls_ns: Sequence[int]) -> None:
        """Hear at warm-up how long calls of one row take."""
        if calls_ns:
            self._mean_ns = self._mean_ns or float(min(calls_ns))
            self._place(min(calls_ns))

    def close(self) -> None:
        """Let go of the threads; a function that never returns is left behind."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def _threads(self) -> int:
        # Only who declares a deadline has been told that calls overlap.
        return 1 if self._function.deadline_s is None else self._limits.threads

    def _flush(self) -> None:
        self._is_flush_due = False
        while self._waiting and self._running < (1 if self.is_inline else self._threads):
            group = self._next_group()
            if not group:
                return
            questions = [asked.question for asked in group]
            if self._is_joined:
                self._called(self._function.name, sum(question.count for question in questions))
            if self.is_inline:
                self._finish(group, *_timed(self._function, questions))
            else:
                self._submit(group, questions)

    def _next_group(self) -> list[Asked]:
        """Return the next questions to call together; those that are settled already have been answered otherwise."""
        group: list[Asked] = []
        rows = 0
        while self._waiting:
            asked = self._waiting[0]
            if asked.is_settled:
                self._waiting.popleft()
                continue
            rows += asked.question.count
            if group and (not self._is_joined or rows > self._limits.batch_rows):
                break
            group.append(self._waiting.popleft())
        return group

    def _submit(self, group: list[Asked], questions: list[Question]) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=f"serve-{self._function.name}")
        loop = asyncio.get_running_loop()
        self._running += 1

        def run() -> None:
            outcomes, took_ns = _timed(self._function, questions)
            try:
                loop.call_soon_threadsafe(self._finish_thread, group, outcomes, took_ns)
            except RuntimeError:  # the loop has ended while a function that nobody waits for went on
                return

        self._pool.submit(run)

    def _finish_thread(self, group: list[Asked], outcomes: list[Outcome], took_ns: int) -> None:
        self._running -= 1
        self._finish(group, outcomes, took_ns)
        self._flush()

    def _finish(self, group: list[Asked], outcomes: list[Outcome], took_ns: int) -> None:
        self._note(took_ns, sum(asked.question.count for asked in group))
        for asked, outcome in zip(group, outcomes, strict=True):
            self._end(asked, outcome)

    def _end(self, asked: Asked, outcome: Outcome) -> None:
        if asked.is_settled:
            return
        asked.is_settled = True
        if asked.timer is not None:
            asked.timer.cancel()
        self._settle(asked, outcome)

    def _note(self, took_ns: int, rows: int) -> None:
        self._mean_ns += (took_ns - self._mean_ns) * (_WEIGHT if self._mean_ns else 1.0)
        self._recent_ns.append(took_ns - _SLOW_PER_ROW_NS * (rows - 1))
        if len(self._recent_ns) == _REMEMBERED or self._recent_ns[-1] > _SURELY_SLOW_NS:
            self._place(min(self._recent_ns))
            self._recent_ns.clear()

    def _place(self, call_ns: int) -> None:
        if self._function.deadline_s is None:
            self.is_inline = call_ns <= SLOW_NS


def _timed(function: ServeFunction, questions: list[Question]) -> tuple[list[Outcome], int]:
    started = time.perf_counter_ns()
    outcomes = call_joined(function, questions)
    return outcomes, time.perf_counter_ns() - started
