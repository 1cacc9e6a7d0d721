"""MLflow's scoring protocol: `/invocations` with its four forms of JSON and CSV, `/ping`, `/health` and `/version`.

What MLflow's own clients send is taken, NaN included, and answered in the forms that they read.
"""

import functools
import importlib.metadata
import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec
import polars as pl

from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Respond, Route
from penstock.serving.plane.plane import Plane
from penstock.serving.plane.questions import Answered, Question
from penstock.serving.predictions.kept_rows import write_rows
from penstock.serving.program.fields import Fields
from penstock.serving.program.hazards import may_hold_long_number, refuse_deep, refuse_hazards
from penstock.serving.program.load import Program, ServeFunction
from penstock.serving.program.rows import Columns, row_type
from penstock.serving.protocols.asking import asking, caller_of, id_headers, trouble_reply
from penstock.serving.protocols.rowwise import AskedRows, ask_frame, ask_objects, names_of, refuse_count
from penstock.serving.refusals import RequestError
from penstock.store.lake import parse_dtype

PATH = "/invocations"
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_KINDS = ("application/json", "text/csv")
_LIMITS = Limits()
_FEW_ROWS = 64
_ERROR_CODES = {503: "TEMPORARILY_UNAVAILABLE", 500: "INTERNAL_ERROR", 404: "ENDPOINT_NOT_FOUND"}
_HINT = "send an object with exactly one of dataframe_split, dataframe_records, instances, inputs"


class InvocationsWire:
    """Reads MLflow's tables and tensors, and writes `{"predictions": [...]}`.

    Args:
        limits: Bounds on rows and nesting.
    """

    def __init__(self, limits: Limits = _LIMITS) -> None:
        self._limits = limits

    def read(self, request: Request, function: ServeFunction) -> Question:
        """Return what the request asks.

        Raises:
            RequestError: 400 when the body is not in one of the forms, 422 when a column or field does not fit.
        """
        started = time.perf_counter_ns()
        body = request.body
        is_csv = request.headers.get(b"content-type", b"").lower().startswith(b"text/csv")
        kind = "csv" if is_csv else "mlflow"
        if is_csv:
            asked = ask_frame(function.fields, _read_csv(body, function.fields), {}, self._limits)
        else:
            given, others, has_nan = _read_json(body, self._limits)
            asked = _ask(function.fields, given, others, self._limits)
            if has_nan and function.fields.rows is not None:  # no reader of the log knows JSON with NaN in it
                body, kind = _kept_as_arrow(function.fields, asked)
        return Question(
            function=function,
            fields=asked.fields,
            count=asked.count,
            body=body,
            kind=kind,
            protocol="mlflow",
            caller=caller_of(request),
            parse_ns=time.perf_counter_ns() - started,
        )

    def write(self, answered: Answered, function: ServeFunction, request: Request) -> Reply:
        """Return the predictions: a list with one entry per row, records for a frame."""
        del request
        if answered.trouble is not None:
            return trouble_reply(answered, _trouble)
        is_bare = function.fields.rows is None and answered.values is not None and answered.values.count == 1
        predictions = b"[" + answered.json + b"]" if is_bare else answered.json
        return Reply(200, b'{"predictions": ' + predictions + b"}", headers=id_headers(answered))

    def refuse(self, error: RequestError) -> Reply:
        """Return the refusal as MLflow's scoring server shapes it; what is wrong with the input is always a 400."""
        return refuse(error)


def refuse(error: RequestError) -> Reply:
    """Return a refusal as MLflow's scoring server shapes it."""
    status = 400 if error.status == 422 else error.status
    message = f"{error.message} Hint: {error.hint}." if error.hint else error.message
    return Reply(status, _error(_ERROR_CODES.get(status, "BAD_REQUEST"), message))


