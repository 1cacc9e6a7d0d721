"""The fields of a serve function: its parameters after the star, as a type that requests are parsed into."""

import copy
import inspect
import itertools
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from penstock.core.errors import UnsupportedError
from penstock.serving.limits import Limits
from penstock.serving.program.hazards import may_hold_hazards, refuse_deep, refuse_hazards
from penstock.serving.refusals import RequestError

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?$", re.DOTALL)
_NAMED = re.compile(r"(?:required|unknown) field `(?P<name>[^`]*)`")
_MUTABLE = (list, dict, set)
_SCALARS: dict[type, Any] = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String}


@dataclass(frozen=True, slots=True)
class Fields:
    """How a request to one serve function is parsed.

    Attributes:
        type: Frozen Struct with one field per parameter after the star.
        frame: The only field when it takes rows, so that a bare list of rows may be sent; else None.
        has_frame: Some field takes rows.
    """

    type: type[msgspec.Struct]
    frame: str | None
    has_frame: bool
    _decoder: msgspec.json.Decoder[Any]
    _names: tuple[bytes, ...]
    _limits: Limits

    def parse(self, body: bytes) -> msgspec.Struct:
        """Parse a JSON body into the fields, all of it or nothing.

        Raises:
            RequestError: 400 when it is not JSON, 422 when a field is missing, unknown, of another type or hazardous.
        """
        refuse_deep(body, self._limits.depth)
        if self.frame is not None and body.lstrip()[:1] == b"[":
            body = b'{"' + self.frame.encode() + b'":' + body + b"}"
        try:
            fields: msgspec.Struct = self._decoder.decode(body)
            if may_hold_hazards(body, self._names):
                refuse_hazards(body)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from error
        except (ValueError, RecursionError) as error:
            raise RequestError(
                f"The body is not valid JSON: {_malformed(error)}.",
                status=400,
                reason="malformed_json",
                hint="send one JSON object in UTF-8",
            ) from error
        return fields


def make_fields(name: str, function: Callable[..., object], limits: Limits) -> Fields:
    """Return the fields of `function`, from its keyword-only parameters and their annotations.

    Raises:
        UnsupportedError: A field has a type that JSON cannot be parsed into.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    specs: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        kind = hints.get(parameter.name, object)
        kind = Any if kind is object else kind
        if parameter.default is inspect.Parameter.empty:
            specs.append((parameter.name, kind))
        else:
            specs.append((parameter.name, kind, _default(parameter.default)))
    try:
        struct = msgspec.defstruct(
            f"{name}_fields", specs, frozen=True, kw_only=True, forbid_unknown_fields=True, module=function.__module__
        )
        msgspec.json.schema_components([struct], schema_hook=frame_schema)
    except TypeError as error:
        raise UnsupportedError(
            f"Serve function {name!r} has a field that no request can fill: {error}.",
            hint="use int, float, str, bool, lists, dicts, dataclasses, Row, or rows: pl.DataFrame",
        ) from error
    frames = [spec[0] for spec in specs if spec[1] is pl.DataFrame]
    return Fields(
        type=struct,
        frame=frames[0] if len(specs) == 1 and frames else None,
        has_frame=bool(frames),
        _decoder=msgspec.json.Decoder(struct, dec_hook=_frame_parser(limits)),
        _names=tuple(f'"{spec[0]}"'.encode() for spec in specs),
        _limits=limits,
    )


def frame_schema(kind: type) -> dict[str, Any]:
    """Return the JSON schema of a field that takes rows.

    Raises:
        NotImplementedError: `kind` is another type that JSON does not know.
    """
    if kind is pl.DataFrame:
        row = {"type": "object", "additionalProperties": True}
        columns = {"type": "object", "additionalProperties": {"type": "array"}}
        return {"title": "Rows", "anyOf": [{"type": "array", "items": row}, columns]}
    raise NotImplementedError(f"{kind.__module__}.{kind.__qualname__}")


def _default(value: object) -> Any:
    if isinstance(value, _MUTABLE):
        return msgspec.field(default_factory=lambda: copy.deepcopy(value))
    return value


def _frame_parser(limits: Limits) -> Callable[[type, Any], Any]:
    def parse(kind: type, value: Any) -> Any:
        if kind is not pl.DataFrame:
            raise NotImplementedError(kind.__qualname__)
        frame = _frame(value)
        if frame.height > limits.rows:
            raise ValueError(f"Expected at most {limits.rows} rows, got {frame.height}")
        return frame

    return parse


def _frame(value: Any) -> pl.DataFrame:
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        names = dict.fromkeys(name for row in value for name in row)
        columns: Any = {name: [row.get(name) for row in value] for name in names}
    else:
        columns = value
    if not isinstance(columns, dict) or not all(isinstance(column, list) for column in columns.values()):
        raise ValueError("Expected a list of rows (objects) or an object of columns (lists)")
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError("Expected columns of equal length")
    return pl.DataFrame([_column(name, column) for name, column in columns.items()])


def _column(name: str, values: list[Any]) -> pl.Series:
    # polars would turn 1 beside "x" into "1" and 2.5 beside [1] into 2: a value must stay what was sent.
    lists = {type(value) for value in values} - {type(None)} == {list}
    kinds = {type(value) for value in (itertools.chain.from_iterable(v or () for v in values) if lists else values)}
    kinds.discard(type(None))
    if kinds == {int, float}:
        kind: Any = pl.Float64
    elif len(kinds) > 1 or not kinds <= _SCALARS.keys():
        raise ValueError(f"Expected one type of number, text or truth value in column {name[:128]!r}")
    else:
        kind = _SCALARS[kinds.pop()] if kinds else pl.Null
    try:
        return pl.Series(name, values, dtype=pl.List(kind) if lists else kind)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"Expected numbers within 64 bits in column {name[:128]!r}") from error


def _invalid(text: str) -> RequestError:
    match = _AT.match(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    if named := _NAMED.search(what):
        path = f"{path}.{named['name']}" if path else named["name"]
    return RequestError(
        f"{what}{f' at {path!r}' if path else ''}.",
        status=422,
        reason="invalid_field",
        field=path[:200],
        hint="GET /openapi.json lists the fields and their types",
    )


def _malformed(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it nests too deep"
    return str(error).removeprefix("JSON is malformed: ")
