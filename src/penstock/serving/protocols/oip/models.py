"""Serve functions as models of the protocol: their names, their version, their named inputs and outputs.

What a release does not say beforehand, such as the width of an array that a function returns, is learned from the
first answer.
"""

import typing
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import polars as pl

from penstock.serving.program.fields import FieldSpec
from penstock.serving.program.load import Program, ServeFunction
from penstock.serving.program.rows import form_of
from penstock.serving.program.values import ANSWER
from penstock.serving.protocols.oip.tensors import Tensor, shown
from penstock.serving.refusals import RequestError
from penstock.store.lake.dtypes import parse_dtype

Content = Literal["number", "text", "json", "bytes"]

_INFO = msgspec.inspect
_TEXTS = (_INFO.StrType, _INFO.DateTimeType, _INFO.DateType, _INFO.TimeType, _INFO.TimeDeltaType, _INFO.UUIDType)
_RECORDS = (_INFO.StructType, _INFO.DataclassType, _INFO.TypedDictType, _INFO.NamedTupleType)
_COLUMN_DATATYPES: dict[Any, str] = {
    pl.Boolean: "BOOL",
    pl.Int8: "INT8",
    pl.Int16: "INT16",
    pl.Int32: "INT32",
    pl.Int64: "INT64",
    pl.UInt8: "UINT8",
    pl.UInt16: "UINT16",
    pl.UInt32: "UINT32",
    pl.UInt64: "UINT64",
    pl.Float32: "FP32",
    pl.Float64: "FP64",
}


class TensorSpec(msgspec.Struct, frozen=True):
    """A named input or output.

    Attributes:
        shape: -1 where the caller chooses.
        content: What an element is: BYTES hold text, JSON of one value, or plain bytes.
        optional: An input that may be left out; an output that is a number or text, or null.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: Content = "number"
    optional: bool = False

    def metadata(self) -> dict[str, Any]:
        """Return the tensor as the protocol's metadata shows it."""
        found: dict[str, Any] = {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}
        parameters: dict[str, Any] = {"content_type": self.content} if self.datatype == "BYTES" else {}
        if self.optional:
            parameters["optional"] = True
        return {**found, "parameters": parameters} if parameters else found


class Model:
    """One serve function under one name.

    Attributes:
        name: As callers write it.
        version: Number of the release.
        release: Its reference, "movies@3".
        inputs: What it takes; of rows without released columns one tensor of any width.
        rows: Those inputs that are columns of the rows, () for a function of fields.
        takes_matrix: All rows may come as one 2-D tensor of numbers.
        outputs: What it gives; None as long as that is not known.
        planned: The same by name.
        is_all_float: Every released column is a Float64.
        reply_start: JSON of a reply up to the request's id.
        reply_middle: JSON of a reply from there to the prediction's id.
    """

    def __init__(self, function: ServeFunction, name: str, release: str) -> None:
        self.function = function
        self.name = name
        self.release = release
        self.version = release.rpartition("@")[2] or "1"
        self.rows = _row_inputs(function)
        self.takes_matrix = all(spec.datatype != "BYTES" for spec in self.rows)
        fields = [spec for spec in function.fields.specs if spec.name != function.fields.rows]
        self.fields = {spec.name: _field_input(spec) for spec in fields}
        self.inputs = (*self.rows, *self.fields.values())
        self.outputs = _outputs(function)
        self.planned = {spec.name: spec for spec in self.outputs or ()}
        columns = function.fields.columns
        self.is_all_float = bool(columns) and all(dtype == "Float64" for _, dtype in columns)
        # Names and references hold nothing that JSON escapes: they match [a-z0-9][a-z0-9._-]*.
        self.reply_start = f'{{"model_name":"{name}","model_version":"{self.version}"'.encode()
        self.reply_middle = f',"parameters":{{"release":"{release}","prediction_id":"'.encode()

    def metadata(self) -> dict[str, Any]:
        """Return the model as `GET /v2/models/NAME` shows it."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "penstock",
            "inputs": [spec.metadata() for spec in self.inputs],
            "outputs": [spec.metadata() for spec in self.outputs or (TensorSpec(ANSWER, "FP64", (-1,)),)],
        }

    def learn(self, outputs: list[Tensor]) -> None:
        """Note the outputs of the first answer of a function whose annotation does not tell them."""
        # The width of rows that were not released with columns is the caller's, and may be that of the answer.
        is_fixed = self.function.fields.rows is None or bool(self.function.fields.columns)
        self.outputs = tuple(
            TensorSpec(
                tensor.name,
                tensor.datatype,
                (-1, *(size if is_fixed else -1 for size in tensor.shape[1:])),
                "text" if tensor.is_text else "number",
            )
            for tensor in outputs
        )
        self.planned = {spec.name: spec for spec in self.outputs}

    def refuse_version(self, version: str) -> None:
        """Refuse a request for another version; "" is any.

        Raises:
            RequestError: 404, naming the version that there is.
        """
        if version not in {"", self.version}:
            raise RequestError(
                f"Model {self.name!r} has no version {shown(version)}; it has {self.version!r}.",
                status=404,
                reason="unknown_version",
                hint="leave the version out",
            )


class Models:
    """The models of a release by name: one per serve function, and the pipeline's name for its only one."""

    def __init__(self, program: Program, release: str) -> None:
        self.by_name: Mapping[str, Model] = {
            name: Model(function, name, release) for name, function in _named(program).items()
        }

    def find(self, name: str, version: str = "") -> Model:
        """Return the model of a name.

        Raises:
            RequestError: 404, naming the models or the version that there are.
        """
        found = self.by_name.get(name)
        if found is None:
            known = ", ".join(self.by_name) or "none"
            raise RequestError(
                f"There is no model {shown(name)}; this server has: {known}.",
                status=404,
                reason="unknown_model",
                hint="a model is a serve function of the released pipeline",
            )
        found.refuse_version(version)
        return found

    def index(self) -> list[dict[str, str]]:
        """Return what Triton's repository index lists."""
        models = self.by_name.values()
        return [{"name": model.name, "version": model.version, "state": "READY", "reason": ""} for model in models]


