"""The Open Inference Protocol over gRPC: wire-compatible, every refusal with its status, bounded, drained."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2, service_pb2

sys.path.insert(0, str(Path(__file__).parents[2]))
from oip_program import COLUMNS, GrpcRunning, loaded_program
from penstock.serving.limits import Limits
from penstock.serving.predictions.reading import find_prediction
from penstock.serving.program.load import Program
from penstock.serving.protocols.oip import inference_pb2 as pb
from penstock.serving.protocols.oip.tensors import DATATYPES
from penstock.serving.refusals import RequestError
from run_processes import until

LIMITS = Limits(body_bytes=2**20, batch_rows=100, rows=1000)
BOUNDED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
CALLERS_FAULTS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rpc")


@pytest.fixture(scope="module")
def program(home: Path) -> Iterator[Program]:
    with loaded_program(home) as program:
        yield program


@pytest.fixture(scope="module")
def server(program: Program, home: Path) -> Iterator[GrpcRunning]:
    running = GrpcRunning(program, home, LIMITS)
    yield running
    running.close()


@pytest.fixture(scope="module")
def channel(server: GrpcRunning) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as made:
        yield made


def call(channel: grpc.Channel, method: str, request: Any, *, timeout_s: float = 20, **options: Any) -> bytes:
    """Call a method with a message or with any bytes; return the reply's bytes."""
    encoded = request if isinstance(request, bytes) else request.SerializeToString()
    reply: bytes = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(
        encoded, timeout=timeout_s, **options
    )
    return reply


def infer(channel: grpc.Channel, request: pb.ModelInferRequest, **options: Any) -> pb.ModelInferResponse:
    """Ask a model."""
    reply: pb.ModelInferResponse = pb.ModelInferResponse.FromString(call(channel, "ModelInfer", request, **options))
    return reply


def status_of(channel: grpc.Channel, method: str, request: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    """Return how a call was refused."""
    with pytest.raises(grpc.RpcError, match="status") as caught:
        call(channel, method, request, **options)
    return caught.value.code(), caught.value.details()


def typed(model: str, name: str, datatype: str, shape: list[int], **contents: list[Any]) -> pb.ModelInferRequest:
    """Return a request with typed contents."""
    request = pb.ModelInferRequest(model_name=model, id="mine")
    request.inputs.add(name=name, datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents))
    return request


def raw(model: str, name: str, datatype: str, shape: list[int], data: bytes) -> pb.ModelInferRequest:
    """Return a request with raw contents."""
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[data])
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    return request


def test_every_message_has_the_numbers_of_the_unmodified_client() -> None:
    """S1: each field of ours has the name, number and type that Triton's client has for it."""
    theirs = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}
    for name, message in pb.DESCRIPTOR.message_types_by_name.items():
        compare(message, theirs[name])
    ours = pb.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name
    known = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name
    assert {name: value.number for name, value in ours.items()} == {name: value.number for name, value in known.items()}


def compare(ours: Descriptor, theirs: Descriptor) -> None:
    """Fail where a field differs on the wire."""
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type) == (other.number, other.type), f"{ours.name}.{field.name}"
        assert field.is_repeated == other.is_repeated, f"{ours.name}.{field.name}"
    for nested in ours.nested_types:
        compare(nested, theirs.nested_types_by_name[nested.name])


def test_the_server_and_its_models_tell_of_themselves(channel: grpc.Channel) -> None:
    """S1: live, ready, metadata, config and index, as over HTTP."""
    assert pb.ServerLiveResponse.FromString(call(channel, "ServerLive", b"")).live
    assert pb.ServerReadyResponse.FromString(call(channel, "ServerReady", b"")).ready
    assert pb.ModelReadyResponse.FromString(call(channel, "ModelReady", pb.ModelReadyRequest(name="mean"))).ready
    assert pb.ServerMetadataResponse.FromString(call(channel, "ServerMetadata", b"")).name == "penstock"
    found = pb.ModelMetadataResponse.FromString(
        call(channel, "ModelMetadata", pb.ModelMetadataRequest(name="describe", version="3"))
    )
    assert [(item.name, item.datatype) for item in found.inputs][:2] == [("x", "FP64"), ("n", "INT64")]
    config = pb.ModelConfigResponse.FromString(call(channel, "ModelConfig", pb.ModelConfigRequest(name="mean"))).config
    assert (config.input[0].data_type, list(config.input[0].dims)) == (pb.TYPE_FP64, [-1, 3])
    index = pb.RepositoryIndexResponse.FromString(call(channel, "RepositoryIndex", b""))
    assert ("mean", "3", "READY") in {(model.name, model.version, model.state) for model in index.models}


