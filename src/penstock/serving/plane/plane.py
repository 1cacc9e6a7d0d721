"""From a question to an answer, whatever protocol asked: where to call, deadline, fallback, log, counters."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Literal

import msgspec
import structlog

from penstock.core.clock import Clock
from penstock.serving.limits import Limits
from penstock.serving.messages import Request, Respond
from penstock.serving.observe.counters import Counters
from penstock.serving.plane.calls import LATE, Outcome, call, timed_ns
from penstock.serving.plane.lanes import Asked, Lane
from penstock.serving.plane.questions import Answered, Question, Trouble
from penstock.serving.plane.split import Aside, Exchange, Split, drawn
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.serving.program.load import Program, ServeFunction, user_frames
from penstock.serving.program.stand_ins.comparison import Comparison
from penstock.serving.refusals import AnswerError, RequestError

_events = structlog.get_logger("penstock.serving")
_SHED = Outcome(error=BlockingIOError())
# What the log says of answers that were given to learn.
EXPLORE = "explore"
_WARM_REQUESTS = 6
_WARM_NS = 1_000_000_000


class Plane:
    """Answers questions with one release; used on one event loop.

    Args:
        program: The release, loaded.
        release: Its reference as text, "movies@3".
        log: Where predictions go.
        counters: What is counted.
        limits: Bounds on what waits and runs.
        clock: The time of predictions.

    Attributes:
        aside: What takes requests that another release is to answer, or to see; None while there is no such.
    """

    def __init__(
        self, program: Program, release: str, *, log: PredictionLog, counters: Counters, limits: Limits, clock: Clock
    ) -> None:
        self.program = program
        self.release = release
        self._log = log
        self._counters = counters
        self._clock = clock
        self._encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
        self._lanes = {
            name: Lane(function, settle=self._settle, called=counters.batch, limits=limits)
            for name, function in program.functions.items()
        }
        self._settled: list[tuple[Asked, Outcome]] = []
        self._comparison: Comparison | None = None
        self._exploring = 0.0
        self._dealing: Split | None = None
        self.aside: Aside | None = None
        self._hear: Callable[[BaseException], None] | None = None

    def tell_errors_to(self, hear: Callable[[BaseException], None]) -> None:
        """Have someone in this process hear what user code raised; callers never do."""
        self._hear = hear

    def ask(self, question: Question, done: Callable[[Answered], None]) -> None:
        """Answer a question; `done` is called exactly once, on the event loop, after the prediction is kept."""
        asked = Asked(question, done)
        if (self._exploring or self._dealing is not None) and self._answer_simply(asked):
            return
        lane = self._lanes[question.function.name]
        if lane.would_be_late():
            asked.is_settled = True
            self._counters.shed(question.function.name)
            self._settle(asked, _SHED)
        else:
            lane.take(asked)

    def answer(self, question: Question, done: Callable[[Answered], None], request: Request, respond: Respond) -> None:
        """Answer a request as `ask` does, or have another release answer it while they share requests.

        Args:
            question: What the request asks.
            done: Called with this release's answer.
            request: Whole, to be handed on.
            respond: Called with the reply of the other release.
        """
        aside = self.aside
        if aside is None:
            self.ask(question, done)
            return
        exchange = Exchange(request=request, respond=respond, otherwise=lambda: self.ask(question, done))
        if not aside.take(question, _key_of(question).encode() or question.body, exchange):
            self.ask(question, done)

    def note_refused(self, function: str, variant: str) -> None:
        """Keep that this release refused a request which the live one takes; nobody was answered by it."""
        at = self._clock.now()
        entry = LogEntry(
            id=self._log.new_id(at),
            at=at,
            release=self.release,
            serve=function,
            fields=_NO_FIELDS,
            error=RequestError.__qualname__,
            variant=variant,
        )
        self._log.append([entry])

    def compare_with(self, comparison: Comparison) -> None:
        """Have a sample of the answers of faster equivalents compared with those of the original models."""
        self._comparison = comparison

    def explore(self, share: float) -> None:
        """Have a share of the questions, 0 to 1, answered by the fallback although the model could.

        What a model is shown of the world depends on what it answered. Of these answers it does not: they tell what
        the simple way would have come to, and what the model never tries. Who is among them is a matter of chance, of
        the release and of the key that the function declares (the body where it declares none), so the same person
        gets the same kind of answer while a release lives.
        """
        self._exploring = share

    def deal(self, split: Split | None) -> None:
        """Have the keys that an experiment deals to the fallback answered by it from now on; None for none."""
        self._dealing = split

    def _answer_simply(self, asked: Asked) -> bool:
        """Answer a question by the fallback if it falls to it; return whether that was done."""
        question = asked.question
        fallback = question.function.fallback
        if fallback is None:
            return False
        variant = self._why_simply(_key_of(question).encode() or question.body)
        if not variant:
            return False
        outcome = call(fallback, question)
        if outcome.error is not None:  # then it is the model's turn
            _report(outcome, function=fallback, prediction_id="", release=self.release)
            return False
        asked.is_settled, asked.variant = True, variant
        self._settle(asked, outcome)
        return True

    def _why_simply(self, key: bytes) -> str:
        """Return the variant by which a key falls to the fallback; "" where it does not."""
        dealing = self._dealing
        if dealing is not None and drawn(key, dealing.salt) < dealing.share:
            return dealing.variant
        digest = hashlib.blake2b(key, digest_size=8, person=b"explore", key=self.release.encode()[-64:]).digest()
        return EXPLORE if int.from_bytes(digest, "big") < self._exploring * 2.0**64 else ""

    def warm_up(self) -> None:
        """Answer the release's examples, so that the first caller does not wait for what is made on first use."""
        for name, function in self.program.functions.items():
            try:
                asked = [function.fields.parse(self._encode(example)) for example in function.examples[:_WARM_REQUESTS]]
            except RequestError as error:
                _events.warning("example_refused", function=name, message=error.message)
                continue
            self._lanes[name].learn(self._warm(function, asked))
            if function.fallback is not None:
                self._warm(function.fallback, asked)

    def _warm(self, function: ServeFunction, asked: list[msgspec.Struct]) -> list[int]:
        """Return how long calls took, without the first, which also makes what is made once."""
        took_ns: list[int] = []
        until_ns = time.perf_counter_ns() + _WARM_NS
        for fields in asked:
            call_ns, outcome = timed_ns(function, fields)
            took_ns.append(call_ns)
            if outcome.error is not None:
                _events.warning("example_failed", function=function.name, error=type(outcome.error).__qualname__)
            if time.perf_counter_ns() > until_ns:
                break
        return took_ns[1:] or took_ns

    @property
    def held(self) -> int:
        """Questions that wait, and calls that run in threads, of all functions."""
        return sum(lane.held for lane in self._lanes.values())

    def close(self) -> None:
        """Let go of the threads; a function that never returns is left behind."""
        for lane in self._lanes.values():
            lane.close()

    def _settle(self, asked: Asked, outcome: Outcome) -> None:
        # All that is settled in one turn of the loop goes to the log in one write.
        if not self._settled:
            asyncio.get_running_loop().call_soon(self._finish)
        self._settled.append((asked, outcome))

    def _finish(self) -> None:
        settled, self._settled = self._settled, []
        at = self._clock.now()
        answers: list[tuple[Asked, Answered]] = []
        entries: list[LogEntry] = []
        attached: list[bytes | None] = []
        for asked, first in settled:
            prediction_id = self._log.new_id(at)
            outcome = first if first.error is None else self._fall_back(asked.question, first, prediction_id)
            question = asked.question
            answer_ns = time.perf_counter_ns() - asked.asked_ns
            is_rows = question.function.fields.rows is not None
            entries.append(
                LogEntry(
                    id=prediction_id,
                    at=at,
                    release=self.release,
                    serve=question.function.name,
                    fields=self._stored_fields(question),
                    answer=msgspec.Raw(outcome.json),
                    timings={"parse_us": question.parse_ns // 1000, "answer_us": answer_ns // 1000},
                    fallback=outcome.fallback,
                    error=None if first.error is None else _reason(first),
                    key=_key_of(question),
                    variant=asked.variant or question.caller.variant,
                    consumer=question.caller.consumer,
                    protocol=question.protocol,
                    count=question.count,
                    kind=question.kind,
                )
            )
            # Rows are kept as they were sent: they were read without a loss, and encoding them again costs more.
            attached.append(question.body if is_rows else None)
            answers.append((asked, self._answered(prediction_id, first, outcome, answer_ns)))
        is_kept = self._log.append(entries, attached)
        for asked, answered in answers:
            self._count(asked.question, answered)
            asked.done(answered if is_kept else msgspec.structs.replace(answered, is_kept=False))
        if self._comparison is not None:
            for asked, first in settled:
                if not asked.variant:
                    self._compare(self._comparison, asked.question, first)

    def _compare(self, comparison: Comparison, question: Question, outcome: Outcome) -> None:
        # On the loop, like every call of a function without a deadline: such functions are promised not to overlap.
        function = question.function
        if outcome.values is None or len(question.fields) != 1 or not comparison.is_due(function):
            return
        difference = comparison.compare(function, question.fields[0], outcome.values)
        self._counters.compared(function.name, differing=difference is not None)

    def _stored_fields(self, question: Question) -> msgspec.Raw:
        fields = question.function.fields
        if fields.is_batched:
            return _NO_FIELDS
        if fields.rows is not None:
            rest = {name: getattr(question.fields[0], name) for name in fields.type.__struct_fields__}
            del rest[fields.rows]
            return msgspec.Raw(self._encode(rest))
        return msgspec.Raw(self._encode(question.fields[0] if question.count == 1 else question.fields))

    def _fall_back(self, question: Question, first: Outcome, prediction_id: str) -> Outcome:
        function = question.function
        _report(first, function=function, prediction_id=prediction_id, release=self.release)
        if self._hear is not None and first.error is not None:
            self._hear(first.error)
        if isinstance(first.error, AnswerError) and first.error.is_not_finite:
            self._counters.not_finite(function.name)
        if function.fallback is None:
            return first
        second = call(function.fallback, question)
        if second.error is not None:
            _report(second, function=function.fallback, prediction_id=prediction_id, release=self.release)
            return first
        self._counters.fell_back(function.name, _trouble_reason(first))
        return msgspec.structs.replace(second, fallback=True)

    def _answered(self, prediction_id: str, first: Outcome, outcome: Outcome, answer_ns: int) -> Answered:
        trouble = None
        if outcome.error is not None:
            reason = _trouble_reason(first)
            trouble = _TROUBLES[reason]
        return Answered(
            prediction_id=prediction_id,
            release=self.release,
            values=outcome.values,
            json=outcome.json,
            trouble=trouble,
            fallback=outcome.fallback,
            answer_ns=answer_ns,
        )

    def _count(self, question: Question, answered: Answered) -> None:
        status = "answered"
        if answered.trouble is not None:
            status = answered.trouble.reason
        elif answered.fallback:
            status = "fallback"
        self._counters.served(question.function.name, question.protocol, status, answered.answer_ns, question.count)


_NO_FIELDS = msgspec.Raw(b"{}")
_TROUBLES = {
    "function_failed": Trouble("function_failed", 500, "The pipeline's function failed on this request."),
    "late": Trouble("late", 503, "The answer would have come too late.", 1),
    "overloaded": Trouble("overloaded", 503, "More requests wait than can be answered in time.", 1),
}


def _trouble_reason(outcome: Outcome) -> Literal["function_failed", "late", "overloaded"]:
    if outcome is LATE:
        return "late"
    return "overloaded" if outcome is _SHED else "function_failed"


def _reason(outcome: Outcome) -> str:
    if outcome is LATE:
        return "deadline"
    return "overloaded" if outcome is _SHED else type(outcome.error).__qualname__


def _key_of(question: Question) -> str:
    name = question.function.key
    return "" if name is None or question.count != 1 else str(getattr(question.fields[0], name))


def _report(outcome: Outcome, *, function: ServeFunction, prediction_id: str, release: str) -> None:
    if outcome is _SHED:
        return  # counted; a line per request would add to the load
    if outcome is LATE:
        _events.warning("deadline_missed", function=function.name, prediction_id=prediction_id, release=release)
        return
    # Frames only: the message of a user's exception may hold the caller's values.
    _events.error(
        "function_failed",
        function=function.name,
        prediction_id=prediction_id,
        release=release,
        error=type(outcome.error).__qualname__,
        traceback="" if outcome.error is None else user_frames(outcome.error),
    )
