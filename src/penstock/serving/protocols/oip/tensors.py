"""Tensors of the protocol: their datatypes, their values out of JSON or raw bytes and back, all bounds checked.

A tensor is read whole or refused; numbers are converted only where no digit is lost.
"""

import functools
import math
import struct
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.serving.refusals import RequestError, why_unreadable

Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"
]
# Little-endian on the wire, whatever this machine is.
NUMERIC: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
DATATYPES: tuple[str, ...] = (*NUMERIC, "BYTES")

_RANK = 8
_ELEMENTS = 2**31
_TENSORS = 20_000
_TEXTS = 1_000_000
_LENGTH = struct.Struct("<I")
_JSON_KINDS: dict[str, type] = {"b": bool, "i": int, "u": int, "f": float}


class Tensor(msgspec.Struct, frozen=True):
    """One tensor, flat in row-major order.

    Attributes:
        values: An array for numbers, except FP64 out of flat JSON, which stays a list of floats; BYTES are a list of
            `bytes` or, out of JSON, `str`.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | list[Any]

    @property
    def is_text(self) -> bool:
        """Whether the elements are BYTES."""
        return self.datatype == "BYTES"

    def array(self) -> npt.NDArray[Any]:
        """Return numbers in their shape, without a copy where they are an array already."""
        return np.asarray(self.values, dtype=NUMERIC[self.datatype]).reshape(self.shape)

    def items(self) -> list[Any]:
        """Return the elements as Python values."""
        return self.values if isinstance(self.values, list) else self.values.tolist()


def refuse(
    message: str, *, field: str = "", hint: str = "GET the model's metadata for its inputs", status: int = 422
) -> RequestError:
    """Return the refusal of a tensor or of a request that holds them."""
    return RequestError(message, status=status, reason="invalid_tensor", field=field[:200], hint=hint)


def shown(name: str) -> str:
    """Return a caller's name in quotes, printable and bounded."""
    return ascii(name[:100])


def count_of(name: str, datatype: str, shape: tuple[int, ...]) -> int:
    """Return how many elements a tensor has.

    Raises:
        RequestError: The datatype is unknown, a dimension negative, or the product beyond any body.
    """
    if datatype not in NUMERIC and datatype != "BYTES":
        known = ", ".join(DATATYPES)
        raise refuse(f"Tensor {shown(name)} has datatype {shown(datatype)}; expected one of {known}.", field=name)
    if not 1 <= len(shape) <= _RANK:
        raise refuse(f"Tensor {shown(name)} has {len(shape)} dimensions; expected 1 to {_RANK}.", field=name)
    count = 1
    for size in shape:
        if not 0 <= size <= _ELEMENTS:
            raise refuse(f"Tensor {shown(name)} has a dimension that is negative or beyond 2^31.", field=name)
        count *= size
    if count > _ELEMENTS:
        raise refuse(f"Tensor {shown(name)} has more than 2^31 elements by its shape.", field=name)
    return count


def refuse_many(tensors: Sequence[Any]) -> None:
    """Refuse more inputs, or BYTES elements in them, than can be read without holding up other callers.

    Args:
        tensors: What has a datatype and a shape. An input takes about 50 bytes of a body, an empty text 4.

    Raises:
        RequestError: 413 when there are more.
    """
    shapes = [tensor.shape for tensor in tensors if tensor.datatype == "BYTES"]
    texts = sum(math.prod(shape) for shape in shapes if min(shape, default=0) >= 0)
    if len(tensors) > _TENSORS or texts > _TEXTS:
        message = f"The request holds more than {_TENSORS} inputs or {_TEXTS} BYTES elements."
        raise RequestError(message, status=413, reason="too_many_values", hint="send fewer rows at once")


def tensor_of_json(name: str, datatype: str, shape: tuple[int, ...], data: msgspec.Raw) -> Tensor:
    """Return the tensor whose `data` is JSON: a flat list, or lists nested as its shape.

    Raises:
        RequestError: An element is of another type or out of the datatype's range, or there are more or fewer than
            the shape says.
    """
    count = count_of(name, datatype, shape)
    try:
        values = _flat(data, datatype, shape)
    except (ValueError, RecursionError) as error:  # text was only skipped so far, and may still be none
        raise refuse(f"Data of tensor {shown(name)}: {why_unreadable(error)}.", field=name) from error
    if len(values) != count:
        raise refuse(
            f"Tensor {shown(name)} of shape {list(shape)} needs {count} elements, got {len(values)}.", field=name
        )
    if datatype in {"FP64", "BYTES"}:
        return Tensor(name, datatype, shape, values)
    return Tensor(name, datatype, shape, narrow(name, datatype, values))