@pytest.mark.parametrize(
    ("datatype", "place"),
    [
        ("BOOL", "bool_contents"),
        ("INT8", "int_contents"),
        ("INT32", "int_contents"),
        ("INT64", "int64_contents"),
        ("UINT16", "uint_contents"),
        ("UINT64", "uint64_contents"),
        ("FP32", "fp32_contents"),
        ("FP64", "fp64_contents"),
    ],
)
def test_typed_contents_are_answered_with_typed_contents(channel: grpc.Channel, datatype: str, place: str) -> None:
    """S1: every datatype has its place, and the reply is in the form of the request."""
    found = infer(channel, typed("mean", "rows", datatype, [2, 3], **{place: [1, 0, 0, 1, 1, 1]}))
    assert (found.model_name, found.model_version, found.id) == ("mean", "3", "mine")
    assert (found.outputs[0].datatype, list(found.outputs[0].shape)) == ("FP64", [2])
    assert list(found.outputs[0].contents.fp64_contents) == [1 / 3, 1.0]
    assert not found.raw_output_contents


def test_raw_contents_are_answered_raw(channel: grpc.Channel, home: Path) -> None:
    """S1, S4: bytes in, bytes out; the rows are found in the log."""
    found = infer(channel, raw("mean", "rows", "FP16", [2, 3], np.arange(6, dtype="<f2").tobytes()))
    assert np.frombuffer(found.raw_output_contents[0]).tolist() == [1.0, 4.0]
    kept = find_prediction(home, "movies", found.parameters["prediction_id"].string_param + "-1")
    assert (kept.protocol, kept.fields, kept.answer) == ("grpc", {"0": 3.0, "1": 4.0, "2": 5.0}, 4.0)


def test_texts_and_json_travel_as_bytes(channel: grpc.Channel) -> None:
    """S1: BYTES in typed contents."""
    request = typed("judge", "text", "BYTES", [2], bytes_contents=[b"ab", "\u00fc".encode()])
    request.inputs.add(name="loud", datatype="BOOL", shape=[2]).contents.bool_contents.extend([True, False])
    outputs = {output.name: output.contents for output in infer(channel, request).outputs}
    assert list(outputs["label"].bytes_contents) == [b"AB", "\u00fc".encode()]
    assert list(outputs["score"].fp64_contents) == [2.0, 1.0]
    assert list(outputs["reason"].bytes_contents) == [b"null", b"null"]


def test_only_the_outputs_that_are_wanted_are_told(channel: grpc.Channel) -> None:
    """S1: in the order of the request."""
    request = typed("judge", "text", "BYTES", [1], bytes_contents=[b"ab"])
    request.outputs.add(name="score")
    assert [output.name for output in infer(channel, request).outputs] == ["score"]
    request.outputs.add(name="scores")
    assert status_of(channel, "ModelInfer", request)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_a_stream_answers_each_request_and_goes_on_after_a_refusal(channel: grpc.Channel) -> None:
    """S1: the answers come in the order of the requests."""
    stream = channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )
    good = typed("mean", "rows", "FP64", [1, 3], fp64_contents=[1, 2, 3])
    bad = typed("mean", "rows", "FP64", [1, 3], fp64_contents=[1])
    first, second, third = stream(iter([good, bad, good]), timeout=20)
    assert first.infer_response.outputs[0].contents.fp64_contents[0] == 2.0
    assert "needs 3 elements, got 1" in second.error_message
    assert second.infer_response.id == "mine"
    assert third.infer_response.outputs[0].contents.fp64_contents[0] == 2.0


def test_the_fallback_says_so(channel: grpc.Channel) -> None:
    """S5: the reply is marked."""
    found = infer(channel, typed("late", "n", "INT64", [1], int64_contents=[2000]))
    assert found.parameters["fallback"].bool_param
    assert list(found.outputs[0].contents.bytes_contents) == [b"fallback"]


