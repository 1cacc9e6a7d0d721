"""Asks a release in the forms of MLflow and Arrow, as the HTTP front end would."""

import asyncio
from pathlib import Path

from oip_program import Asker
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Route, refusal
from penstock.serving.program.load import Program
from penstock.serving.protocols import arrow, mlflow, typed
from penstock.serving.refusals import RequestError


class TableAsker(Asker):
    """An `Asker` for the typed routes with Arrow, and for MLflow's."""

    def __init__(self, program: Program, home: Path, limits: Limits) -> None:
        super().__init__(program, home, limits)
        named = typed.routes(self._plane, "movies@3")
        tables = arrow.routes(self._plane, "movies@3", named, limits=limits)
        self.routes: dict[str, Route] = {**tables, **mlflow.routes(self._plane, "movies@3", limits=limits)}

    def post(self, path: str, body: bytes, kind: str = "application/json", accept: str = "*/*") -> Reply:
        """Send a body."""
        return self.send(Request("POST", path, {b"content-type": kind.encode(), b"accept": accept.encode()}, body))

    async def _reply(self, request: Request) -> Reply:
        route = self.routes[request.path]
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            route.handle(request, reply.set_result)
        except RequestError as error:
            return (route.refuse or refusal)(error)
        return await reply
