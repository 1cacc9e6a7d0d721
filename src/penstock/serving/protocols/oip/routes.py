"""The protocol over HTTP: metadata and readiness made when the worker starts, and `infer`.

Also what Triton's clients ask beyond the protocol: the configuration of a model and the index of the repository.
"""

import importlib.metadata
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import msgspec

from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Respond, Route
from penstock.serving.plane.plane import Plane
from penstock.serving.plane.questions import Answered, Question
from penstock.serving.program.load import ServeFunction
from penstock.serving.protocols.asking import caller_of
from penstock.serving.protocols.oip.answers import error_body, refuse_outputs, write_reply
from penstock.serving.protocols.oip.bodies import Inferred, header_length_of, read_infer
from penstock.serving.protocols.oip.models import Model, Models
from penstock.serving.protocols.oip.operations import infer_operation, page_operation
from penstock.serving.protocols.oip.questions import make_reader
from penstock.serving.protocols.oip.tensors import shown
from penstock.serving.refusals import RequestError

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters")
_LIMITS = Limits()
_ANY_BODY = ("*",)


class InferWire:
    """Reads infer requests to one model and writes their replies.

    Args:
        model: The model asked.
        limits: Bounds on rows and nesting.
    """

    def __init__(self, model: Model, limits: Limits = _LIMITS) -> None:
        self._model = model
        self._ask = make_reader(model, limits)

    def read(self, request: Request, function: ServeFunction) -> Question:
        """Return what an infer request asks.

        Raises:
            RequestError: 400 when the body is no infer request, 422 when a tensor does not fit the function.
        """
        return self.read_inferred(request, function)[0]

    def read_inferred(self, request: Request, function: ServeFunction) -> tuple[Question, Inferred]:
        """Return what an infer request asks, with its tensors and the form of the reply it wants.

        Raises:
            RequestError: As `read`.
        """
        started = time.perf_counter_ns()
        length = header_length_of(request.headers)
        inferred = read_infer(request.body, length)
        model = self._model
        if inferred.wanted.outputs is not None and model.outputs is not None:
            refuse_outputs(inferred.wanted, [spec.name for spec in model.outputs], model)
        asked = self._ask(inferred.tensors)
        question = Question(
            function=function,
            fields=asked.fields,
            count=asked.count,
            body=request.body,
            kind="oip" if length is None else f"oip-binary:{length}",
            protocol="oip",
            caller=caller_of(request),
            parse_ns=time.perf_counter_ns() - started,
        )
        return question, inferred

    def write(self, answered: Answered, function: ServeFunction, request: Request) -> Reply:
        """Return the reply that tells the answers, or the trouble."""
        del function  # the model knows it
        return write_reply(answered, self._model, read_infer(request.body, header_length_of(request.headers)))

    def refuse(self, error: RequestError) -> Reply:
        """Return `{"error": "..."}`, the shape of the protocol."""
        return refuse(error)


def refuse(error: RequestError) -> Reply:
    """Return a refusal in the protocol's own shape: `error` is text that says what was expected."""
    return Reply(error.status, error_body(error.message, error.hint))


