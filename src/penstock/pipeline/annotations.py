"""Annotations as the user wrote them: what they name, which form of data they ask for, whether two of them meet.

Libraries are recognised by name and never imported here, so a name known only while type checking works as well.
"""

import ast
import enum
import inspect
import linecache
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass

from penstock.pipeline.graph import Form

_FORMS: dict[str, Form] = {
    "polars.LazyFrame": "lazy",
    "polars.DataFrame": "polars",
    "pandas.DataFrame": "pandas",
    "pyarrow.Table": "arrow",
}
_BATCHES = tuple(f"{name}[pyarrow.RecordBatch" for name in ("Iterator", "Iterable", "Generator"))
_PLAIN_ROOTS = frozenset({"builtins", "typing", "collections", "types", "pathlib", "typing_extensions"})
_BUILT_IN = frozenset({"int", "float", "str", "bool", "bytes", "None", "dict", "list", "tuple", "set", "frozenset"})
_MISSING = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation, as far as it can be known.

    Attributes:
        text: Its canonical text: "polars.DataFrame", "dict[str, float]", "int | None".
        type: What it evaluates to; None when a name in it exists only for type checkers.
    """

    text: str
    type: object = None

    @property
    def is_known(self) -> bool:
        """Whether it could be evaluated."""
        return self.type is not None

    @property
    def form(self) -> Form | None:
        """The form of a frame it asks for; None when it is no frame."""
        for part in _union_parts(self.text):
            if part in _FORMS:
                return _FORMS[part]
            if part.startswith(_BATCHES):
                return "batches"
        return None

    @property
    def is_parts(self) -> bool:
        """Whether it is a dictionary, as all outputs of a fan-out are."""
        return any(part.split("[")[0] in {"dict", "Mapping", "Dict"} for part in _union_parts(self.text))

    @property
    def says_nothing(self) -> bool:
        """Whether anything meets it."""
        return self.text in {"Any", "object"}


class Reader:
    """Reads annotations; remembers the imports of each module it has seen."""

    def __init__(self) -> None:
        self._imports: dict[str, dict[str, str]] = {}

    def read(self, raw: object, function: Callable[..., object]) -> Annotation | None:
        """Return the annotation `raw` of `function`; None when there is none."""
        if raw is _MISSING:
            return None
        if isinstance(raw, str) or _has_text(raw):
            return self._read_text(raw, function)
        return Annotation(text_of(raw), type(None) if raw is None else raw)

    def _read_text(self, raw: object, function: Callable[..., object]) -> Annotation:
        holder = types.SimpleNamespace(__annotations__={"it": raw})
        scope = getattr(inspect.unwrap(function), "__globals__", {})
        try:
            found = typing.get_type_hints(holder, globalns=scope)["it"]
        except (NameError, AttributeError, TypeError, SyntaxError):
            return self._by_name(raw if isinstance(raw, str) else text_of(raw), function)
        return Annotation(text_of(found), found)

    def _by_name(self, text: str, function: Callable[..., object]) -> Annotation:
        try:
            tree = ast.parse(text, mode="eval").body
        except SyntaxError:
            return Annotation("Any")  # not readable by anyone, so it promises nothing
        known = self._imports_of(function)
        full = _Qualify(known).visit(tree)
        name = _dotted(full)
        found = _loaded(name) if name else None
        return Annotation(text_of(found), found) if found is not None else Annotation(_shown(full))

    def _imports_of(self, function: Callable[..., object]) -> dict[str, str]:
        code = getattr(inspect.unwrap(function), "__code__", None)
        file = code.co_filename if code is not None else ""
        if file not in self._imports:
            source = "".join(linecache.getlines(file, getattr(function, "__globals__", None)))
            self._imports[file] = _imported_names(source)
        return self._imports[file]


def text_of(value: object) -> str:
    """Return the canonical text of an annotation that is an object."""
    if isinstance(value, str):
        return value
    if isinstance(value, typing.ForwardRef):
        return value.__forward_arg__
    if isinstance(value, list):  # the parameters of a Callable
        return f"[{', '.join(map(text_of, value))}]"
    if typing.get_origin(value) is not None:
        return _generic_text(value)
    if value is None or value is type(None):
        return "None"
    name = getattr(value, "__qualname__", None) or getattr(value, "_name", None)
    if value is Ellipsis or not name:
        return "..." if value is Ellipsis else str(value)
    return _short(str(getattr(value, "__module__", "")), str(name))


def _generic_text(value: object) -> str:
    origin, arguments = typing.get_origin(value), typing.get_args(value)
    if origin is typing.Annotated:
        return text_of(arguments[0])
    if origin is typing.Literal:
        return f"Literal[{', '.join(repr(plain(argument)) for argument in arguments)}]"
    if _is_union(value):
        return " | ".join(map(text_of, arguments))
    inner = ", ".join(map(text_of, arguments))
    return f"{text_of(origin)}[{inner}]" if inner else text_of(origin)


def plain(value: object) -> object:
    """Return an enum's value, anything else as it is."""
    return value.value if isinstance(value, enum.Enum) else value