def tensor_of_floats(name: str, shape: tuple[int, ...], data: list[Any]) -> Tensor | None:
    """Return the FP64 tensor of numbers that were read already, flat or as rows; None when they are not its shape.

    Raises:
        RequestError: The shape is impossible.
    """
    count = count_of(name, "FP64", shape)
    try:
        found = np.asarray(data, dtype=np.float64)
    except ValueError:  # rows of unequal length
        return None
    return Tensor(name, "FP64", shape, found.reshape(-1)) if found.shape in {shape, (count,)} else None


def narrow(name: str, datatype: str, values: Any) -> npt.NDArray[Any]:
    """Return numbers as an array of `datatype`.

    Raises:
        RequestError: One is beyond its range.
    """
    dtype = NUMERIC[datatype]
    wide = {"i": np.dtype("<i8"), "u": np.dtype("<u8"), "f": np.dtype("<f8")}.get(dtype.kind, dtype)
    try:
        found = np.asarray(values, dtype=wide)
    except (OverflowError, ValueError) as error:
        raise refuse(f"A number in tensor {shown(name)} is beyond {datatype}.", field=name) from error
    if wide == dtype or not found.size:
        return found.astype(dtype, copy=False)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            narrowed = found.astype(dtype)
        fits = bool((np.isfinite(narrowed) | ~np.isfinite(found)).all())
    else:
        limits = np.iinfo(dtype)
        fits = bool(found.min() >= limits.min and found.max() <= limits.max)
        narrowed = found.astype(dtype)
    if not fits:
        raise refuse(f"A number in tensor {shown(name)} is beyond {datatype}.", field=name)
    return narrowed


def tensor_of_raw(name: str, datatype: str, shape: tuple[int, ...], raw: memoryview) -> Tensor:
    """Return the tensor whose elements are raw little-endian bytes; BYTES have a 4-byte length before each.

    Raises:
        RequestError: There are more or fewer bytes than the shape says, or a length points beyond them.
    """
    count = count_of(name, datatype, shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, shape, _texts(name, count, raw))
    dtype = NUMERIC[datatype]
    if len(raw) != count * dtype.itemsize:
        raise refuse(
            f"Tensor {shown(name)}, {datatype} of shape {list(shape)}, needs {count * dtype.itemsize} bytes, "
            f"got {len(raw)}.",
            field=name,
        )
    if datatype == "BOOL" and raw.nbytes and int(np.frombuffer(raw, np.uint8).max()) > 1:
        raise refuse(f"A truth value in tensor {shown(name)} is a byte other than 0 and 1.", field=name)
    return Tensor(name, datatype, shape, np.frombuffer(raw, dtype))


def raw_of(datatype: str, values: npt.NDArray[Any] | list[Any]) -> bytes:
    """Return the elements as raw bytes in the protocol's order."""
    if datatype != "BYTES":
        return np.asarray(values).astype(NUMERIC[datatype], copy=False).tobytes()
    parts: list[bytes] = []
    for item in values:
        encoded = item if isinstance(item, bytes) else str(item).encode()
        parts += (_LENGTH.pack(len(encoded)), encoded)
    return b"".join(parts)


def _flat(data: msgspec.Raw, datatype: str, shape: tuple[int, ...]) -> list[Any]:
    try:
        found: list[Any] = _decoder(datatype, 1).decode(data)
    except msgspec.ValidationError as error:
        if len(shape) == 1 or "got `array`" not in str(error):
            raise
    else:
        return found
    nested = np.empty(0)
    try:
        # As objects nothing is converted here, and lists of unequal length show as another shape.
        nested = np.array(_decoder(datatype, len(shape)).decode(data), dtype=object)
    except ValueError as error:
        if isinstance(error, msgspec.ValidationError):
            raise
    if nested.shape != shape and 0 not in shape:
        raise msgspec.ValidationError(f"Expected lists nested as the shape {list(shape)}")
    return nested.reshape(-1).tolist()


@functools.cache
def _decoder(datatype: str, rank: int) -> msgspec.json.Decoder[Any]:
    kind: Any = str if datatype == "BYTES" else _JSON_KINDS[NUMERIC[datatype].kind]
    for _ in range(rank):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


def _texts(name: str, count: int, raw: memoryview) -> list[bytes]:
    # Each element has a length of four bytes, so a shape that promises more is refused before anything is made.
    if count * _LENGTH.size > len(raw):
        raise refuse(f"Tensor {shown(name)} needs {count} BYTES elements; its data is too short for them.", field=name)
    found = []
    at = 0
    for number in range(count):
        start = at + _LENGTH.size
        if start > len(raw) or (at := start + _LENGTH.unpack_from(raw, start - _LENGTH.size)[0]) > len(raw):
            raise refuse(f"Element {number} of tensor {shown(name)} ends beyond the tensor's data.", field=name)
        found.append(bytes(raw[start:at]))
    if at != len(raw):
        raise refuse(f"Tensor {shown(name)} has {len(raw) - at} bytes after its {count} elements.", field=name)
    return found
