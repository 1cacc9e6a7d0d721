"""What protocols hand to the plane and get back: a question, and what was answered. Plain data."""

from typing import Literal

import msgspec

from penstock.serving.program.load import ServeFunction
from penstock.serving.program.values import Values

Protocol = Literal["json", "oip", "grpc", "mlflow", "arrow", "batch", "stream"]
PROTOCOLS: tuple[Protocol, ...] = ("json", "oip", "grpc", "mlflow", "arrow", "batch", "stream")


class Caller(msgspec.Struct, frozen=True):
    """Who asks.

    Attributes:
        consumer: The application, as it calls itself; "" when it does not say.
        traceparent: The W3C trace context header, b"" without one.
        variant: What the log is to say of the answer: that a worker of the live release handed the request on, and why.
    """

    consumer: str = ""
    traceparent: bytes = b""
    variant: str = ""


NOBODY = Caller()


class Question(msgspec.Struct, frozen=True):
    """One request to one serve function.

    Attributes:
        fields: Of a function of fields: one Struct per answer that is due. Of a function of rows: exactly one, whose
            rows field holds all rows.
        count: Answers that are due.
        body: As the caller sent it, for the log.
        kind: How `body` is to be read again: "json", "json-rows", "oip", "oip-binary:120", "csv", "arrow"...
        protocol: Label for counters and log.
        parse_ns: Time it took to read.
    """

    function: ServeFunction
    fields: tuple[msgspec.Struct, ...]
    count: int
    body: bytes
    kind: str
    protocol: Protocol
    caller: Caller = NOBODY
    parse_ns: int = 0


class Trouble(msgspec.Struct, frozen=True):
    """Why there is no answer.

    Attributes:
        reason: "function_failed", "overloaded" or "late".
        status: As HTTP says it: 500 or 503.
        retry_after_s: When to try again; None when that would not help.
    """

    reason: Literal["function_failed", "overloaded", "late"]
    status: int
    message: str
    retry_after_s: int | None = None


class Answered(msgspec.Struct, frozen=True):
    """What came of a question; answer i of several is found later as "ID-i".

    Attributes:
        values: The answers; None when there is `trouble`.
        json: The same as JSON: the answer to a function of fields asked once, else a list.
        fallback: At least one answer is the fallback's.
        is_kept: The prediction is with the kernel; False while the disk is full and it waits in memory.
        answer_ns: Time from the question to the answer.
    """

    prediction_id: str
    release: str
    values: Values | None
    json: bytes = b"null"
    trouble: Trouble | None = None
    fallback: bool = False
    is_kept: bool = True
    answer_ns: int = 0
