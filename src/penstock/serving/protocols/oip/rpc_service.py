"""The protocol's gRPC service, by grpcio's asyncio server on the worker's own event loop.

Its messages are generated from `inference.proto` (`make proto`); its methods go through the same plane as HTTP.
Needs the extra `grpc`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from penstock.serving.limits import Limits
from penstock.serving.messages import Permission, Reply, Request, Respond
from penstock.serving.observe.exchanges import Watcher, watching
from penstock.serving.plane.plane import Plane
from penstock.serving.plane.questions import Answered, Question, Trouble
from penstock.serving.protocols.asking import caller_of
from penstock.serving.protocols.oip import inference_pb2 as pb
from penstock.serving.protocols.oip.answers import blamed, chosen, outputs_of, refuse_outputs
from penstock.serving.protocols.oip.bodies import Inferred
from penstock.serving.protocols.oip.models import Model, Models
from penstock.serving.protocols.oip.questions import make_reader
from penstock.serving.protocols.oip.routes import config_of, server_metadata
from penstock.serving.protocols.oip.rpc_tensors import kept_body, read_message, write_message
from penstock.serving.refusals import AnswerError, RequestError

SERVICE = "inference.GRPCInferenceService"
_events = structlog.get_logger("penstock.serving")
_CODES: dict[int, grpc.StatusCode] = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_TROUBLES: dict[str, grpc.StatusCode] = {
    "function_failed": grpc.StatusCode.INTERNAL,
    "overloaded": grpc.StatusCode.UNAVAILABLE,
    "late": grpc.StatusCode.DEADLINE_EXCEEDED,
}
# What watchers are told, who know the statuses of HTTP.
_STATUSES: dict[grpc.StatusCode, int] = {code: status for status, code in _CODES.items()} | {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

_HEALTH = frozenset({"ServerLive", "ServerReady"})

Metadata = Mapping[str, str]
# Returns the metadata with the name of who asks; RequestError 401 or 429 for callers who may not, or not now.
Authorize = Callable[[Metadata, Permission], Metadata]


class _RefusedError(Exception):
    """A call that ends with a status other than OK."""

    def __init__(self, code: grpc.StatusCode, message: str, *, trailing: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.trailing = trailing


class InferenceService:
    """Answers the calls of the service; knows nothing of connections.

    Args:
        plane: What answers.
        release: Its reference, "movies@3".
        limits: Bounds on rows and nesting.
    """

    def __init__(self, plane: Plane, release: str, *, limits: Limits) -> None:
        self._plane = plane
        self._models = Models(plane.program, release)
        self._readers = {name: make_reader(model, limits) for name, model in self._models.by_name.items()}

    def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Say that the server lives."""
        del request
        return pb.ServerLiveResponse(live=True)

    def server_ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Say that the server answers."""
        del request
        return pb.ServerReadyResponse(ready=True)

    def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Say whether the model of this name answers."""
        self._models.find(request.name, request.version)
        return pb.ModelReadyResponse(ready=True)

    def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Tell the server's name, version and extensions."""
        del request
        return pb.ServerMetadataResponse(**server_metadata())

    def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Tell a model's inputs and outputs."""
        told = self._models.find(request.name, request.version).metadata()
        for tensor in (*told["inputs"], *told["outputs"]):
            tensor.pop("parameters", None)  # which the gRPC form of the protocol has no field for
        return pb.ModelMetadataResponse(**told)

    def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """Tell a model's configuration as Triton's clients read it."""
        return pb.ModelConfigResponse(config=config_of(self._models.find(request.name, request.version)))

    def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """List the models."""
        del request
        return pb.RepositoryIndexResponse(models=self._models.index())

    async def model_infer(self, request: pb.ModelInferRequest, metadata: Metadata) -> tuple[Answered, Any]:
        """Answer one infer request; return what the plane said, and the response.

        Raises:
            RequestError: It is refused.
            AnswerError: The answer cannot be told.
        """
        started = time.perf_counter_ns()
        model = self._models.find(request.model_name, request.model_version)
        inferred = read_message(request)
        if model.outputs is not None:
            refuse_outputs(inferred.wanted, [spec.name for spec in model.outputs], model)
        answered = await self._answered(self._question(model, inferred, metadata, started))
        if answered.trouble is not None or answered.values is None:
            if (refused := blamed(answered, inferred.tensors)) is not None:
                raise refused
            raise _troubled(answered.trouble)
        outputs = chosen(outputs_of(answered.values, model), inferred.wanted, model)
        return answered, write_message(answered, model, inferred.wanted, outputs)

    def _question(self, model: Model, inferred: Inferred, metadata: Metadata, started: int) -> Question:
        asked = self._readers[model.name](inferred.tensors)
        is_rows = model.function.fields.rows is not None
        headers = {name.encode(): value.encode() for name, value in metadata.items()}
        body, kind = kept_body(inferred.tensors) if is_rows else (b"", "json")
        return Question(
            function=model.function,
            fields=asked.fields,
            count=asked.count,
            body=body,
            kind=kind,
            protocol="grpc",
            caller=caller_of(Request("POST", f"/{SERVICE}/ModelInfer", headers)),
            parse_ns=time.perf_counter_ns() - started,
        )

    async def _answered(self, question: Question) -> Answered:
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()

        def done(answered: Answered) -> None:
            if not future.done():  # the caller may have gone
                future.set_result(answered)

        self._plane.ask(question, done)
        return await future


