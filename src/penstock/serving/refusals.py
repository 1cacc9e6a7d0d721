"""Errors of the serving room: a request that is refused, an answer that cannot be sent.

InputError
└── RequestError     the caller's mistake; carries the HTTP status, a stable reason and the field
    └── DeniedError  the caller may not ask, or not now
StepError
└── AnswerError      a serve function gave something that is not valid JSON
"""

from penstock.core.errors import InputError, StepError


class RequestError(InputError):
    """A request that is refused, with what was expected.

    Args:
        message: What was found and what was expected; never a value of the caller's.
        status: HTTP status, 400 to 499.
        reason: Stable word for programs, as "invalid_field".
        field: Path of the field within the body, "" when it is not about one.
        hint: The next action.
    """

    code = "request"

    def __init__(self, message: str, *, status: int, reason: str, field: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.field = field


class DeniedError(RequestError):
    """A caller who may not ask, or has asked too often.

    Args:
        message: Why; never a part of a key.
        status: 401 or 429.
        reason: Stable word for programs, as "bad_key".
        retry_after_s: When to ask again; None when that would not help.
        hint: The next action.
    """

    def __init__(
        self, message: str, *, status: int = 401, reason: str, retry_after_s: int | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, status=status, reason=reason, hint=hint)
        self.retry_after_s = retry_after_s


def why_unreadable(error: Exception) -> str:
    """Return why JSON could not be read, in words that no version of the parser changes."""
    if isinstance(error, RecursionError):
        return "it nests too deep"
    found = str(error).removeprefix("JSON is malformed: ")
    # Before msgspec 0.23 a UnicodeDecodeError, which would show the bytes.
    if isinstance(error, UnicodeDecodeError) or found.startswith("Invalid UTF-8"):
        return "it is not UTF-8"
    return found


class AnswerError(StepError):
    """A serve function returned something that cannot be sent as JSON.

    Args:
        message: What it returned.
        hint: The next action.
        is_not_finite: It held NaN or an infinity.
    """

    code = "answer"

    def __init__(self, message: str, *, hint: str = "", is_not_finite: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_not_finite = is_not_finite
