"""How a server's processes tell what happens to them: on standard error, readable in a terminal, JSON in a pipe."""

import logging
import sys

import structlog


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
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if is_terminal else "iso", utc=not is_terminal),
            *shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