def routes(plane: Plane, release: str, *, limits: Limits = _LIMITS) -> dict[str, Route]:
    """Return the routes: one per serve function, and `/invocations` for the one that is meant without a name.

    Args:
        plane: What answers.
        release: Its reference, "movies@3".
        limits: Bounds on rows and nesting.
    """
    wire = InvocationsWire(limits)

    def route(function: ServeFunction, name: str) -> Route:
        return Route(
            methods=frozenset({"POST"}),
            permission="predict",
            handle=asking(plane, wire, function),
            kinds=_KINDS,
            refuse=refuse,
            operation=_operation(function, name),
        )

    functions = plane.program.functions
    found = {f"{PATH}/{name}": route(function, f"invocations_{name}") for name, function in functions.items()}
    main = main_function(plane.program)
    if main is not None:
        found[PATH] = route(main, "invocations")
    version = importlib.metadata.version("penstock")
    pages = {"/ping": b"\n", "/health": b"\n", "/version": f"penstock {version} {release}".encode()}
    return {**found, **{path: _page(body) for path, body in pages.items()}}


def main_function(program: Program) -> ServeFunction | None:
    """Return the function that is meant by a caller who names none: the only one, else the first that takes rows."""
    functions = list(program.functions.values())
    if len(functions) == 1:
        return functions[0]
    return next((function for function in functions if function.fields.rows is not None), None)


def _page(body: bytes) -> Route:
    reply = Reply(200, body)

    def handle(_request: Request, respond: Respond) -> None:
        respond(reply)

    return Route(methods=frozenset({"GET"}), permission="read", handle=handle, refuse=refuse)


def _operation(function: ServeFunction, name: str) -> dict[str, Any]:
    """Return the OpenAPI operation of a function; what a column must hold is said by its typed route."""
    table = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}},
            "data": {"type": "array", "items": {"type": "array"}},
        },
        "required": ["columns", "data"],
    }
    forms: dict[str, Any] = {
        "dataframe_split": table,
        "dataframe_records": {"type": "array", "items": {"type": "object"}},
        "instances": {"type": "array"},
        "inputs": {"anyOf": [{"type": "array"}, {"type": "object"}]},
    }
    asked = [{"type": "object", "properties": {form: kind}, "required": [form]} for form, kind in forms.items()]
    reply = {"type": "object", "properties": {"predictions": {"type": "array"}}, "required": ["predictions"]}
    error = {
        "type": "object",
        "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
        "required": ["error_code", "message"],
    }
    return {
        "operationId": name,
        "summary": f"Ask {function.name} as MLflow's scoring servers are asked.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": asked}}}},
        "responses": {
            "200": {"description": "One entry per row.", "content": {"application/json": {"schema": reply}}},
            **{
                status: {"description": text, "content": {"application/json": {"schema": error}}}
                for status, text in {"400": "What was sent does not fit.", "500": "The function failed."}.items()
            },
        },
    }


def _error(code: str, message: str) -> bytes:
    return msgspec.json.encode({"error_code": code, "message": message})


def _trouble(reason: str, message: str, prediction_id: str) -> object:
    code = "INTERNAL_ERROR" if reason == "function_failed" else "TEMPORARILY_UNAVAILABLE"
    return {"error_code": code, "message": f"{message} Prediction {prediction_id}."}


