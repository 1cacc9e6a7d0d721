"""A process that stays, for callers that ask often: it imports the user's libraries and code once.

Run as `python -P -B -m penstock.serving.processes.staying PARENT`. A line in is the name of a module of this room and
an order for it, as JSON; a line out is its reply. All orders are of one code snapshot: Python keeps what it imported.
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable

import msgspec

from penstock.core.process import die_with_parent
from penstock.core.records import Record

Answer = Callable[[bytes], bytes]


class Order(Record, frozen=True, kw_only=True):
    """What one module is asked.

    Attributes:
        module: One with a function `open_asking` that returns what answers its orders.
        order: The order, as that module reads it.
    """

    module: str
    order: msgspec.Raw


class ProveOrder(Record, frozen=True, kw_only=True):
    """Which release is to be proven.

    Attributes:
        home: The project's store.
        manifest: Digest of the manifest's blob.
    """

    home: str
    manifest: str


def main(arguments: list[str]) -> int:
    """Answer orders until the caller closes its end."""
    die_with_parent(int(arguments[0]))
    _say_nothing()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what user code prints must not be mixed into the answers
    opened: dict[str, Answer] = {}
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        if order.module not in opened:
            opened[order.module] = importlib.import_module(order.module).open_asking()
        out.write(opened[order.module](bytes(order.order)) + b"\n")
        out.flush()
    return 0


def answer_quietly(answer: Answer, order: bytes) -> None:
    """Answer one order on standard output; what user code prints goes to standard error."""
    _say_nothing()
    out = os.dup(1)
    os.dup2(2, 1)
    reply = memoryview(answer(order))
    while reply:
        reply = reply[os.write(out, reply) :]


def _say_nothing() -> None:
    import structlog  # noqa: PLC0415 -- whoever only writes an order loads it not

    # What goes wrong is in the reply; events are for the logs of servers.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