def _named(program: Program) -> dict[str, ServeFunction]:
    found = dict(program.functions)
    if len(found) == 1:
        found.setdefault(program.pipeline, next(iter(found.values())))
    return found


def _row_inputs(function: ServeFunction) -> tuple[TensorSpec, ...]:
    fields = function.fields
    if fields.rows is None:
        return ()
    if fields.form == "numpy" or not fields.columns:
        return (TensorSpec(fields.rows, "FP64", (-1, len(fields.columns) or -1)),)
    return tuple(_column_input(name, parse_dtype(dtype)) for name, dtype in fields.columns)


def _column_input(name: str, dtype: pl.DataType) -> TensorSpec:
    datatype = _COLUMN_DATATYPES.get(dtype.base_type(), "BYTES")
    content: Content = "number"
    if datatype == "BYTES":
        content = "json" if dtype.is_nested() else "bytes" if dtype == pl.Binary else "text"
    return TensorSpec(name, datatype, (-1,), content)


def _field_input(spec: FieldSpec) -> TensorSpec:
    datatype, content, _ = _element(_info(spec.type))
    return TensorSpec(spec.name, datatype, (-1,), content, optional=not spec.required)


def _info(kind: Any) -> _INFO.Type:
    try:
        return _INFO.type_info(kind)
    except (TypeError, ValueError):  # a type of the user's that only its own code understands
        return _INFO.AnyType()


def _element(info: _INFO.Type) -> tuple[str, Content, bool]:
    """Return datatype and content of one value, and whether it may be missing."""
    match info:
        case _INFO.Metadata():
            return _element(info.type)
        case _INFO.UnionType():
            others = [kind for kind in info.types if not isinstance(kind, _INFO.NoneType)]
            if len(others) == 1:
                datatype, content, _ = _element(others[0])
                return datatype, content, info.includes_none
        case _INFO.BoolType():
            return "BOOL", "number", False
        case _INFO.IntType():
            return "INT64", "number", False
        case _INFO.FloatType():
            return "FP64", "number", False
        case _INFO.LiteralType() | _INFO.EnumType():
            return _element_of_set(info)
    return "BYTES", "text" if isinstance(info, _TEXTS) else "json", False


def _element_of_set(info: _INFO.LiteralType | _INFO.EnumType) -> tuple[str, Content, bool]:
    values = info.values if isinstance(info, _INFO.LiteralType) else [item.value for item in info.cls]
    kinds = {type(value) for value in values}
    if kinds == {int}:
        return "INT64", "number", False
    return "BYTES", "text" if kinds == {str} else "json", False


def _outputs(function: ServeFunction) -> tuple[TensorSpec, ...] | None:
    kind = typing.get_type_hints(function.function, include_extras=True).get("return", Any)
    if function.fields.rows is not None:
        items = typing.get_args(kind)
        if typing.get_origin(kind) not in {list, tuple} or not items:
            return None
        kind = items[0]
    elif form_of(kind) is not None or kind in {Any, object, dict}:
        return None
    info = _info(kind)
    if isinstance(info, _INFO.AnyType | _INFO.CustomType | _INFO.DictType):
        return None
    if isinstance(info, _RECORDS):
        return tuple(_output(_encoded_name(field), field.type) for field in info.fields) or None
    return (_output(ANSWER, info),)


def _encoded_name(field: _INFO.Field) -> str:
    return getattr(field, "encode_name", field.name)


def _output(name: str, info: _INFO.Type) -> TensorSpec:
    datatype, content, may_miss = _element(info)
    if may_miss and content != "json":  # a number or text that is not there: only JSON has a word for it
        return TensorSpec(name, "BYTES", (-1,), "json", optional=True)
    return TensorSpec(name, datatype, (-1,), content)
