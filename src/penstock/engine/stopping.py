"""Being asked to stop: Ctrl-C and SIGTERM, noted at once and obeyed where nothing is half said to the ledger.

An exception raised by a signal handler may strike between a transaction and what memory makes of it; a note cannot.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from penstock.core.errors import PenstockError


class CancelledRunError(PenstockError):
    """The run was asked to stop by SIGTERM; Ctrl-C is Python's own KeyboardInterrupt."""

    code = "cancelled"
    exit_code = 143


class Stop:
    """Whether this process was asked to stop.

    Signals raise at once, as Python's own do, except within `held`: there the first one waits for `check`.
    """

    def __init__(self) -> None:
        self._is_held = False
        self._asked: BaseException | None = None

    def ask(self, number: int) -> None:
        """Take note of a signal.

        Raises:
            KeyboardInterrupt: It is SIGINT, and nothing is held or this is the second one.
            CancelledRunError: The same for any other signal.
        """
        name = signal.Signals(number).name
        error = KeyboardInterrupt() if number == signal.SIGINT else CancelledRunError(f"stopped by {name}")
        if not self._is_held or self._asked is not None:
            raise error
        self._asked = error

    def check(self) -> None:
        """Raise what was noted, if anything was."""
        if self._asked is not None:
            raise self._asked

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait for `check`; one that nobody checked is raised at the end."""
        self._is_held = True
        try:
            yield
            self.check()
        finally:
            self._is_held = False


@contextmanager
def signals() -> Iterator[Stop]:
    """Route SIGINT and SIGTERM to a `Stop`; outside the main thread signals are left alone."""
    stop = Stop()

    def told(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        stop.ask(number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, told)
    except ValueError:  # not the main thread, where Python takes no handlers
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
