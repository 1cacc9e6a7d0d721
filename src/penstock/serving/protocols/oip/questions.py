"""Tensors into the fields of a serve function: a question per element, or one for all rows.

A number goes to a field or column only when it arrives there as it was sent.
"""

import math
import typing
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.serving.limits import Limits
from penstock.serving.program.fields import Fields
from penstock.serving.program.hazards import refuse_deep, refuse_hazards
from penstock.serving.protocols.oip.models import Model, TensorSpec
from penstock.serving.protocols.oip.tensors import NUMERIC, Tensor, refuse, shown
from penstock.serving.refusals import RequestError
from penstock.store.lake.dtypes import parse_dtype

_EXACT_IN_FLOAT = 2**53
_FLOATS = frozenset({"FP16", "FP32", "FP64"})


class Asked(msgspec.Struct, frozen=True):
    """What tensors ask of a function: its fields, and how many answers are due."""

    fields: tuple[msgspec.Struct, ...]
    count: int


def make_reader(model: Model, limits: Limits) -> Callable[[tuple[Tensor, ...]], Asked]:
    """Return what turns tensors into the fields of a model's function.

    It raises RequestError: 422 naming the input that is missing, unknown or of another type, 413 for too many rows.
    """
    if model.function.fields.rows is None:
        return lambda tensors: _ask_fields(model, tensors, limits)
    quick = _quick_row(model)
    return lambda tensors: quick(tensors) or _ask_rows(model, tensors, limits)


def _quick_row(model: Model) -> Callable[[tuple[Tensor, ...]], Asked | None]:
    """Return what reads one row of floats as the typed route does, so that those of a tick are joined cheaply."""
    fields = model.function.fields
    make = fields.type
    rows = str(fields.rows)
    shape = (1, len(fields.columns))
    row = None if fields.form == "numpy" else _row_type(fields)
    is_framed = fields.form != "numpy"
    # A single column may come under its own name, which the other way looks at.
    if not fields.is_batched or not model.is_all_float or (is_framed and (row is None or shape == (1, 1))):
        return lambda _tensors: None
    names = tuple(f"c{place}" for place in range(shape[1]))

    def read(tensors: tuple[Tensor, ...]) -> Asked | None:
        tensor = tensors[0] if len(tensors) == 1 else None
        if tensor is None or tensor.shape != shape or tensor.datatype not in _FLOATS:
            return None
        values = tensor.items()
        one = values if row is None else row(**dict(zip(names, values, strict=True)))
        return Asked((make(**{rows: [one]}),), 1)

    return read


def _row_type(fields: Fields) -> type[msgspec.Struct] | None:
    kind = next(info.type for info in msgspec.structs.fields(fields.type) if info.name == fields.rows)
    items = [typing.get_args(option) for option in typing.get_args(kind) if typing.get_origin(option) is list]
    found = items[0][0] if items and items[0] else None
    return found if isinstance(found, type) and issubclass(found, msgspec.Struct) else None


def _ask_fields(model: Model, tensors: tuple[Tensor, ...], limits: Limits) -> Asked:
    _refuse_names(model, tensors, model.fields)
    counts = {tensor.name: _elements(tensor) for tensor in tensors}
    count = next(iter(counts.values()), 1)
    if any(other != count for other in counts.values()):
        raise refuse("The inputs have unequal numbers of elements; each element of an input belongs to one question.")
    # Each question is a call of its own, all before the next request's: no more than are joined of rows.
    _refuse_rows(count, min(limits.rows, limits.batch_rows))
    columns = {tensor.name: _field_values(model.fields[tensor.name], tensor, limits) for tensor in tensors}
    parse = model.function.fields.parse_object
    names = list(columns)
    if not names:
        return Asked((parse({}),), 1)
    rows = zip(*columns.values(), strict=True)
    return Asked(tuple(parse(dict(zip(names, row, strict=True))) for row in rows), count)


