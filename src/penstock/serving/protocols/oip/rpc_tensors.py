"""Messages of the gRPC form to tensors and back: typed contents, or raw bytes for all tensors together."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from penstock.serving.plane.questions import Answered
from penstock.serving.protocols.oip import inference_pb2 as pb
from penstock.serving.protocols.oip.bodies import Inferred, Parameters, Wanted, refuse_foreign, refuse_sequence
from penstock.serving.protocols.oip.models import Model
from penstock.serving.protocols.oip.tensors import (
    Tensor,
    count_of,
    narrow,
    raw_of,
    refuse,
    refuse_many,
    shown,
    tensor_of_raw,
)

_CONTENTS: dict[str, str] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def read_message(request: pb.ModelInferRequest) -> Inferred:
    """Return the tensors of a request and the reply it wants; raw requests want raw replies.

    Raises:
        RequestError: A tensor is not what it says, or some are raw and some are not.
    """
    for given in request.inputs:
        refuse_foreign(given.name, parameters_of(given.parameters))
    refuse_sequence(parameters_of(request.parameters))
    refuse_many(request.inputs)
    is_raw = len(request.raw_input_contents) > 0
    if is_raw and len(request.raw_input_contents) != len(request.inputs):
        raise refuse(
            f"{len(request.raw_input_contents)} raw contents belong to {len(request.inputs)} inputs.",
            hint="send raw contents for every input, in their order, or for none",
        )
    if is_raw:
        pairs = zip(request.inputs, request.raw_input_contents, strict=True)
        tensors = tuple(_raw_tensor(given, raw) for given, raw in pairs)
    else:
        tensors = tuple(_typed_tensor(given) for given in request.inputs)
    names = tuple(output.name for output in request.outputs)
    if len(set(names)) != len(names):
        raise refuse("An output is requested twice.", hint="name each output once")
    for output in request.outputs:
        refuse_foreign(output.name, parameters_of(output.parameters))
    return Inferred(tensors, Wanted(request.id, names or None, {}, is_raw or not request.inputs))


def parameters_of(parameters: Mapping[str, Any]) -> Parameters:
    """Return parameters as plain values."""
    found: Parameters = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        found[name] = None if choice is None else getattr(value, choice)
    return found


def write_message(answered: Answered, model: Model, wanted: Wanted, outputs: list[Tensor]) -> pb.ModelInferResponse:
    """Return the response that tells the answers."""
    reply = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=wanted.id or "")
    reply.parameters["prediction_id"].string_param = answered.prediction_id
    reply.parameters["release"].string_param = answered.release
    if answered.fallback:
        reply.parameters["fallback"].bool_param = True
    is_raw = wanted.is_binary or any(tensor.datatype not in _CONTENTS for tensor in outputs)
    for tensor in outputs:
        told = reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if is_raw:
            reply.raw_output_contents.append(raw_of(tensor.datatype, tensor.values))
        else:
            getattr(told.contents, _CONTENTS[tensor.datatype]).extend(_typed_items(tensor))
    return reply


def kept_body(tensors: Iterable[Tensor]) -> tuple[bytes, str]:
    """Return the tensors as the log keeps them, a body of the binary extension, and the kind that reads it again."""
    raws = [raw_of(tensor.datatype, tensor.values) for tensor in tensors]
    head = msgspec.json.encode(
        {
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": tensor.shape,
                    "parameters": {"binary_data_size": len(raw)},
                }
                for tensor, raw in zip(tensors, raws, strict=True)
            ]
        }
    )
    return head + b"".join(raws), f"oip-binary:{len(head)}"


def _raw_tensor(given: pb.ModelInferRequest.InferInputTensor, raw: bytes) -> Tensor:
    if given.HasField("contents"):
        raise refuse(f"Input {shown(given.name)} has contents beside raw contents.", field=given.name)
    return tensor_of_raw(given.name, given.datatype, tuple(given.shape), memoryview(raw))


def _typed_tensor(given: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    shape = tuple(given.shape)
    count = count_of(given.name, given.datatype, shape)
    place = _CONTENTS.get(given.datatype)
    if place is None:
        raise refuse(
            f"Input {shown(given.name)} is {given.datatype}, which gRPC has no typed contents for.",
            field=given.name,
            hint="send it in raw_input_contents",
        )
    filled = [field.name for field, _ in given.contents.ListFields()]
    if filled not in ([place], []):
        raise refuse(
            f"Input {shown(given.name)} is {given.datatype}, so its elements belong in {place} only.", field=given.name
        )
    contents = getattr(given.contents, place)
    if len(contents) != count:
        raise refuse(
            f"Input {shown(given.name)} of shape {list(shape)} needs {count} elements, got {len(contents)}.",
            field=given.name,
        )
    values = list(contents)
    if given.datatype in {"FP64", "BYTES"}:
        return Tensor(given.name, given.datatype, shape, values)
    return Tensor(given.name, given.datatype, shape, narrow(given.name, given.datatype, values))


def _typed_items(tensor: Tensor) -> list[Any]:
    if tensor.datatype != "BYTES":
        return tensor.items()
    return [item.encode() if isinstance(item, str) else item for item in tensor.values]