def meets(made: Annotation, wanted: Annotation) -> bool:
    """Say whether what is annotated as `made` may be passed where `wanted` is asked for.

    Frames of any kind are converted into each other. What cannot be known is allowed.
    """
    if made.says_nothing or wanted.says_nothing or made.text == wanted.text:
        return True
    if made.form is not None and wanted.form is not None:
        return True
    if made.is_known and wanted.is_known:
        return _fits(made.type, wanted.type)
    return not (_is_certain(made) and _is_certain(wanted))


def _is_certain(annotation: Annotation) -> bool:
    """Say whether it is settled what the type is and that no frame could pass for it."""
    if annotation.form is not None or annotation.text.split("[", maxsplit=1)[0] in _BUILT_IN:
        return True
    base = typing.get_origin(annotation.type) or annotation.type
    is_open = getattr(base, "_is_protocol", False) or getattr(base, "__module__", "") in {"collections.abc", "typing"}
    return isinstance(base, type) and not is_open


def _fits(made: object, wanted: object) -> bool:
    if made is typing.Any or wanted in {typing.Any, object} or isinstance(made, typing.TypeVar | typing.ForwardRef):
        return True
    if _is_union(made):
        return all(_fits(part, wanted) for part in typing.get_args(made))
    if _is_union(wanted):
        return any(_fits(made, part) for part in typing.get_args(wanted))
    if typing.get_origin(made) is typing.Literal:
        return all(_fits(type(value), wanted) for value in typing.get_args(made))
    base, target = typing.get_origin(made) or made, typing.get_origin(wanted) or wanted
    if base is typing.Annotated or target is typing.Annotated:
        return _fits(_bare(made), _bare(wanted))
    if not _is_below(base, target):
        return False
    ours, theirs = typing.get_args(made), typing.get_args(wanted)
    return base is not target or len(ours) != len(theirs) or all(map(_fits, ours, theirs))


def _is_below(base: object, target: object) -> bool:
    if not isinstance(base, type) or not isinstance(target, type):
        return True
    if base is int and target is float:
        return True
    try:
        return issubclass(base, target)
    except TypeError:  # a protocol with data members cannot be asked
        return True


def _bare(value: object) -> object:
    return typing.get_args(value)[0] if typing.get_origin(value) is typing.Annotated else value


def _is_union(value: object) -> bool:
    return typing.get_origin(value) in {typing.Union, types.UnionType}


def _has_text(raw: object) -> bool:
    return isinstance(raw, typing.ForwardRef) or any(_has_text(part) for part in typing.get_args(raw))


def _union_parts(text: str) -> list[str]:
    if text.startswith("Optional["):
        text = text.removeprefix("Optional[").removesuffix("]")
    return text.split(" | ") if "[" not in text or not _splits_inside(text) else [text]


def _splits_inside(text: str) -> bool:
    return any(part.count("[") != part.count("]") for part in text.split(" | "))


def _short(module: str, name: str) -> str:
    root = module.split(".", maxsplit=1)[0]
    return name if root in _PLAIN_ROOTS or not root else f"{root}.{name}"


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    inner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner and isinstance(node, ast.Attribute) else ""


def _loaded(name: str) -> object:
    """Return what `name` means if its module is loaded already; nothing is imported for it."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None)


class _Qualify(ast.NodeTransformer):
    def __init__(self, imports: dict[str, str]) -> None:
        self.imports = imports

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.parse(self.imports.get(node.id, node.id), mode="eval").body


def _shown(tree: ast.AST) -> str:
    """Return the tree as text, with each dotted name cut to its package and its last part."""

    class Shorten(ast.NodeTransformer):
        def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
            module, _, name = _dotted(node).rpartition(".")
            return ast.parse(_short(module, name), mode="eval").body if module else node

    return ast.unparse(Shorten().visit(tree))


def _imported_names(source: str) -> dict[str, str]:
    """Return what each imported name stands for, wherever in the module the import is (TYPE_CHECKING too)."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a notebook cell with magics; names then stand for themselves
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found
