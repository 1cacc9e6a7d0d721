"""Requests that get no page: what is said of them, in one form."""

import structlog

from penstock.core.errors import CheckError, InputError, NotFoundError, PenstockError, StoreError

_events = structlog.get_logger("penstock.web")


class Refused(Exception):  # noqa: N818 -- it is an answer, not a failure
    """A request that gets no page.

    Args:
        status: Of HTTP.
        code: For programs; it does not change.
        message: What is wrong.
        hint: What to do next.
        retry_s: When it may be worth another try; 0 for never.
    """

    def __init__(self, status: int, code: str, message: str, hint: str = "", *, retry_s: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint, self.retry_s = status, code, message, hint, retry_s


def absent() -> Refused:
    """Return what is said of what is not there, and of what a caller may not see: the same."""
    return Refused(404, "not_found", "There is no such page.", "or it is about a pipeline that you have no role for")


def refused(error: PenstockError) -> Refused:
    """Return what a caller is told of an error."""
    match error:
        case NotFoundError():
            status = 404
        case InputError():
            status = 422
        case CheckError():
            status = 409
        case StoreError():
            # What is wrong with a store names its place, and who may look may not know that.
            _events.error("store_failed", code=error.code, message=error.message)
            return Refused(503, error.code, "The store cannot be used now.", "the worker's log says why", retry_s=5)
        case _:
            status = 500
    return Refused(status, error.code, error.message, error.hint)
