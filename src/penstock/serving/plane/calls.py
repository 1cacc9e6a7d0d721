"""One call of a serve function, for one question or for several joined: what user code does stays within here."""

import time

import msgspec

from penstock.serving.plane.questions import Question
from penstock.serving.program.load import ServeFunction
from penstock.serving.program.rows import RowsGiven, join_rows
from penstock.serving.program.values import Values, joined

# SystemExit and KeyboardInterrupt too: a function that calls sys.exit() must not end the worker.
USER_ERRORS = (Exception, SystemExit, KeyboardInterrupt)


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """What a call came to: answers with their JSON, or the error.

    Attributes:
        json: Of a function of fields asked once, its answer; else the list of answers.
        error: What user code raised, or that the answer cannot be sent.
    """

    values: Values | None = None
    json: bytes = b"null"
    error: BaseException | None = None
    fallback: bool = False


LATE = Outcome(error=TimeoutError())


def call(function: ServeFunction, question: Question) -> Outcome:
    """Call a function for one question; nothing that user code raises gets out."""
    try:
        values = function.values(question.fields[0]) if len(question.fields) == 1 else _each(function, question)
        return _told(function, values, question.count)
    except USER_ERRORS as error:
        return Outcome(error=error)


def call_joined(function: ServeFunction, questions: list[Question]) -> list[Outcome]:
    """Call a function of rows once for several questions; one by one when that fails, so that none spoils another."""
    if len(questions) == 1:
        return [call(function, questions[0])]
    name, form = function.fields.rows, function.fields.form
    if name is None or form is None:
        return [call(function, question) for question in questions]
    parts: list[RowsGiven] = [getattr(question.fields[0], name) for question in questions]
    try:
        rows = join_rows(parts, form, function.fields.columns)
        values = function.values(function.fields.type(**{name: rows})).listed()
    except USER_ERRORS:
        return [call(function, question) for question in questions]
    outcomes, start = [], 0
    for question in questions:
        outcomes.append(_told_or_error(function, values.slice(start, question.count), question.count))
        start += question.count
    return outcomes


def timed_ns(function: ServeFunction, fields: msgspec.Struct) -> tuple[int, Outcome]:
    """Return how long a call took, and what it came to."""
    count = 1 if function.fields.rows is None else len(getattr(fields, function.fields.rows))
    question = Question(function=function, fields=(fields,), count=count, body=b"", kind="json", protocol="json")
    started = time.perf_counter_ns()
    outcome = call(function, question)
    return time.perf_counter_ns() - started, outcome


def _each(function: ServeFunction, question: Question) -> Values:
    return joined([function.values(fields) for fields in question.fields])


def _told(function: ServeFunction, values: Values, count: int) -> Outcome:
    is_one = function.fields.rows is None and count == 1
    return Outcome(values, values.one_json() if is_one else values.json())


def _told_or_error(function: ServeFunction, values: Values, count: int) -> Outcome:
    try:
        return _told(function, values, count)
    except USER_ERRORS as error:
        return Outcome(error=error)
