"""Parameters after the star: which types a run parameter may have, and how a setting is read into one.

Belongs here: everything about values given by a caller of a run. Does not: request fields, which serving reads.
"""

import ast
import difflib
import enum
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from penstock.core.errors import InputError
from penstock.pipeline.annotations import Annotation, Reader, plain, text_of
from penstock.pipeline.graph import Graph, Node, Param

Kind = Literal["int", "float", "str", "bool", "Path", "None", "list", "Literal", "union"]
_SIMPLE: tuple[Kind, ...] = ("int", "float", "str", "bool", "Path", "None")
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
# A setting is tried as the narrowest type first, so that "5" for `int | str` is a number.
_ORDER: tuple[Kind, ...] = ("None", "bool", "int", "float", "Literal", "list", "Path", "str", "union")


@dataclass(frozen=True, slots=True)
class ParamType:
    """The type of a run parameter, parsed from its text.

    Attributes:
        of: Member types of a union, or the type of a list's items.
        values: What a Literal (or an enum, by its values) allows.
    """

    kind: Kind
    of: tuple["ParamType", ...] = ()
    values: tuple[object, ...] = ()

    def read(self, text: str) -> object:
        """Return the plain value `text` stands for; ValueError when it stands for none."""
        match self.kind:
            case "union":
                return _first(self.of, lambda member: member.read(text))
            case "list":
                return self._read_list(text)
            case "Literal":
                return next(value for value in (*self.values, _NOTHING) if str(value) == text or _refuse(value))
            case "None":
                return None if text.lower() in {"none", "null"} else _refuse(_NOTHING)
            case "bool":
                return _TRUTH[text.lower()] if text.lower() in _TRUTH else _refuse(_NOTHING)
            case "int":
                return int(text)
            case "float":
                return self.accept(float(text))
            case "str" | "Path":
                return text

    def _read_list(self, text: str) -> object:
        if text.lstrip().startswith("["):
            return self.accept(msgspec.json.decode(text))
        return [self.of[0].read(item.strip()) for item in text.split(",") if item.strip()]

    def accept(self, value: object) -> object:
        """Return `value` as plain JSON if it is of this type; ValueError when it is not."""
        value = plain(value)
        match self.kind:
            case "union":
                return _first(self.of, lambda member: member.accept(value))
            case "list" if isinstance(value, list | tuple):
                return [self.of[0].accept(item) for item in value]
            case "Literal" if any(value == allowed and type(value) is type(allowed) for allowed in self.values):
                return value
            case "float" if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
            case "Path" if isinstance(value, str | Path):
                return str(value)
            case "int" | "str" | "bool" | "None" if type(value).__name__ in {self.kind, f"{self.kind}Type"}:
                return value
        raise ValueError(value)


_NOTHING = object()


def _refuse(value: object) -> bool:
    if value is _NOTHING:
        raise ValueError(value)
    return False


def _first(members: tuple[ParamType, ...], attempt: Callable[[ParamType], object]) -> object:
    for member in sorted(members, key=lambda member: _ORDER.index(member.kind)):
        try:
            return attempt(member)
        except ValueError:
            continue
    raise ValueError(members)


def type_text(annotation: Annotation) -> str:
    """Return the text kept in `Param.type`: an enum is written as the Literal of its values."""
    return _param_text(annotation.type) if annotation.is_known else annotation.text


def _param_text(value: object) -> str:
    if isinstance(value, type) and issubclass(value, enum.Enum):
        return f"Literal[{', '.join(repr(member.value) for member in value)}]"
    arguments = typing.get_args(value)
    if arguments and text_of(value).startswith(("list[", "Optional[")):
        return f"list[{_param_text(arguments[0])}]"
    if arguments and " | " in text_of(value) and not text_of(value).startswith("Literal["):
        return " | ".join(_param_text(argument) for argument in arguments)
    return text_of(value)


def parse_type(text: str) -> ParamType | None:
    """Parse the text of a run parameter's type; None when a run parameter cannot have it."""
    try:
        return _parse(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):
        return None


def _parse(node: ast.expr) -> ParamType:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _SIMPLE:
            return ParamType(_SIMPLE[_SIMPLE.index(name)])
        case ast.Constant(value=None):
            return ParamType("None")
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return ParamType("union", (_parse(left), _parse(right)))
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return ParamType("union", (_parse(inner), ParamType("None")))
        case ast.Subscript(value=ast.Name(id="list" | "List"), slice=inner):
            return ParamType("list", (_parse(inner),))
        case ast.Subscript(value=ast.Name(id="Literal") | ast.Attribute(attr="Literal"), slice=inner):
            values = ast.literal_eval(inner)
            return ParamType("Literal", values=values if isinstance(values, tuple) else (values,))
    raise ValueError(ast.unparse(node))


