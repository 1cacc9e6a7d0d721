"""Bodies of `infer`: JSON, and the binary extension, in which raw tensors follow the JSON.

Every count of bytes comes from the caller and must agree with what arrived, to the byte.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from penstock.serving.protocols.oip.tensors import (
    Tensor,
    refuse,
    refuse_many,
    shown,
    tensor_of_floats,
    tensor_of_json,
    tensor_of_raw,
)
from penstock.serving.refusals import RequestError, why_unreadable

HEADER_LENGTH = b"inference-header-content-length"
Parameter = bool | int | float | str | None
Parameters = dict[str, Parameter]

# From here on it pays to try whether all is FP64, which is read in one pass instead of two.
_LARGE_BYTES = 4096
# A number takes two bytes of JSON and becomes 32 bytes of Python: what is larger than this belongs in binary form.
_JSON_VALUES = 4_000_000
# What holds escapes is read a second time, by a slower parser.
_SLOW_VALUES = 500_000
_FEWEST_QUOTES = len('""' * 7)  # inputs, name, datatype, shape, data, and two texts
_DIGITS = re.compile(rb"[0-9]{1,15}")


class InputTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input as the JSON of a request tells it; without `data` its bytes follow the JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: Parameters | None = None


class RequestedOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An output that the caller wants."""

    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of an infer request."""

    inputs: tuple[InputTensor, ...]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: tuple[RequestedOutput, ...] | None = None
    model_name: str | None = None
    model_version: str | None = None


class _FloatTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    datatype: Literal["FP64"]
    shape: tuple[int, ...]
    data: list[float]
    parameters: Parameters | None = None


class _FloatRequest(InferRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    inputs: tuple[_FloatTensor, ...]  # type: ignore[assignment]  # data is read at once instead of kept as text


class _FloatRowsTensor(_FloatTensor, frozen=True, forbid_unknown_fields=True, kw_only=True):
    data: list[list[float]]  # type: ignore[assignment]  # nested


class _FloatRowsRequest(InferRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    inputs: tuple[_FloatRowsTensor, ...]  # type: ignore[assignment]  # as above


class Wanted(msgspec.Struct, frozen=True):
    """How the caller wants the reply.

    Attributes:
        id: Given back as it came.
        outputs: Names of the outputs wanted, in this order; None for all.
        binary: Of these outputs the data is wanted in binary form.
        is_binary: All others are wanted in binary form.
    """

    id: str | None = None
    outputs: tuple[str, ...] | None = None
    binary: dict[str, bool] = {}
    is_binary: bool = False


class Inferred(msgspec.Struct, frozen=True):
    """A whole infer request: its tensors and the reply it wants."""

    tensors: tuple[Tensor, ...]
    wanted: Wanted


_ALL = Wanted()
_decode = msgspec.json.Decoder(InferRequest).decode
_decode_floats = msgspec.json.Decoder(_FloatRequest).decode
_decode_float_rows = msgspec.json.Decoder(_FloatRowsRequest).decode


def header_length_of(headers: dict[bytes, bytes]) -> int | None:
    """Return the length of the JSON before the binary data, None where the body is JSON only.

    Raises:
        RequestError: The header is not a number.
    """
    given = headers.get(HEADER_LENGTH)
    if given is None:
        return None
    if not _DIGITS.fullmatch(given):
        raise _malformed("Inference-Header-Content-Length is not a number of bytes")
    return int(given)


def read_infer(body: bytes, header_length: int | None) -> Inferred:
    """Return the tensors of a body and the reply it wants.

    Args:
        body: The whole body.
        header_length: How much of it is JSON; None for all.

    Raises:
        RequestError: 400 when it is not such a body, 422 when a tensor is not what it says.
    """
    head = body
    raw = memoryview(b"")
    if header_length is not None:
        if not 0 < header_length <= len(body):
            raise _malformed(f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes")
        head, raw = body[:header_length], memoryview(body)[header_length:]
    _refuse_many_values(head)
    if len(head) > _LARGE_BYTES and not raw and (inferred := _large_floats(head)) is not None:
        return inferred
    request = _parse(head)
    tensors = _tensors(request.inputs, raw)
    _refuse_repeated(head, request, tensors)
    return Inferred(tensors, wanted_of(request))


def wanted_of(request: InferRequest) -> Wanted:
    """Return how the caller wants the reply.

    Raises:
        RequestError: An output is named twice, or the request is part of a sequence.
    """
    if request.parameters is None and request.outputs is None:
        return _ALL if request.id is None else Wanted(request.id)
    refuse_sequence(request.parameters)
    is_binary = bool((request.parameters or {}).get("binary_data_output", False))
    if not request.outputs:
        return Wanted(request.id, None, {}, is_binary)
    names = tuple(output.name for output in request.outputs)
    if len(set(names)) != len(names):
        raise refuse("An output is requested twice.", hint="name each output once")
    for output in request.outputs:
        refuse_foreign(output.name, output.parameters)
    binary = {
        output.name: bool(output.parameters["binary_data"])
        for output in request.outputs
        if output.parameters and "binary_data" in output.parameters
    }
    return Wanted(request.id, names, binary, is_binary)


def refuse_foreign(name: str, parameters: Parameters | None) -> None:
    """Refuse what would silently change the meaning of a tensor here.

    Raises:
        RequestError: The tensor lies in shared memory, or its answer is wanted as classes.
    """
    for word in ("shared_memory_region", "classification"):
        if parameters and parameters.get(word):
            raise refuse(
                f"Tensor {shown(name)} asks for {word}, which this server does not have.",
                field=name,
                hint="send data as JSON or with binary_data_size",
            )


def refuse_sequence(parameters: Parameters | None) -> None:
    """Refuse a request that counts on what was asked before it.

    Raises:
        RequestError: It is part of a sequence.
    """
    if parameters and parameters.get("sequence_id"):
        raise refuse(
            "The request is part of a sequence, and the functions served here remember nothing between requests.",
            field="sequence_id",
            hint="leave sequence_id out",
        )


def _refuse_many_values(head: bytes) -> None:
    if len(head) > _JSON_VALUES and head.count(b",") > _JSON_VALUES:
        message = f"The JSON of the request holds more than {_JSON_VALUES} values."
        raise RequestError(message, status=413, reason="too_many_values", hint="send the tensors as binary data")


def _large_floats(head: bytes) -> Inferred | None:
    """Return a request whose tensors are all FP64; None leaves any other, and what is wrong, to the general way."""
    try:
        request = (_decode_float_rows if b"[[" in head else _decode_floats)(head)
    except (ValueError, RecursionError):
        return None
    if b"\\" in head or head.count(b'"') != _quotes(request):
        return None
    refuse_many(request.inputs)
    tensors = []
    for given in request.inputs:
        found = tensor_of_floats(given.name, given.shape, given.data)
        if found is None:
            return None
        tensors.append(found)
    return Inferred(tuple(tensors), wanted_of(request))


def _parse(head: bytes) -> InferRequest:
    try:
        request = _decode(head)
    except msgspec.ValidationError as error:
        message = f"The request is not an infer request of the Open Inference Protocol: {error}."
        raise refuse(message, status=400, hint="send {'inputs': [{'name', 'shape', 'datatype', 'data'}]}") from error
    except (ValueError, RecursionError) as error:
        raise _malformed(f"the JSON part cannot be read: {why_unreadable(error)}") from error
    return request


def _refuse_repeated(head: bytes, request: InferRequest, tensors: Iterable[Tensor]) -> None:
    """Refuse a request in which a key is given twice, of which a parser takes one without a word."""
    if b"\\" not in head:
        quotes = head.count(b'"')
        # The common request first: one input cannot be told with its data in fewer.
        if quotes == _FEWEST_QUOTES and request.inputs and request.inputs[0].data is not msgspec.UNSET:
            return
        if quotes == _quotes(request) + _text_quotes(request, tensors):
            return
    if head.count(b",") > _SLOW_VALUES:
        message = f"The JSON of the request holds more than {_SLOW_VALUES} values, some with escapes."
        raise RequestError(message, status=413, reason="too_many_values", hint="send the tensors as binary data")
    # Numbers stay text: only keys are looked at.
    json.loads(head, object_pairs_hook=_once, parse_int=str, parse_float=str)
    if any("\x00" in name for name in (request.id or "", *(given.name for given in request.inputs))):
        raise refuse("A name in the request holds a NUL character.", hint="remove it")


def _once(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise refuse(f"{shown(key)} is given more than once.", field=key, hint="give each field once")
        seen.add(key)


def _quotes(request: "InferRequest | _FloatRequest | _FloatRowsRequest") -> int:
    """Return how many quotes the JSON has that says this once and without escapes, its text elements left out."""
    quotes = 2 + (0 if request.id is None else 4) + _parameter_quotes(request.parameters)
    if request.outputs is not None:
        quotes += 2 + sum(4 + _parameter_quotes(output.parameters) for output in request.outputs)
    quotes += 4 * ((request.model_name is not None) + (request.model_version is not None))
    for given in request.inputs:
        quotes += 10 + (0 if given.data is msgspec.UNSET else 2) + _parameter_quotes(given.parameters)
    return quotes


def _parameter_quotes(parameters: Parameters | None) -> int:
    if parameters is None:
        return 0
    return 2 + sum(4 if isinstance(value, str) else 2 for value in parameters.values())


def _text_quotes(request: InferRequest, tensors: Iterable[Tensor]) -> int:
    pairs = zip(request.inputs, tensors, strict=True)
    return 2 * sum(len(t.values) for given, t in pairs if t.is_text and given.data is not msgspec.UNSET)


def _tensors(inputs: tuple[InputTensor, ...], raw: memoryview) -> tuple[Tensor, ...]:
    if len(inputs) == 1 and not raw:  # the common request, without a loop
        only = inputs[0]
        data = only.data
        if isinstance(data, msgspec.Raw) and only.parameters is None:
            return (tensor_of_json(only.name, only.datatype, only.shape, data),)
    found = []
    at = 0
    refuse_many(inputs)
    for given in inputs:
        refuse_foreign(given.name, given.parameters)
        size = _size_of(given)
        if size is None:
            if not isinstance(given.data, msgspec.Raw):
                raise refuse(f"Tensor {shown(given.name)} has neither data nor binary_data_size.", field=given.name)
            found.append(tensor_of_json(given.name, given.datatype, given.shape, given.data))
            continue
        if isinstance(given.data, msgspec.Raw):
            raise refuse(f"Tensor {shown(given.name)} has both data and binary_data_size.", field=given.name)
        if at + size > len(raw):
            raise refuse(
                f"Tensor {shown(given.name)} says {size} bytes of binary data, {len(raw) - at} are left.",
                field=given.name,
                hint="send Inference-Header-Content-Length, and the binary data after the JSON",
            )
        found.append(tensor_of_raw(given.name, given.datatype, given.shape, raw[at : at + size]))
        at += size
    if at != len(raw):
        raise refuse(
            f"{len(raw) - at} bytes of binary data belong to no tensor.", hint="give each its binary_data_size"
        )
    return tuple(found)


def _size_of(given: InputTensor) -> int | None:
    if not given.parameters or "binary_data_size" not in given.parameters:
        return None
    size: Any = given.parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise refuse(f"binary_data_size of tensor {shown(given.name)} is not a number of bytes.", field=given.name)
    return size


def _malformed(what: str) -> RequestError:
    return RequestError(
        f"The body is not an infer request: {what}.",
        status=400,
        reason="malformed_body",
        hint="send JSON, or JSON followed by binary data with its length in Inference-Header-Content-Length",
    )