def _ask_rows(model: Model, tensors: tuple[Tensor, ...], limits: Limits) -> Asked:
    fields = model.function.fields
    given, others = tensors, None
    if model.fields:
        given = tuple(tensor for tensor in tensors if tensor.name not in model.fields)
        others = _others(model, tensors, limits)
    if len(given) == 1 and _is_matrix(model, given[0]):
        count, width = given[0].shape
        _refuse_rows(count, limits.rows)
        _check_width(model, given[0], width)
        matrix = _matrix(given[0])
        if fields.is_batched and model.is_all_float and matrix.dtype == np.float64:
            return Asked((fields.type(**{str(fields.rows): matrix}),), count)
        return Asked((fields.of_rows(matrix, others),), count)
    if fields.form == "numpy":
        wanted = f"one tensor of numbers, of shape [n, {len(fields.columns) or 'm'}]"
        raise refuse(f"Model {model.name!r} takes {wanted}; got {_listed(given)}.")
    frame = _frame(model, given, limits)
    return Asked((fields.of_rows(frame, others),), frame.height)


def _others(model: Model, tensors: tuple[Tensor, ...], limits: Limits) -> dict[str, object]:
    found = {}
    for tensor in tensors:
        spec = model.fields.get(tensor.name)
        if spec is None:
            continue
        if _elements(tensor) != 1:
            raise refuse(f"Input {shown(tensor.name)} holds for all rows, so it has one element.", field=tensor.name)
        found[tensor.name] = _field_values(spec, tensor, limits)[0]
    return found


def _is_matrix(model: Model, tensor: Tensor) -> bool:
    if len(tensor.shape) != 2 or tensor.is_text or not model.takes_matrix:
        return False
    # A column may also come as [n, 1] under its own name.
    fields = model.function.fields
    if tensor.shape[1] != 1 or fields.form == "numpy":
        return True
    return bool(fields.columns) and tensor.name not in {spec.name for spec in model.rows}


def _matrix(tensor: Tensor) -> npt.NDArray[Any]:
    found = tensor.array()
    # Raw data is a view of the body: a function that writes into its rows must be able to.
    return found if found.flags.writeable else found.copy()


def _check_width(model: Model, tensor: Tensor, width: int) -> None:
    columns = model.function.fields.columns
    if columns and width != len(columns):
        raise refuse(
            f"Tensor {shown(tensor.name)} has rows of {width} numbers, the released rows have {len(columns)}.",
            field=tensor.name,
        )


def _frame(model: Model, tensors: tuple[Tensor, ...], limits: Limits) -> pl.DataFrame:
    specs = {spec.name: spec for spec in model.rows} if model.function.fields.columns else None
    if specs is not None:
        _refuse_names(model, tensors, specs)
    elif len({tensor.name for tensor in tensors}) != len(tensors) or not tensors:
        raise refuse(f"Model {model.name!r} takes a tensor per column, each name once; got {_listed(tensors)}.")
    counts = [_elements(tensor) for tensor in tensors]
    if len(set(counts)) > 1:
        raise refuse("The columns have unequal numbers of elements; each element of a column belongs to one row.")
    _refuse_rows(counts[0], limits.rows)
    dtypes = {name: parse_dtype(dtype) for name, dtype in model.function.fields.columns}
    return pl.DataFrame(
        [_column(tensor, (specs or {}).get(tensor.name), dtypes.get(tensor.name), limits) for tensor in tensors]
    )


def _column(tensor: Tensor, spec: TensorSpec | None, dtype: pl.DataType | None, limits: Limits) -> pl.Series:
    if spec is not None and (spec.datatype == "BYTES") != tensor.is_text:
        raise refuse(
            f"Input {shown(tensor.name)} is a column of {dtype}, so expected {spec.datatype}, got {tensor.datatype}.",
            field=tensor.name,
        )
    if not tensor.is_text:
        return pl.Series(tensor.name, tensor.array().reshape(-1))
    match spec.content if spec else "text":
        case "json":
            return _typed_series(tensor, [_from_json(tensor, item, limits) for item in tensor.values], dtype)
        case "bytes":
            values = [item.encode() if isinstance(item, str) else item for item in tensor.values]
            return _typed_series(tensor, values, dtype)
        case _:
            return pl.Series(tensor.name, [_text(tensor, item) for item in tensor.values], dtype=pl.String)


def _typed_series(tensor: Tensor, values: list[Any], dtype: pl.DataType | None) -> pl.Series:
    try:
        return pl.Series(tensor.name, values, dtype=dtype, strict=True)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise refuse(f"An element of input {shown(tensor.name)} is not of type {dtype}.", field=tensor.name) from error