@pytest.mark.parametrize(
    ("method", "request_", "code", "says"),
    [
        ("ModelReady", pb.ModelReadyRequest(name="nothing"), "NOT_FOUND", "no model 'nothing'; this server has: recom"),
        ("ModelMetadata", pb.ModelMetadataRequest(name="mean", version="9"), "NOT_FOUND", "no version '9'"),
        ("ModelInfer", pb.ModelInferRequest(model_name="x"), "NOT_FOUND", "no model 'x'"),
        ("ModelInfer", b"\xff\xff", "INVALID_ARGUMENT", "not a message of type ModelInferRequest"),
        ("ModelInfer", pb.ModelInferRequest(model_name="mean"), "INVALID_ARGUMENT", "got none"),
        ("ModelInfer", raw("mean", "r", "FP64", [1, 3], b"1"), "INVALID_ARGUMENT", "needs 24 bytes, got 1"),
        ("ModelInfer", raw("mean", "r", "FP64", [-1, 3], b""), "INVALID_ARGUMENT", "negative"),
        ("ModelInfer", typed("mean", "r", "FP16", [1], fp32_contents=[1]), "INVALID_ARGUMENT", "raw_input_contents"),
        ("ModelInfer", typed("mean", "r", "FP64", [1], fp32_contents=[1]), "INVALID_ARGUMENT", "fp64_contents only"),
        ("ModelInfer", typed("mean", "r", "INT8", [1], int_contents=[300]), "INVALID_ARGUMENT", "beyond INT8"),
        ("ModelInfer", typed("mean", "r", "FP64", [2], fp64_contents=[1]), "INVALID_ARGUMENT", "2 elements, got 1"),
        ("ModelInfer", typed("broken", "n", "INT64", [1], int64_contents=[1]), "INTERNAL", "failed on this request"),
        (
            "ModelInfer",
            raw("mean", "r", "FP64", [1, 3], np.array([np.nan] * 3).tobytes()),
            "INVALID_ARGUMENT",
            "holds NaN",
        ),
        (
            "ModelInfer",
            typed("recommend", "user_id", "INT64", [101], int64_contents=[1] * 101),
            "RESOURCE_EXHAUSTED",
            "101 rows are more than 100",
        ),
        ("ModelInfer", raw("mean", "r", "FP64", [1, 3], bytes(2**20)), "RESOURCE_EXHAUSTED", "larger than max"),
        ("SystemSharedMemoryStatus", b"", "UNIMPLEMENTED", "Method not found"),
    ],
)
def test_every_refusal_has_its_status(channel: grpc.Channel, method: str, request_: Any, code: str, says: str) -> None:
    """Fault 22: the caller's mistakes are told from the server's, with what was expected."""
    found, details = status_of(channel, method, request_)
    assert (found.name, says in details) == (code, True), details


def test_raw_and_typed_contents_are_not_mixed(channel: grpc.Channel) -> None:
    """Fault 22: either every input is raw, or none."""
    request = typed("mean", "rows", "FP64", [1, 3], fp64_contents=[1, 2, 3])
    request.raw_input_contents.append(b"")
    assert "contents beside raw contents" in status_of(channel, "ModelInfer", request)[1]
    request.raw_input_contents.append(b"")
    assert "2 raw contents belong to 1 inputs" in status_of(channel, "ModelInfer", request)[1]


def test_a_sequence_is_refused(channel: grpc.Channel) -> None:
    """S1: what this server does not have is not ignored."""
    request = typed("mean", "rows", "FP64", [1, 3], fp64_contents=[1, 2, 3])
    request.parameters["sequence_id"].int64_param = 7
    assert "remember nothing" in status_of(channel, "ModelInfer", request)[1]


def test_a_compressed_message_is_bounded_by_its_whole_size(channel: grpc.Channel) -> None:
    """Fault 23: what unpacks to more than a message may have is refused."""
    bomb = raw("mean", "rows", "FP64", [1, 3], bytes(2**26))
    code, _ = status_of(channel, "ModelInfer", bomb, compression=grpc.Compression.Gzip)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    small = raw("mean", "rows", "FP64", [1, 3], bytes(24))
    assert infer(channel, small, compression=grpc.Compression.Gzip).raw_output_contents


def test_a_caller_that_gives_up_is_told_so_and_the_server_goes_on(channel: grpc.Channel) -> None:
    """Fault 24: the deadline of a call ends it."""
    slow = typed("late", "n", "INT64", [1], int64_contents=[2000])
    assert status_of(channel, "ModelInfer", slow, timeout_s=0.01)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert pb.ServerLiveResponse.FromString(call(channel, "ServerLive", b"")).live


