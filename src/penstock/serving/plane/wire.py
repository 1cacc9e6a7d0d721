"""The one interface of the protocols: a form in which callers ask and are answered."""

from typing import Protocol

from penstock.serving.messages import Reply, Request
from penstock.serving.plane.questions import Answered, Question
from penstock.serving.program.load import ServeFunction
from penstock.serving.refusals import RequestError


class Wire(Protocol):
    """Reads requests into questions and writes answers as replies; calls nothing, waits for nothing."""

    def read(self, request: Request, function: ServeFunction) -> Question:
        """Return what the request asks.

        Raises:
            RequestError: It is not a request of this protocol to this function.
        """
        ...

    def write(self, answered: Answered, function: ServeFunction, request: Request) -> Reply:
        """Return the reply that tells the answers, or the trouble."""
        ...

    def refuse(self, error: RequestError) -> Reply:
        """Return the refusal in the protocol's own shape."""
        ...
