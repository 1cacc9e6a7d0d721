"""The protocol's routes as OpenAPI operations, so that `/docs` shows them and tools can try them."""

from typing import Any

from penstock.serving.protocols.oip.models import Model, TensorSpec
from penstock.serving.protocols.oip.tensors import DATATYPES

_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**31}, "minItems": 1, "maxItems": 8}
_ERROR = {
    "application/json": {
        "schema": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    }
}
_SAMPLES: dict[str, Any] = {"BOOL": True, "BYTES": "text"}


def infer_operation(model: Model) -> dict[str, Any]:
    """Return the operation of a model's `infer`."""
    request = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "items": _tensor(model)},
            "outputs": {"type": "array", "items": _named()},
        },
        "required": ["inputs"],
        "additionalProperties": False,
        "examples": [{"inputs": [_example(spec) for spec in model.inputs if not spec.optional]}],
    }
    reply = {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": _PARAMETERS,
            "outputs": {"type": "array", "items": _named("datatype", "shape")},
        },
        "required": ["model_name", "model_version", "parameters", "outputs"],
    }
    refusals = {
        "404": "There is no such model or version.",
        "422": "A tensor is missing, unknown, or not what it says.",
        "500": "The function failed and has no fallback.",
    }
    return {
        "operationId": f"v2_{model.name}_infer",
        "summary": f"Ask {model.name} by the Open Inference Protocol, in JSON or with binary tensors after it.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": "The answers.", "content": {"application/json": {"schema": reply}}},
            **{status: {"description": text, "content": _ERROR} for status, text in refusals.items()},
        },
    }


def page_operation(name: str, summary: str) -> dict[str, Any]:
    """Return the operation of a page that takes nothing."""
    shown = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "What it tells.", "content": shown}},
    }


def _tensor(model: Model) -> dict[str, Any]:
    # One tensor for all rows may have any name.
    name: dict[str, Any] = {"type": "string"}
    if not model.rows:
        name["enum"] = [spec.name for spec in model.inputs]
    return {
        "type": "object",
        "properties": {
            "name": name,
            "datatype": {"enum": list(DATATYPES)},
            "shape": _SHAPE,
            "parameters": _PARAMETERS,
            "data": {"type": "array"},
        },
        "required": ["name", "datatype", "shape"],
        "additionalProperties": False,
    }


def _named(*required: str) -> dict[str, Any]:
    known: dict[str, Any] = {"name": {"type": "string"}, "parameters": _PARAMETERS}
    if not required:
        return {"type": "object", "properties": known, "required": ["name"], "additionalProperties": False}
    known |= {"datatype": {"enum": list(DATATYPES)}, "shape": _SHAPE, "data": {"type": "array"}}
    return {"type": "object", "properties": known, "required": ["name", *required]}


def _example(spec: TensorSpec) -> dict[str, Any]:
    shape = [abs(size) for size in spec.shape]
    sample = "null" if spec.content == "json" else _SAMPLES.get(spec.datatype, 1)
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": [sample] * count}