def test_a_caller_without_permission_is_refused(program: Program, tmp_path: Path) -> None:
    """Every method asks who may call it; what refuses decides by the call's metadata."""

    def authorize(metadata: Any, permission: str) -> Any:
        if metadata.get("authorization") != f"Bearer {permission}":
            raise RequestError("No token.", status=401, reason="no_token")
        return metadata

    running = GrpcRunning(program, tmp_path, LIMITS, authorize)
    with grpc.insecure_channel(running.address) as channel:
        request = typed("mean", "rows", "FP64", [1, 3], fp64_contents=[1, 2, 3])
        assert status_of(channel, "ModelInfer", request)[0] is grpc.StatusCode.UNAUTHENTICATED
        assert status_of(channel, "ServerMetadata", b"")[0] is grpc.StatusCode.UNAUTHENTICATED
        assert infer(channel, request, metadata=(("authorization", "Bearer predict"),)).outputs
    running.close()


def is_refused(address: str) -> bool:
    """Return whether a new connection gets no answer; grpcio refuses it, or cuts it off while the port closes."""
    with grpc.insecure_channel(address) as late:
        outcome = late.unary_unary("/inference.GRPCInferenceService/ServerLive").future(b"", timeout=5)
        refused: bool = outcome.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        return refused


def test_draining_finishes_calls_in_flight(program: Program, tmp_path: Path) -> None:
    """S5: a call that has begun is answered; a new one is not taken."""
    running = GrpcRunning(program, tmp_path, LIMITS)
    with grpc.insecure_channel(running.address) as channel:
        stream: Any = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        asked, may_end = threading.Event(), threading.Event()

        def requests() -> Iterator[pb.ModelInferRequest]:
            yield typed("mean", "rows", "FP64", [1, 3], fp64_contents=[1, 2, 3])
            asked.set()
            assert may_end.wait(20)
            yield typed("mean", "rows", "FP64", [1, 3], fp64_contents=[4, 5, 6])

        replies = stream(requests(), timeout=20)
        assert next(replies).infer_response.outputs[0].contents.fp64_contents[0] == 2.0
        assert asked.wait(20)
        draining = threading.Thread(target=running.drain, args=(15,))
        draining.start()
        until(lambda: is_refused(running.address))
        may_end.set()
        assert next(replies).infer_response.outputs[0].contents.fp64_contents[0] == 5.0
        assert not list(replies)
        draining.join(20)
        assert not draining.is_alive()
    running.close()


def check(channel: grpc.Channel, request: Any) -> None:
    """Fail unless a call is answered or refused as the caller's mistake."""
    method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    encoded = request if isinstance(request, bytes) else request.SerializeToString()
    outcome = method.future(encoded, timeout=20)
    assert outcome.code() in {grpc.StatusCode.OK, *CALLERS_FAULTS}, outcome.details()


@given(body=st.binary(max_size=100))
@BOUNDED
def test_any_bytes_are_answered_or_refused(channel: grpc.Channel, body: bytes) -> None:
    """Fault 22: never the server's fault, never a hang."""
    check(channel, body)
    check(channel, b"\x0a\x04echo" + body)


@st.composite
def messages(draw: st.DrawFn) -> pb.ModelInferRequest:
    """Return a request that is nearly right."""
    request = pb.ModelInferRequest(model_name=draw(st.sampled_from(["recommend", "judge", "echo", "describe"])))
    names = st.sampled_from([*(name for name, _ in COLUMNS), "rows", "text", "user_id", "weight"])
    for _ in range(draw(st.integers(0, 3))):
        given_ = request.inputs.add(
            name=draw(names),
            datatype=draw(st.sampled_from([*DATATYPES, "BF16"])),
            shape=draw(st.lists(st.integers(-1, 3) | st.just(2**62), max_size=3)),
        )
        place = draw(st.sampled_from(["int64_contents", "fp64_contents", "bytes_contents", "bool_contents", ""]))
        if place:
            kinds = {"i": st.integers(-9, 9), "f": st.floats(), "bo": st.booleans(), "by": st.binary(max_size=4)}
            kind: Any = kinds[place[:2] if place[0] == "b" else place[0]]
            getattr(given_.contents, place).extend(draw(st.lists(kind, max_size=4)))
    if draw(st.booleans()):
        request.raw_input_contents.extend(draw(st.lists(st.binary(max_size=24), max_size=3)))
    return request


@given(request=messages())
@BOUNDED
def test_nearly_right_messages_are_answered_or_refused(channel: grpc.Channel, request: pb.ModelInferRequest) -> None:
    """Fault 22: any value in the place of a right one."""
    check(channel, request)
