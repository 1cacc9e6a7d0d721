"""The one way to start gRPC; imports grpcio only when it is wanted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.core.errors import UnsupportedError
from penstock.serving.limits import Limits
from penstock.serving.observe.exchanges import Watcher
from penstock.serving.plane.plane import Plane

if TYPE_CHECKING:
    from penstock.serving.protocols.oip.rpc_service import Authorize, GrpcServer


async def serve_grpc(
    plane: Plane,
    release: str,
    *,
    listen: str,
    limits: Limits,
    authorize: "Authorize | None" = None,
    watchers: Sequence[Watcher] = (),
) -> "GrpcServer":
    """Serve the Open Inference Protocol by gRPC on the running event loop, until the server is drained.

    Args:
        plane: What answers.
        release: Its reference, "movies@3".
        listen: Host and port, "127.0.0.1:8001"; workers of one server share it.
        limits: Bounds on messages, metadata, calls at once and silence.
        authorize: Returns a call's metadata with the name of who asks; raises RequestError for who may not.
        watchers: Are told of each call, as of requests over HTTP.

    Raises:
        UnsupportedError: grpcio is not installed.
        OSError: The address cannot be bound.
    """
    try:
        from penstock.serving.protocols.oip.rpc_service import InferenceService, start  # noqa: PLC0415  # extra `grpc`
    except ImportError as error:
        raise UnsupportedError(
            "Serving by gRPC needs grpcio and protobuf.", hint="pip install 'penstock[grpc]'"
        ) from error
    service = InferenceService(plane, release, limits=limits)
    return await start(service, listen=listen, limits=limits, authorize=authorize, watchers=watchers)