def _field_values(spec: TensorSpec, tensor: Tensor, limits: Limits) -> list[Any]:
    match spec.datatype, spec.content:
        case "INT64", _:
            _refuse_kind(spec, tensor, "iu")
        case "BOOL", _:
            _refuse_kind(spec, tensor, "b")
        case "FP64", _:
            _refuse_kind(spec, tensor, "fiu")
            return _finite(tensor)
        case _, content:
            if not tensor.is_text:
                raise _wrong_kind(spec, tensor)
            read = (lambda item: _from_json(tensor, item, limits)) if content == "json" else None
            return [read(item) if read else _text(tensor, item) for item in tensor.values]
    return tensor.items()


def _refuse_kind(spec: TensorSpec, tensor: Tensor, kinds: str) -> None:
    if tensor.is_text or NUMERIC[tensor.datatype].kind not in kinds:
        raise _wrong_kind(spec, tensor)


def _wrong_kind(spec: TensorSpec, tensor: Tensor) -> RequestError:
    what = f" ({spec.content})" if spec.datatype == "BYTES" else ""
    message = f"Input {shown(tensor.name)} is {tensor.datatype}; expected {spec.datatype}{what}."
    return refuse(message, field=tensor.name)


def _finite(tensor: Tensor) -> list[Any]:
    found = tensor.array().reshape(-1)
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise refuse(f"Input {shown(tensor.name)} holds NaN or an infinity.", field=tensor.name)
    if found.dtype.kind != "f" and any(abs(item) > _EXACT_IN_FLOAT for item in found.tolist()):
        raise refuse(f"Input {shown(tensor.name)} holds a whole number beyond 53 bits.", field=tensor.name)
    return found.astype(np.float64, copy=False).tolist()


def _text(tensor: Tensor, item: bytes | str) -> str:
    try:
        text = item if isinstance(item, str) else item.decode()
    except UnicodeDecodeError as error:
        raise refuse(f"An element of input {shown(tensor.name)} is not UTF-8.", field=tensor.name) from error
    if "\x00" in text:
        raise refuse(f"An element of input {shown(tensor.name)} holds a NUL character.", field=tensor.name)
    return text


def _from_json(tensor: Tensor, item: bytes | str, limits: Limits) -> object:
    encoded = item.encode() if isinstance(item, str) else item
    refuse_deep(encoded, limits.depth)
    try:
        found: object = msgspec.json.decode(encoded)
        refuse_hazards(encoded)
    except (ValueError, RecursionError) as error:
        raise refuse(
            f"An element of input {shown(tensor.name)} is not JSON, which this input takes as BYTES.",
            field=tensor.name,
            hint="send each element as the JSON of one value",
        ) from error
    return found


def _elements(tensor: Tensor) -> int:
    if len(tensor.shape) > 1 and math.prod(tensor.shape[1:]) != 1:
        raise refuse(
            f"Input {shown(tensor.name)} has shape {list(tensor.shape)}; expected [n] or [n, 1].", field=tensor.name
        )
    return tensor.shape[0]


def _refuse_rows(count: int, most: int) -> None:
    if count > most:
        message = f"{count} rows are more than {most}."
        raise RequestError(message, status=413, reason="too_many_rows", hint="send fewer rows")
    if not count:
        raise refuse("The inputs have no elements, so nothing is asked.", hint="send at least one row")


def _refuse_names(model: Model, tensors: tuple[Tensor, ...], specs: dict[str, TensorSpec]) -> None:
    given = {tensor.name for tensor in tensors}
    if len(given) != len(tensors):
        raise refuse(f"An input of model {model.name!r} is given twice; got {_listed(tensors)}.")
    for name in given:
        if name not in specs:
            raise refuse(f"Model {model.name!r} has no input {shown(name)}; it has: {_known(specs)}.", field=name)
    for name, spec in specs.items():
        if name not in given and not spec.optional:
            raise refuse(f"Input {name!r} of model {model.name!r} is missing; it has: {_known(specs)}.", field=name)


def _known(specs: dict[str, TensorSpec]) -> str:
    return ", ".join(repr(name) for name in specs) or "none"


def _listed(tensors: tuple[Tensor, ...]) -> str:
    shapes = [f"{shown(tensor.name)} {tensor.datatype} {list(tensor.shape)}" for tensor in tensors[:8]]
    return ", ".join(shapes) or "none"
