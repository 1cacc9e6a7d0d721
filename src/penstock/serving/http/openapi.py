"""What a release answers, as an OpenAPI document and as a page for people: made once, no script, nothing fetched."""

import html
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.serving.messages import Header, Route
from penstock.serving.program.fields import frame_schema
from penstock.serving.program.load import Program, ServeFunction

HTML = b"text/html; charset=utf-8"
PAGE_POLICY: Header = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 52rem; padding: 0 1rem;
       color: #1c2430; background: #fff }
h1 small { color: #5b6675; font-weight: normal } code, pre { font: 14px/1.5 ui-monospace, monospace }
pre { background: #f2f4f7; padding: .8rem; overflow-x: auto; border-radius: 6px }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .8rem .3rem 0;
       border-bottom: 1px solid #dde2e8; vertical-align: top }
@media (prefers-color-scheme: dark) { body { color: #e6eaf0; background: #12161c } pre { background: #1d232c }
       th, td { border-color: #333c48 } h1 small { color: #9aa6b4 } }
"""
_JSON = "application/json"
_BYTES = {"type": "string", "format": "binary"}
_STATUSES = {
    "400": "The request, or its body, is malformed.",
    "403": "The Host or Origin header names another site.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is of a type or a coding that is not read here.",
    "422": "A field is missing, unknown or of another type.",
    "500": "The function failed and has no fallback.",
    "503": "No release is loaded yet, or more requests wait than can be answered in time.",
}


def describe_api(program: Program, release: str, routes: Mapping[str, Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a release: its functions, and the routes that describe themselves."""
    kinds = [function.fields.type for function in program.functions.values()]
    returns = {name: _return_type(function) for name, function in program.functions.items()}
    shown = [kind for kind in returns.values() if kind is not None]
    schemas, parts = msgspec.json.schema_components(
        [*kinds, *shown], schema_hook=frame_schema, ref_template="#/components/schemas/{name}"
    )
    schemas, parts = _within_64_bits(list(schemas)), _within_64_bits(parts)
    by_function = {
        name: _body(function, schema, parts)
        for (name, function), schema in zip(program.functions.items(), schemas, strict=False)
    }
    answers = iter(schemas[len(kinds) :])
    paths: dict[str, Any] = {
        f"/{program.pipeline}/{name}": {
            "post": _operation(function, body=by_function[name], answer={} if returns[name] is None else next(answers))
        }
        for name, function in program.functions.items()
    }
    for path, item in paths.items():
        other = [kind for kind in routes[path].kinds if kind != _JSON]
        item["post"]["requestBody"]["content"] |= {kind: {"schema": _BYTES} for kind in other}
    for path, route in routes.items():
        if route.operation is not None:
            operation = {**route.operation, "responses": {**_refusals(route), **route.operation.get("responses", {})}}
            paths[path] = {method.lower(): operation for method in sorted(route.methods)}
    error = {"type": "object", "properties": {"error": {"type": "object"}}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": program.pipeline, "version": release, "description": program.goal},
        "paths": paths,
        "components": {"schemas": {**parts, "Error": error}},
    }


def _body(function: ServeFunction, schema: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a body: the fields as an object, or the rows alone for a function of nothing else."""
    if not function.fields.is_batched:
        return schema
    fields = parts.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    rows = fields["properties"][function.fields.rows]
    lists = [kind for kind in rows.get("anyOf", [rows]) if kind.get("type") == "array"]
    return {"anyOf": [schema, *lists]}


def _refusals(route: Route) -> dict[str, Any]:
    """Return what the server itself may say at any route, whatever the shape."""
    statuses = ("400", "403", "408", "413", "415", "503") if route.kinds else ("400", "403", "503")
    return {status: {"description": _STATUSES[status]} for status in statuses}


def _within_64_bits(schema: Any) -> Any:
    """Return a schema whose integers have the bounds that every request is held to."""
    if isinstance(schema, list):
        return [_within_64_bits(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    bounded = {name: _within_64_bits(part) for name, part in schema.items()}
    if bounded.get("type") == "integer":
        low = {} if "exclusiveMinimum" in bounded else {"minimum": -(2**63)}
        high = {} if "exclusiveMaximum" in bounded else {"maximum": 2**63 - 1}
        bounded = {**low, **high, **bounded}
    return bounded


def _operation(function: ServeFunction, *, body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    reply = {
        "type": "object",
        "properties": {
            "prediction_id": {"type": "string"},
            "release": {"type": "string"},
            "fallback": {"type": "boolean", "default": False},
            "answer": answer,
        },
        "required": ["prediction_id", "release", "answer"],
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "operationId": function.name,
        "summary": function.doc.strip().partition("\n")[0],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": {"schema": reply}}},
            **{status: {"description": text, "content": error} for status, text in _STATUSES.items()},
        },
    }


def _return_type(function: ServeFunction) -> Any:
    """Return the annotated type of the answer, or None when JSON schema cannot say it."""
    kind = typing.get_type_hints(function.function, include_extras=True).get("return")
    if kind is None:
        return None
    try:
        msgspec.json.schema_components([kind], schema_hook=frame_schema)
    except (TypeError, NotImplementedError):
        return None
    return kind


def render_page(document: dict[str, Any]) -> bytes:
    """Return the page at `/docs`: each route with its fields and a request to copy; every text is escaped."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(info['title'])}</title>",
        '<meta name=viewport content="width=device-width">',
        f"<style>{_STYLE}</style><h1>{_text(info['title'])} <small>{_text(info['version'])}</small></h1>",
        f"<p>{_text(info['description'])}</p>",
    ]
    for path, methods in document["paths"].items():
        operation = methods.get("post", {})
        if "requestBody" not in operation:
            continue
        schema = resolve_schema(operation["requestBody"]["content"]["application/json"]["schema"], document)
        parts += [
            f"<h2><code>POST {_text(path)}</code></h2><p>{_text(operation['summary'])}</p>",
            _fields_table(schema),
        ]
        parts.append(f"<pre>{_text(_example(path, schema))}</pre>")
    parts.append('<p>For programs: <a href="/openapi.json">openapi.json</a></p></html>')
    return "\n".join(parts).encode()


def _fields_table(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        f"<tr><td><code>{_text(name)}</code><td>{_text(_type_words(field))}"
        f"<td>{'required' if name in required else _text('default ' + to_json(field.get('default')))}"
        for name, field in schema.get("properties", {}).items()
    ]
    return f"<table><tr><th>Field<th>Type<th>{''.join(rows)}</table>" if rows else "<p>No fields.</p>"


def _type_words(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return str(field.get("title") or " or ".join(_type_words(kind) for kind in field["anyOf"]))
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if field.get("type") == "array" and "items" in field:
        return f"list of {_type_words(field['items'])}"
    if "enum" in field:
        return "one of " + ", ".join(to_json(value) for value in field["enum"])
    return str(field.get("type", "anything"))


def _example(path: str, schema: dict[str, Any]) -> str:
    samples = {"integer": 1, "number": 1.0, "string": "text", "boolean": True, "array": [], "object": {}}
    fields = {
        name: schema["properties"][name].get("default", samples.get(schema["properties"][name].get("type", "")))
        for name in schema.get("required", schema.get("properties", {}))
    }
    return f"curl -s localhost:8000{path} -H 'content-type: application/json' -d '{to_json(fields)}'"


def resolve_schema(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return a schema, or the one that it names; of several, the first."""
    schema = schema.get("anyOf", [schema])[0]
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"].get(name, schema)
    return found


def to_json(value: object) -> str:
    """Return a value as JSON text."""
    return msgspec.json.encode(value).decode()


def _text(value: object) -> str:
    return html.escape(str(value))
