"""The REST API as an OpenAPI document, made from the table of routes: every page and every action, once."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.web.routes import Action, Page

_NAMES = re.compile(r"\{([a-z]+)\}")
_JSON = "application/json"
_ERRORS = {
    "400": "The request is malformed.",
    "401": "No good token was sent.",
    "403": "The caller lacks the role, or the Host or Origin header names another site.",
    "404": "There is no such thing, or the caller has no role for its pipeline.",
    "408": "The body did not arrive in time.",
    "409": "A check forbids it, or something that policy asks for is missing.",
    "413": "The body is too large.",
    "415": "The body is neither a form nor JSON.",
    "422": "A value is unusable; the message names it.",
    "503": "The store cannot be used now.",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint"],
            "properties": {name: {"type": "string"} for name in ("code", "message", "hint")},
        }
    },
}


def describe(pages: Sequence[Page], actions: Sequence[Action], prefix: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the API below a prefix."""
    template = "#/components/schemas/{name}"
    kinds, parts = msgspec.json.schema_components([page.data for page in pages], ref_template=template)
    paths: dict[str, Any] = {}
    for page, kind in zip(pages, kinds, strict=True):
        paths[_path(prefix, page.path)] = {"get": _page(page, kind)}
    for action in actions:
        paths.setdefault(_path(prefix, action.path), {})["post"] = _action(action)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Penstock", "version": prefix.rpartition("/")[2]},
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "schemas": {**parts, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _path(prefix: str, path: str) -> str:
    return prefix if path == "/" else prefix + path


def _page(page: Page, kind: dict[str, Any]) -> dict[str, Any]:
    sought = [_parameter(name, "query", is_required=False) for name in page.query]
    return {
        "operationId": page.show.__name__,
        "summary": _summary(page.show.__doc__),
        "description": f"Takes the role {page.role}.",
        "parameters": [*_parameters(page.path), *sought],
        "responses": {"200": _answer("What the page shows.", kind), **_refusals()},
    }


def _action(action: Action) -> dict[str, Any]:
    fields = {name: {"type": "string"} for name in sorted(action.fields)}
    body = {"type": "object", "properties": fields, "additionalProperties": False}
    done = {"type": "object", "required": ["said", "result"], "properties": {"said": {"type": "string"}, "result": {}}}
    return {
        "operationId": action.act.__name__,
        "summary": _summary(action.act.__doc__),
        "description": f"Takes the role {action.role}.",
        "parameters": _parameters(action.path),
        "requestBody": {"required": False, "content": {_JSON: {"schema": body}}},
        "responses": {"200": _answer("It was done.", done), **_refusals()},
    }


def _summary(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _parameters(path: str) -> list[dict[str, Any]]:
    return [_parameter(name, "path", is_required=True) for name in _NAMES.findall(path)]


def _parameter(name: str, place: str, *, is_required: bool) -> dict[str, Any]:
    return {"name": name, "in": place, "required": is_required, "schema": {"type": "string"}}


def _answer(said: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": said, "content": {_JSON: {"schema": schema}}}


def _refusals() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {status: _answer(said, schema) for status, said in _ERRORS.items()}
