"""A request with its reply and how long it took, told to whoever watches; nothing is in the way when nobody does."""

import time
from collections.abc import Callable, Sequence

import msgspec

from penstock.serving.messages import Reply, Request, Respond

_ID = b"x-penstock-prediction-id"
_LONGEST_NAME = 128


class Exchange(msgspec.Struct, frozen=True):
    """One request and its reply.

    Attributes:
        at_ns: When the request had arrived, nanoseconds since 1970.
        duration_ns: From there to the reply.
    """

    request: Request
    reply: Reply
    at_ns: int
    duration_ns: int

    @property
    def route(self) -> str:
        """The path, where there is something at it; "" else: what callers make up is not kept."""
        return "" if self.reply.status in {404, 405} else self.request.path

    @property
    def prediction_id(self) -> str:
        """The id of the prediction; "" when there is none."""
        return next((value.decode("latin-1") for name, value in self.reply.headers if name == _ID), "")

    @property
    def consumer(self) -> str:
        """The application that asked, as it calls itself; "" when it does not say, or not in a name's length."""
        name = self.request.headers.get(b"x-penstock-consumer", b"")
        return name.decode("latin-1") if len(name) <= _LONGEST_NAME else ""


Watcher = Callable[[Exchange], None]


def watching(request: Request, respond: Respond, watchers: Sequence[Watcher]) -> Respond:
    """Return `respond` such that the exchange is told to the watchers, after its reply is on its way.

    Args:
        request: Has just arrived.
        respond: Sends its reply.
        watchers: Called on the event loop; they never raise.
    """
    at_ns, started_ns = time.time_ns(), time.perf_counter_ns()

    def done(reply: Reply) -> None:
        respond(reply)
        exchange = Exchange(request, reply, at_ns, time.perf_counter_ns() - started_ns)
        for watcher in watchers:
            watcher(exchange)

    return done


def tell_refused(request: Request, reply: Reply, watchers: Sequence[Watcher]) -> None:
    """Tell the watchers of a request that was refused by its head alone."""
    exchange = Exchange(request, reply, time.time_ns(), 0)
    for watcher in watchers:
        watcher(exchange)
