"""The fields of a serve function: its parameters after the star, as a type that requests are parsed into."""

import copy
import inspect
import itertools
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy.typing as npt
import polars as pl

from penstock.core.errors import UnsupportedError
from penstock.pipeline.graph import RowsForm
from penstock.serving.limits import Limits
from penstock.serving.program.hazards import may_hold_hazards, may_hold_long_number, refuse_deep, refuse_hazards
from penstock.serving.program.rows import Columns, checked_rows, form_of, given_as, row_type
from penstock.serving.refusals import RequestError, why_unreadable

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?$", re.DOTALL)
_NAMED = re.compile(r"(?:required|unknown) field `(?P<name>[^`]*)`")
_MUTABLE = (list, dict, set)
_SCALARS: dict[type, Any] = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of a request.

    Attributes:
        type: The annotation as it stands in the user's code, resolved.
        required: It has no default.
    """

    name: str
    type: Any
    required: bool
    default: object = None


@dataclass(frozen=True, slots=True)
class Fields:
    """How a request to one serve function is parsed.

    Attributes:
        type: Frozen Struct with one field per parameter after the star; a rows field holds `RowsGiven`.
        specs: The same parameters, for protocols that fill them one by one.
        rows: Name of the field that takes rows, or None.
        form: The form in which the function wants the rows.
        columns: Released columns of the rows, name and polars type; () when they are not known.
        is_batched: It takes rows and nothing else, so questions may be joined into one call.
    """

    type: type[msgspec.Struct]
    specs: tuple[FieldSpec, ...]
    rows: str | None
    form: RowsForm | None
    columns: Columns
    is_batched: bool
    _decoder: msgspec.json.Decoder[Any]
    _names: tuple[bytes, ...]
    _texts: tuple[str, ...] | None
    _limits: Limits

    def parse(self, body: bytes) -> msgspec.Struct:
        """Parse a JSON body into the fields, all of it or nothing.

        Raises:
            RequestError: 400 when it is not JSON, 422 when a field is missing, unknown, of another type or hazardous.
        """
        if self.is_batched and body.lstrip()[:1] == b"[":
            body = b'{"' + str(self.rows).encode() + b'":' + body + b"}"
        try:
            if self._texts is None:
                refuse_deep(body, self._limits.depth)
            fields: msgspec.Struct = self._decoder.decode(body)
            if not self._is_cleared(fields, body) and may_hold_hazards(body, self._names):
                refuse_deep(body, self._limits.depth)
                refuse_hazards(body)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from error
        except (ValueError, RecursionError) as error:
            raise RequestError(
                f"The body is not valid JSON: {why_unreadable(error)}.",
                status=400,
                reason="malformed_json",
                hint="send one JSON object in UTF-8",
            ) from error
        return fields if self.rows is None else self._with_rows(fields, getattr(fields, self.rows))

    def parse_object(self, value: dict[str, Any]) -> msgspec.Struct:
        """Return the fields from one object that another protocol read.

        Raises:
            RequestError: 422 when a field is missing, unknown or of another type.
        """
        try:
            fields = msgspec.convert(value, self.type, dec_hook=_frame_parser)
        except (msgspec.ValidationError, ValueError) as error:
            raise _invalid(str(error)) from error
        return fields if self.rows is None else self._with_rows(fields, getattr(fields, self.rows))

    def of_rows(
        self, rows: pl.DataFrame | npt.NDArray[Any], others: Mapping[str, object] | None = None
    ) -> msgspec.Struct:
        """Return the fields of a function of rows, with rows that another protocol than JSON read.

        Args:
            rows: A frame, or an array of shape (rows, columns).
            others: Its other fields, as plain JSON values.

        Raises:
            RequestError: 413 for too many rows, 422 naming what is missing or of another type.
        """
        if self.rows is None or self.form is None:
            raise RequestError(
                "This function takes fields, not rows.", status=422, reason="not_rows", hint="ask by its fields"
            )
        checked = checked_rows(rows, self.form, self.columns, self._limits.rows)
        if self.is_batched and not others:
            return self.type(**{self.rows: checked})
        fields = self.parse_object({**(others or {}), self.rows: []})
        return msgspec.structs.replace(fields, **{self.rows: checked})

    def arguments(self, fields: msgspec.Struct) -> dict[str, Any]:
        """Return the keyword arguments of the function, rows in the form that it wants."""
        found = {name: getattr(fields, name) for name in fields.__struct_fields__}
        if self.rows is not None and self.form is not None:
            found[self.rows] = given_as(found[self.rows], self.form, self.columns)
        return found

    def _is_cleared(self, fields: msgspec.Struct, body: bytes) -> bool:
        """Return whether counting quotes shows that no key is repeated, which rows of known columns allow."""
        if self._texts is None:
            return False
        if self.form == "numpy":  # numbers only, so the quotes are those of the one key
            return body.count(b'"') == 2
        rows = getattr(fields, str(self.rows))
        if not isinstance(rows, list) or b"\\" in body or may_hold_long_number(body):
            return False
        texts = sum(getattr(row, name) is not None for row in rows for name in self._texts)
        return body.count(b'"') == 2 * (1 + len(rows) * len(self.columns) + texts)

    def _with_rows(self, fields: msgspec.Struct, rows: Any) -> msgspec.Struct:
        if len(rows) > self._limits.rows:
            raise _invalid(f"Expected at most {self._limits.rows} rows, got {len(rows)} - at `$.{self.rows}`")
        if self.form == "numpy":
            _check_widths(rows, len(self.columns) or len(rows[0] if rows else ()), str(self.rows))
            return fields
        if isinstance(rows, dict):
            rows = _framed(rows, str(self.rows))
        if isinstance(rows, pl.DataFrame) and self.form is not None:
            rows = checked_rows(rows, self.form, self.columns, self._limits.rows)
            return msgspec.structs.replace(fields, **{str(self.rows): rows})
        return fields


def make_fields(name: str, function: Callable[..., object], limits: Limits, columns: Columns = ()) -> Fields:
    """Return the fields of `function`, from its keyword-only parameters and their annotations.

    Args:
        name: Of the serve function.
        function: The user's own.
        limits: Bounds on requests.
        columns: Of the rows it was released with; () when they are not known.

    Raises:
        UnsupportedError: A field has a type that JSON cannot be parsed into.
    """
    specs = _specs(function)
    taking = [(spec.name, form) for spec in specs if (form := form_of(spec.type)) is not None]
    rows, form = taking[0] if taking else (None, None)
    row = None if form in {None, "numpy"} else row_type(name, columns, function.__module__)
    parts: list[Any] = []
    for spec in specs:
        kind = _rows_kind(form, row) if spec.name == rows else spec.type
        parts.append((spec.name, kind) if spec.required else (spec.name, kind, _default(spec.default)))
    try:
        struct = msgspec.defstruct(
            f"{name}_fields", parts, frozen=True, kw_only=True, forbid_unknown_fields=True, module=function.__module__
        )
        msgspec.json.schema_components([struct], schema_hook=frame_schema)
    except TypeError as error:
        raise UnsupportedError(
            f"Serve function {name!r} has a field that no request can fill: {error}.",
            hint="use int, float, str, bool, lists, dicts, dataclasses, Row, or rows: pl.DataFrame",
        ) from error
    is_batched = rows is not None and len(specs) == 1
    return Fields(
        type=struct,
        specs=specs,
        rows=rows,
        form=form,
        columns=columns,
        is_batched=is_batched,
        _decoder=msgspec.json.Decoder(struct, dec_hook=_frame_parser),
        _names=tuple(f'"{spec.name}"'.encode() for spec in specs),
        _texts=_texts(columns) if is_batched and (row is not None or form == "numpy") else None,
        _limits=limits,
    )


def _specs(function: Callable[..., object]) -> tuple[FieldSpec, ...]:
    hints = typing.get_type_hints(function, include_extras=True)
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        kind = hints.get(parameter.name, object)
        required = parameter.default is inspect.Parameter.empty
        found.append(
            FieldSpec(
                name=parameter.name,
                type=Any if kind is object else kind,
                required=required,
                default=None if required else parameter.default,
            )
        )
    return tuple(found)


def _rows_kind(form: RowsForm | None, row: type[msgspec.Struct] | None) -> Any:
    if form == "numpy":
        return list[list[float]]
    return pl.DataFrame if row is None else list[row] | dict[str, list[Any]]  # type: ignore[valid-type]  # made at run time


def _texts(columns: Columns) -> tuple[str, ...]:
    return tuple(f"c{place}" for place, (_, dtype) in enumerate(columns) if dtype == "String")


def _check_widths(rows: list[list[float]], width: int, name: str) -> None:
    for place, row in enumerate(rows):
        if len(row) != width:
            raise _invalid(f"Expected {width} numbers, got {len(row)} - at `$.{name}[{place}]`")


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


def _frame_parser(kind: type, value: Any) -> Any:
    if kind is not pl.DataFrame:
        raise NotImplementedError(kind.__qualname__)
    return _frame(value)


def _framed(columns: dict[str, list[Any]], name: str) -> pl.DataFrame:
    try:
        return _frame(columns)
    except ValueError as error:
        raise _invalid(f"{error} - at `$.{name}`") from error


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