def routes(plane: Plane, release: str, *, limits: Limits = _LIMITS) -> dict[str, Route]:
    """Return the routes of the protocol; a path that ends with `/*` stands for all below it that have none.

    Args:
        plane: What answers.
        release: Its reference, "movies@3".
        limits: Bounds on rows and nesting.
    """
    models = Models(plane.program, release)
    server = server_metadata()
    found = {
        "/v2": _page(server, page_operation("v2", "The server's name, version and extensions.")),
        "/v2/health/live": _page({"live": True}, page_operation("v2_live", "Whether the server lives.")),
        "/v2/health/ready": _page({"ready": True}, page_operation("v2_ready", "Whether the server answers.")),
        "/v2/repository/index": Route(
            methods=frozenset({"POST"}),
            permission="read",
            handle=_constant(models.index()),
            kinds=_ANY_BODY,
            refuse=refuse,
        ),
    }
    for name, model in models.by_name.items():
        infer = _infer(plane, model, limits)
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{model.version}"):
            found |= {
                path: _page(model.metadata),
                f"{path}/ready": _page({"name": name, "ready": True}),
                f"{path}/config": _page(lambda model=model: config_of(model)),
                f"{path}/infer": infer,
            }
    for name in plane.program.functions:  # once each: the paths of versions and other names are the same again
        model, path = models.by_name[name], f"/v2/models/{name}"
        about = page_operation(f"v2_{name}", f"The inputs and outputs of {name}.")
        found[path] = msgspec.structs.replace(found[path], operation=about)
        found[f"{path}/infer"] = msgspec.structs.replace(found[f"{path}/infer"], operation=infer_operation(model))
    every = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
    found["/v2/*"] = Route(
        methods=every, permission="read", handle=_missing(models, found.keys()), kinds=_ANY_BODY, refuse=refuse
    )
    return found


def server_metadata() -> dict[str, Any]:
    """Return what the server tells of itself."""
    return {"name": "penstock", "version": importlib.metadata.version("penstock"), "extensions": list(EXTENSIONS)}


def config_of(model: Model) -> dict[str, Any]:
    """Return what Triton's `config` tells of a model, as far as it means anything here."""
    described = model.metadata()
    return {
        "name": model.name,
        "platform": described["platform"],
        "backend": described["platform"],
        "max_batch_size": 0,
        "input": [
            {**_config_tensor(tensor), "optional": bool(tensor.get("parameters", {}).get("optional", False))}
            for tensor in described["inputs"]
        ],
        "output": [_config_tensor(tensor) for tensor in described["outputs"]],
    }


def _config_tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    datatype = "STRING" if tensor["datatype"] == "BYTES" else tensor["datatype"]
    return {"name": tensor["name"], "data_type": f"TYPE_{datatype}", "dims": tensor["shape"]}


def _infer(plane: Plane, model: Model, limits: Limits) -> Route:
    wire = InferWire(model, limits)

    def handle(request: Request, respond: Respond) -> None:
        question, inferred = wire.read_inferred(request, model.function)

        def tell(answered: Answered) -> None:
            respond(write_reply(answered, model, inferred))

        plane.answer(question, tell, request, respond)

    return Route(methods=frozenset({"POST"}), permission="predict", handle=handle, kinds=_ANY_BODY, refuse=wire.refuse)


def _page(content: object, operation: dict[str, Any] | None = None) -> Route:
    return Route(
        methods=frozenset({"GET"}), permission="read", handle=_constant(content), operation=operation, refuse=refuse
    )


def _constant(content: object) -> Callable[[Request, Respond], None]:
    if callable(content):  # what the first answer may add to
        return lambda _request, respond: respond(Reply(200, msgspec.json.encode(content())))
    reply = Reply(200, msgspec.json.encode(content))
    return lambda _request, respond: respond(reply)


def _missing(models: Models, paths: Iterable[str]) -> Callable[[Request, Respond], None]:
    def handle(request: Request, respond: Respond) -> None:
        del respond
        parts = unquote(request.path).split("/")[2:]
        if parts[:1] == ["models"] and len(parts) > 1:
            model = models.find(parts[1])
            if parts[2:3] == ["versions"] and len(parts) > 3:
                model.refuse_version(parts[3])
        if parts[:2] == ["repository", "models"]:
            raise RequestError(
                "Models are not loaded and unloaded by callers here.",
                status=400,
                reason="not_loadable",
                hint="the live release is served; `penstock run` makes a newer one",
            )
        raise RequestError(
            f"The Open Inference Protocol has nothing at {shown(request.path)}.",
            status=404,
            reason="not_found",
            hint=f"there is {', '.join(sorted(paths)[:12])}",
        )

    return handle
