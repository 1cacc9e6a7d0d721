"""Answers into output tensors, and these into the body of a reply: JSON, or JSON with raw data after it.

What is nested, or may be missing, travels as BYTES holding JSON. JSON has no word for NaN and infinities, so an
answer that holds one is told in binary form or refused, never as null.
"""

import functools
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from penstock.serving.messages import Reply
from penstock.serving.plane.questions import Answered
from penstock.serving.program.answers import encode_answer
from penstock.serving.program.values import ANSWER, Column, Values
from penstock.serving.protocols.asking import id_headers, trouble_reply
from penstock.serving.protocols.oip.bodies import Inferred, Wanted
from penstock.serving.protocols.oip.models import Model
from penstock.serving.protocols.oip.tensors import NUMERIC, Tensor, raw_of, refuse, shown
from penstock.serving.refusals import AnswerError, RequestError

OCTETS = b"application/octet-stream"
_BY_DTYPE: dict[np.dtype[Any], str] = {dtype: name for name, dtype in NUMERIC.items()}
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_LISTS: dict[type, str] = {bool: "BOOL", int: "INT64", float: "FP64", str: "BYTES"}
_encode = msgspec.json.Encoder().encode


def outputs_of(values: Values, model: Model) -> list[Tensor]:
    """Return the answers as output tensors; the first dimension of each is the number of answers.

    Raises:
        AnswerError: An answer cannot be told.
    """
    found = []
    for name, column in values.columns().items():
        spec = model.planned.get(name)
        if spec is not None and spec.optional:
            found.append(_as_json(name, column))
        else:
            found.append(_tensor(name, column, wants_float=spec is not None and spec.datatype == "FP64"))
    if model.outputs is None:
        model.learn(found)
    return found


def chosen(outputs: list[Tensor], wanted: Wanted, model: Model) -> list[Tensor]:
    """Return the outputs that the caller wants, in the order of the request.

    Raises:
        RequestError: There is none of that name.
    """
    if wanted.outputs is None:
        return outputs
    by_name = {tensor.name: tensor for tensor in outputs}
    refuse_outputs(wanted, by_name.keys(), model)
    return [by_name[name] for name in wanted.outputs]


def refuse_outputs(wanted: Wanted, names: Any, model: Model) -> None:
    """Refuse a request for an output that is not among `names`.

    Raises:
        RequestError: There is none of that name.
    """
    for name in wanted.outputs or ():
        if name not in names:
            known = ", ".join(repr(known) for known in names)
            raise refuse(f"Model {model.name!r} has no output {shown(name)}; it has: {known}.", field=name)


def write_reply(answered: Answered, model: Model, asked: Inferred) -> Reply:
    """Return the reply that tells the answers, or the trouble, in the form that the caller wants."""
    wanted = asked.wanted
    if answered.trouble is not None or answered.values is None:
        if (refused := blamed(answered, asked.tensors)) is not None:
            return Reply(refused.status, error_body(refused.message, refused.hint), headers=id_headers(answered))
        return trouble_reply(answered, lambda _reason, message, _prediction_id: {"error": message})
    try:
        outputs = chosen(outputs_of(answered.values, model), wanted, model)
        return _written(outputs, answered, model, wanted)
    except RequestError as error:
        return Reply(error.status, error_body(error.message, error.hint), headers=id_headers(answered))
    except AnswerError as error:
        return Reply(500, error_body(error.message), headers=id_headers(answered))


def blamed(answered: Answered, tensors: Iterable[Tensor]) -> RequestError | None:
    """Return the refusal of numbers that a function could not answer because they are none; else None.

    Raw tensors may hold NaN and infinities, and many functions know what to do with them. One that does not is not
    broken: its caller can mend the request.
    """
    if answered.trouble is None or answered.trouble.reason != "function_failed":
        return None
    for tensor in tensors:
        if tensor.datatype in _FLOATS and not np.isfinite(tensor.array()).all():
            return refuse(
                f"Input {shown(tensor.name)} holds NaN or an infinity, for which the function has no answer.",
                field=tensor.name,
                hint="send finite numbers",
            )
    return None