def _read_json(body: bytes, limits: Limits) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Return the one form that was sent, the `params`, and whether a number was NaN or infinite."""
    refuse_deep(body, limits.depth)
    constants: list[str] = []
    value = _quick(body)
    if value is None:
        value = _careful(body, constants)
    if b"\\" in body or may_hold_long_number(body):
        refuse_hazards(body)
    if not isinstance(value, dict):
        _refuse(f"The body is a JSON {_kind_of(value)}.")
    forms = [name for name in _FORMS if name in value]
    if len(forms) != 1:
        _refuse(f"The body has {len(forms)} of the known forms of input.")
    others = value.get("params")
    if others is not None and not isinstance(others, dict):
        _refuse("`params` is not an object.", field="params")
    return {forms[0]: value[forms[0]]}, others or {}, bool(constants)


def _quick(body: bytes) -> Any:
    """Return JSON read by the fast parser, if it is plain to see that no key is repeated and no number is NaN."""
    try:
        value = msgspec.json.decode(body)
    except ValueError:
        return None
    quoted = len(value) if isinstance(value, dict) else 0
    for inner in value.values() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            names = inner.get("columns", ())
            quoted += len(inner) + sum(isinstance(name, str) for name in (names if isinstance(names, list) else ()))
    # Every quote is then that of a key or of a column's name, each of which is there once.
    return value if b"\\" not in body and body.count(b'"') == 2 * quoted else None


def _careful(body: bytes, constants: list[str]) -> Any:
    def constant(word: str) -> float:
        constants.append(word)
        return float(word)

    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        _refuse("The body is not valid JSON in UTF-8.", error=error)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("A key is given more than once.")
    return found


def _ask(fields: Fields, given: dict[str, Any], others: dict[str, Any], limits: Limits) -> AskedRows:
    ((form, value),) = given.items()
    match form, value:  # what is none of these is refused below
        case "dataframe_split", dict():
            names, rows = _split(value)
            return _ask_lists(fields, names, rows, others, limits=limits)
        case "dataframe_records" | "instances" | "inputs", [dict(), *_]:
            return _ask_records(fields, form, value, others, limits=limits)
        case "inputs" | "instances", dict():
            return _ask_columns(fields, form, value, others, limits=limits)
        case "inputs" | "instances", [list(), *_]:
            return _ask_lists(fields, None, _lists(value, form), others, limits=limits)
        case "inputs" | "instances", list():
            return _ask_lists(fields, None, [[item] for item in value], others, limits=limits)
    raise _malformed(f"{form!r} is a JSON {_kind_of(value)}.", form)


def _split(value: dict[str, Any]) -> tuple[list[str] | None, list[list[Any]]]:
    rows, columns = value.get("data"), value.get("columns")
    if not isinstance(rows, list):
        _refuse("'dataframe_split' has no list of rows called 'data'.", field="dataframe_split.data")
    names = None
    if columns is not None:
        if not isinstance(columns, list) or not all(isinstance(name, str | int) for name in columns):
            _refuse("'columns' is not a list of names.", field="dataframe_split.columns")
        names = [str(name) for name in columns]
        if len(set(names)) != len(names):
            _refuse("A column is named more than once.", field="dataframe_split.columns")
    found = _lists(rows, "dataframe_split.data")
    if names is not None and found and len(found[0]) != len(names):
        _refuse(f"The rows have {len(found[0])} values and {len(names)} names.", field="dataframe_split.data")
    return names, found


def _lists(value: list[Any], name: str) -> list[list[Any]]:
    width = len(value[0]) if value and isinstance(value[0], list) else 0
    for place, row in enumerate(value):
        if not isinstance(row, list) or len(row) != width:
            _refuse(f"Row {place} is not a list of {width} values, as the first one is.", field=f"{name}[{place}]")
    return value


def _ask_lists(
    fields: Fields, names: list[str] | None, rows: list[list[Any]], others: dict[str, Any], *, limits: Limits
) -> AskedRows:
    refuse_count(len(rows), limits.rows if fields.rows is not None else min(limits.rows, limits.batch_rows))
    if fields.form == "numpy":  # by position, as MLflow gives a frame to a model of arrays
        return AskedRows((fields.parse_object({**others, str(fields.rows): rows}),), len(rows))
    known = names if names is not None else names_of(fields, len(rows[0]))
    if fields.rows is None:
        return ask_objects(fields, (dict(zip(known, row, strict=True)) for row in rows), others)
    if len(rows) <= _FEW_ROWS and _has_row_type(fields.columns):
        given: Any = _row_objects(fields, known, rows)
    else:
        given = _fitted(fields, {n: list(c) for n, c in zip(known, zip(*rows, strict=True), strict=True)})
    return AskedRows((fields.parse_object({**others, fields.rows: given}),), len(rows))


def _ask_records(fields: Fields, form: str, rows: list[Any], others: dict[str, Any], *, limits: Limits) -> AskedRows:
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            _refuse(f"Row {place} is no object, as the first one is.", field=f"{form}[{place}]")
    if fields.rows is None:
        refuse_count(len(rows), min(limits.rows, limits.batch_rows))
        return ask_objects(fields, rows, others)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _ask_lists(fields, names, [[row.get(name) for name in names] for row in rows], others, limits=limits)


def _ask_columns(
    fields: Fields, form: str, columns: dict[str, Any], others: dict[str, Any], *, limits: Limits
) -> AskedRows:
    lists = {name: value if isinstance(value, list) else [value] for name, value in columns.items()}
    if len({len(column) for column in lists.values()}) != 1:
        _refuse("The columns are not of equal length.", field=form)
    # A tensor of shape [n, 1] is a column too.
    flat = {
        n: [v[0] for v in c] if all(isinstance(v, list) and len(v) == 1 for v in c) else c for n, c in lists.items()
    }
    rows = [list(row) for row in zip(*flat.values(), strict=True)]
    return _ask_lists(fields, list(flat), rows, others, limits=limits)


def _fitted(fields: Fields, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the released columns among those given; NaN, which pandas writes for "no value", becomes null in text."""
    if not fields.columns:
        return columns
    floats = _is_float(fields.columns)
    return {n: c if floats[n] else [_or_null(item) for item in c] for n, c in columns.items() if n in floats}


