"""How a server's processes tell what happens to them: on standard error, readable in a terminal, JSON in a pipe."""

import logging
import sys
import time
from collections.abc import Callable

import structlog

_MOST_PER_S = 20


def log_events(*, is_terminal: bool, level: int = logging.INFO) -> None:
    """Send events to standard error, so that standard output holds what was asked for.

    Args:
        is_terminal: People read them, not programs.
        level: The least that is told, as `logging` numbers it.
    """
    shown: list[structlog.typing.Processor]
    if is_terminal:
        colors = sys.stderr.isatty()
        shown = [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]
    else:
        shown = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            Dam(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if is_terminal else "iso", utc=not is_terminal),
            *shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


class Dam:
    """Lets so many events of a name through in a second, then counts them: ten thousand failing requests are one fact.

    Writing them all would hold up the answers, and fill the disk that the predictions need.

    Args:
        most_per_s: How many of one name.
        now_s: Monotonic time in seconds.
    """

    def __init__(self, most_per_s: int = _MOST_PER_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self._most = most_per_s
        self._now_s = now_s
        self._seen: dict[str, tuple[int, int]] = {}

    def __call__(self, _logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Pass an event on, with how many like it were held back before; or hold it back."""
        name, second = str(event.get("event")), int(self._now_s())
        begun, count = self._seen.get(name, (second, 0))
        held = max(count - self._most, 0) if begun != second else 0
        count = 1 if begun != second else count + 1
        self._seen[name] = (second, count)
        if count > self._most:
            raise structlog.DropEvent
        return {**event, "held_back": held} if held else event