def check_params(graph: Graph, given: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Return the given settings by node and parameter, as plain typed values.

    Args:
        graph: The pipeline.
        given: "recommender.factors" (or "factors", where only one node has it) to a value, or to the text of one.

    Raises:
        InputError: A node or parameter is unknown, or a value is not of the parameter's type; all are named at once.
    """
    found: dict[str, dict[str, object]] = {}
    mistakes: list[InputError] = []
    for setting, value in given.items():
        try:
            node, param = _find_param(graph, setting)
            found.setdefault(node.name, {})[param.name] = _settle(node, param, value)
        except InputError as error:
            mistakes.append(error)
    if len(mistakes) == 1:
        raise mistakes[0]
    if mistakes:
        raise InputError(f"{len(mistakes)} parameters cannot be used:\n" + "\n".join(f"  {m}" for m in mistakes))
    return found


def all_params(graph: Graph, given: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Return every run parameter by node: what is given, and the default elsewhere.

    Raises:
        InputError: As `check_params`, or a parameter without a default is not given.
    """
    chosen = check_params(graph, given)
    missing = [
        f"{node.name}.{param.name}"
        for node in _runnable(graph)
        for param in node.params
        if param.required and param.name not in chosen.get(node.name, {})
    ]
    if missing:
        raise InputError(
            f"Pipeline {graph.pipeline!r} needs a value for {', '.join(map(repr, missing))}.",
            hint=f"give it as -p {missing[0]}=VALUE, or give the parameter a default",
        )
    return {
        node.name: {param.name: param.default for param in node.params} | chosen.get(node.name, {})
        for node in _runnable(graph)
        if node.params
    }


def bind_params(function: Callable[..., object], values: Mapping[str, object]) -> dict[str, object]:
    """Return plain parameter values as the types `function` is annotated with: enums and paths again.

    Call it in the process that has imported the user's code.
    """
    reader, signature = Reader(), inspect.signature(function)
    bound: dict[str, object] = {}
    for name, value in values.items():
        annotation = reader.read(signature.parameters[name].annotation, function)
        bound[name] = value if annotation is None else _as_annotated(value, annotation)
    return bound


def _as_annotated(value: object, annotation: Annotation) -> object:
    if annotation.is_known:
        return msgspec.convert(value, annotation.type, dec_hook=_to_path)
    return Path(value) if annotation.text.endswith("Path") and isinstance(value, str) else value


def _to_path(kind: type, value: object) -> object:
    if issubclass(kind, Path):
        return kind(str(value))
    raise NotImplementedError(kind)


def _runnable(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.role not in {"serve", "fallback"}]


def _find_param(graph: Graph, setting: str) -> tuple[Node, Param]:
    owners = [(node, param) for node in _runnable(graph) for param in node.params]
    full = {f"{node.name}.{param.name}": (node, param) for node, param in owners}
    if setting in full:
        return full[setting]
    matching = [owner for owner in owners if owner[1].name == setting]
    if len(matching) == 1:
        return matching[0]
    if matching:
        choices = " or ".join(repr(f"{node.name}.{param.name}") for node, param in matching)
        raise InputError(f"{len(matching)} nodes have a parameter {setting!r}.", hint=f"say {choices}")
    near = near_miss(setting, [*full, *(param.name for _, param in owners)])
    known = f"pipeline {graph.pipeline!r} has {', '.join(full) or 'no run parameters'}"
    raise InputError(
        f"No run parameter is called {setting!r} in pipeline {graph.pipeline!r}.",
        hint=f"did you mean {near!r}?" if near else known,
    )


def _settle(node: Node, param: Param, value: object) -> object:
    kind = parse_type(param.type) or ParamType("Literal")  # a Literal of nothing accepts nothing
    try:
        return kind.read(value) if isinstance(value, str) else kind.accept(value)
    except (ValueError, msgspec.DecodeError) as error:
        raise InputError(
            f"Parameter '{node.name}.{param.name}' is {param.type}, but {value!r} was given.",
            hint=f"give a value of type {param.type}"
            + ("" if param.required else f"; the default is {param.default!r}"),
        ) from error


def near_miss(word: str, known: list[str]) -> str | None:
    """Return the known word most like `word`, or None when none is near."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), None)