def _row_objects(fields: Fields, names: Sequence[str], rows: list[list[Any]]) -> list[dict[str, Any]]:
    """Return rows as objects with the released columns, which become a row's own type: few rows need no frame."""
    floats = _is_float(fields.columns)
    places = [(place, name, floats[name]) for place, name in enumerate(names) if name in floats]
    return [{name: row[at] if is_float else _or_null(row[at]) for at, name, is_float in places} for row in rows]


def _or_null(item: Any) -> Any:
    return None if isinstance(item, float) and math.isnan(item) else item


@functools.lru_cache(64)
def _is_float(columns: Columns) -> dict[str, bool]:
    return {name: parse_dtype(dtype).is_float() for name, dtype in columns}


@functools.lru_cache(64)
def _has_row_type(columns: Columns) -> bool:
    return row_type("row", columns, __name__) is not None


def _kept_as_arrow(fields: Fields, asked: AskedRows) -> tuple[bytes, str]:
    arguments = getattr(asked.fields[0], str(fields.rows))
    frame = arguments if isinstance(arguments, pl.DataFrame) else pl.DataFrame(arguments, orient="row")
    return write_rows(frame), "arrow"


def _read_csv(body: bytes, fields: Fields) -> pl.DataFrame:
    types: Mapping[str, pl.DataType] = {
        name: dtype for name, text in fields.columns if (dtype := parse_dtype(text)).is_numeric() or dtype == pl.String
    }
    try:
        body.decode()
        frame = pl.read_csv(
            io.BytesIO(body), infer_schema_length=None, schema_overrides=types if fields.form != "numpy" else None
        )
    except (ValueError, pl.exceptions.PolarsError) as error:
        _refuse("The body is not a CSV with a header, in UTF-8, of the columns of the release.", error=error)
    # pandas writes its index as a first column without a name.
    return frame.drop([name for name in frame.columns if not name])


def _kind_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "truth value"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case _:
            return "object"


def _refuse(message: str, *, field: str = "", error: Exception | None = None) -> NoReturn:
    raise _malformed(message, field) from error


def _malformed(message: str, field: str) -> RequestError:
    return RequestError(message, status=400, reason="malformed_body", field=field, hint=_HINT)