def error_body(message: str, hint: str = "") -> bytes:
    """Return the body of a refusal in the protocol's own shape."""
    return _encode({"error": f"{message} Hint: {hint}." if hint else message})


def _written(outputs: list[Tensor], answered: Answered, model: Model, wanted: Wanted) -> Reply:
    told: list[bytes] = []
    raw: list[bytes] = []
    for tensor in outputs:
        start = _opening(tensor.name, tensor.datatype, tensor.shape)
        if wanted.binary.get(tensor.name, wanted.is_binary):
            raw.append(raw_of(tensor.datatype, tensor.values))
            told.append(start + b',"parameters":{"binary_data_size":%d}}' % len(raw[-1]))
        else:
            told.append(start + b',"data":' + (_data_as_kept(tensor, answered) or _json_data(tensor)) + b"}")
    head = _head(answered, model, wanted) + (told[0] if len(told) == 1 else b",".join(told)) + b"]}"
    headers = id_headers(answered)
    if not raw:
        return Reply(200, head, headers=headers)
    length = (b"inference-header-content-length", b"%d" % len(head))
    return Reply(200, head + b"".join(raw), kind=OCTETS, headers=(*headers, length))


def _head(answered: Answered, model: Model, wanted: Wanted) -> bytes:
    told = b"" if wanted.id is None else b',"id":' + _encode(wanted.id)
    mark = b',"fallback":true' if answered.fallback else b""
    prediction_id = answered.prediction_id.encode()
    return model.reply_start + told + model.reply_middle + prediction_id + b'"' + mark + b'},"outputs":['


@functools.lru_cache(maxsize=256)
def _opening(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    return b'{"name":' + _encode(name) + b',"datatype":"' + datatype.encode() + b'","shape":' + _encode(shape)


def _json_data(tensor: Tensor) -> bytes:
    if tensor.datatype == "BYTES":
        return _encode(tensor.values)
    encoded = _encode(tensor.items())
    if b"n" in encoded:  # msgspec writes NaN and infinities as null
        raise refuse(
            f"Output {shown(tensor.name)} holds NaN or an infinity, which JSON cannot show.",
            field=tensor.name,
            hint="ask for it with binary_data",
        )
    return encoded


def _data_as_kept(tensor: Tensor, answered: Answered) -> bytes | None:
    """Return the JSON that was made for the log when it is the data of this output: numbers, one per answer."""
    if tensor.name != ANSWER or tensor.datatype == "BYTES" or len(tensor.shape) != 1:
        return None
    kept = answered.json
    if kept[:1] not in b"[{":
        return b"[" + kept + b"]"
    return kept if kept[:1] == b"[" and kept[1:2] not in b"[{" else None


def _tensor(name: str, column: Column, *, wants_float: bool) -> Tensor:
    if isinstance(column, np.ndarray):
        datatype = _BY_DTYPE.get(column.dtype) or _BY_DTYPE.get(column.dtype.newbyteorder("<"))
        if datatype is not None:
            return Tensor(name, datatype, column.shape, column.reshape(-1))
        # Text and dates of numpy, and arrays of objects, are lists of values like any other.
        return _tensor(name, column.tolist(), wants_float=False)
    kinds = set(map(type, column))
    if len(kinds) != 1 or (datatype := _LISTS.get(kinds.pop())) is None:
        return _as_json(name, column)
    values = [float(item) for item in column] if wants_float and datatype == "INT64" else column
    return Tensor(name, "FP64" if values is not column else datatype, (len(column),), values)


def _as_json(name: str, column: Column) -> Tensor:
    items = column.tolist() if isinstance(column, np.ndarray) else column
    return Tensor(name, "BYTES", (len(items),), [encode_answer(item).decode() for item in items])