class GrpcServer:
    """A listening gRPC server.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, server: grpc.aio.Server, port: int) -> None:
        self._server = server
        self.port = port

    async def drain(self, grace_s: float) -> None:
        """Take no more calls, finish those in flight for at most `grace_s`, then cut them off."""
        await self._server.stop(grace_s)


async def start(
    service: InferenceService,
    *,
    listen: str,
    limits: Limits,
    authorize: Authorize | None = None,
    watchers: Sequence[Watcher] = (),
) -> GrpcServer:
    """Listen on `listen`, "127.0.0.1:8001"; several workers may share one port.

    Raises:
        OSError: The address cannot be bound.
    """
    server = grpc.aio.server(
        maximum_concurrent_rpcs=limits.queue,
        options=[
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", limits.head_bytes),
            ("grpc.absolute_max_metadata_size", limits.head_bytes),
            ("grpc.max_concurrent_streams", limits.queue),
            ("grpc.max_connection_idle_ms", int(limits.idle_s * 1000)),
            ("grpc.server_handshake_timeout_ms", int(limits.receive_s * 1000)),
            ("grpc.so_reuseport", 1),
        ],
    )
    methods = _methods(service, authorize, watchers)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise OSError(f"gRPC cannot listen on {listen}") from error
    await server.start()
    return GrpcServer(server, port)


def _methods(
    service: InferenceService, authorize: Authorize | None, watchers: Sequence[Watcher]
) -> dict[str, grpc.RpcMethodHandler]:
    plain: dict[str, tuple[Callable[[Any], Any], Any]] = {
        "ServerLive": (service.server_live, pb.ServerLiveRequest),
        "ServerReady": (service.server_ready, pb.ServerReadyRequest),
        "ModelReady": (service.model_ready, pb.ModelReadyRequest),
        "ServerMetadata": (service.server_metadata, pb.ServerMetadataRequest),
        "ModelMetadata": (service.model_metadata, pb.ModelMetadataRequest),
        "ModelConfig": (service.model_config, pb.ModelConfigRequest),
        "RepositoryIndex": (service.repository_index, pb.RepositoryIndexRequest),
    }
    found = {
        name: _unary(
            _reading(method, authorize, "health" if name in _HEALTH else "read"), kind, _Watching(name, watchers)
        )
        for name, (method, kind) in plain.items()
    }
    infer = _inferring(service, authorize)
    found["ModelInfer"] = _unary(infer, pb.ModelInferRequest, _Watching("ModelInfer", watchers))
    found["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
        _streaming(infer, _Watching("ModelStreamInfer", watchers)), response_serializer=_serialize
    )
    return found


class _Watching:
    """Tells watchers of the calls of one method, as they are told of requests over HTTP."""

    def __init__(self, name: str, watchers: Sequence[Watcher]) -> None:
        self._path = f"/{SERVICE}/{name}"
        self._watchers = watchers

    def begin(self, received: bytes, context: grpc.aio.ServicerContext) -> Respond:
        """Return what is to be called with the reply, once."""
        if not self._watchers:
            return _nobody
        headers = {name.encode(): value.encode() for name, value in _metadata(context).items()}
        return watching(Request("POST", self._path, headers, received), _nobody, self._watchers)


def _nobody(_reply: Reply) -> None:
    """Nothing: grpcio sends replies itself."""


def _reply(context: grpc.aio.ServicerContext, body: bytes, status: int = 200) -> Reply:
    trailing = tuple((name.encode(), value.encode()) for name, value in context.trailing_metadata() or ())
    return Reply(status, body, headers=trailing)


Answer = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


def _unary(answer: Answer, kind: Any, watching: _Watching) -> grpc.RpcMethodHandler:
    async def call(request: bytes, context: grpc.aio.ServicerContext) -> bytes | None:
        done = watching.begin(request, context)
        try:
            found = _serialize(await _guarded(answer, _parsed(kind, request), context))
        except _RefusedError as refused:
            done(_reply(context, b"", _STATUSES.get(refused.code, 500)))
            await context.abort(refused.code, str(refused), refused.trailing)
            return None
        done(_reply(context, found))
        return found

    return grpc.unary_unary_rpc_method_handler(call)


def _serialize(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


def _parsed(kind: Any, request: bytes) -> Any:
    # Not left to grpcio, which answers a message that is none as a fault of the server.
    try:
        return kind.FromString(request)
    except DecodeError as error:
        message = f"The request is not a message of type {kind.DESCRIPTOR.name}."
        raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message) from error


def _streaming(answer: Answer, watching: _Watching) -> Any:
    async def call(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        async for received in requests:
            request = pb.ModelInferRequest()
            done = watching.begin(received, context)
            try:
                request = _parsed(pb.ModelInferRequest, received)
                found = await _guarded(answer, request, context)
                done(_reply(context, _serialize(found)))
                yield pb.ModelStreamInferResponse(infer_response=found)
            except _RefusedError as refused:
                done(_reply(context, b"", _STATUSES.get(refused.code, 500)))
                reply = pb.ModelInferResponse(id=request.id)
                yield pb.ModelStreamInferResponse(error_message=str(refused), infer_response=reply)

    return call


async def _guarded(answer: Answer, request: Any, context: grpc.aio.ServicerContext) -> Any:
    try:
        return await answer(request, context)
    except RequestError as error:
        raise _RefusedError(_CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), str(error)) from error
    except AnswerError as error:
        raise _RefusedError(grpc.StatusCode.INTERNAL, error.message) from error
    except _RefusedError:
        raise
    except Exception as error:  # the server's edge: a fault of ours must not show its inside
        _events.exception("request_failed")
        raise _RefusedError(grpc.StatusCode.INTERNAL, "The server failed on this request.") from error


def _reading(method: Callable[[Any], Any], authorize: Authorize | None, permission: Permission) -> Answer:
    async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        if authorize is not None:
            authorize(_metadata(context), permission)
        return method(request)

    return answer


def _inferring(service: InferenceService, authorize: Authorize | None) -> Answer:
    async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        metadata: Metadata = _metadata(context)
        if authorize is not None:
            metadata = authorize(metadata, "predict")
        answered, reply = await service.model_infer(request, metadata)
        context.set_trailing_metadata((("x-penstock-prediction-id", answered.prediction_id),))
        return reply

    return answer


def _metadata(context: grpc.aio.ServicerContext) -> dict[str, str]:
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}


def _troubled(trouble: Trouble | None) -> _RefusedError:
    if trouble is None:
        return _RefusedError(grpc.StatusCode.INTERNAL, "There is no answer.")
    trailing: tuple[tuple[str, str], ...] = ()
    if trouble.retry_after_s is not None:  # what clients with a retry policy look at
        trailing = (("grpc-retry-pushback-ms", str(trouble.retry_after_s * 1000)),)
    return _RefusedError(_TROUBLES[trouble.reason], trouble.message, trailing=trailing)
