"""Whether a release still keeps what applications rely on: functions, fields they send, fields of answers they read.

Pure: two manifests and the contracts of applications in, breaches out. The answers are known by their annotations and
by the examples that each release was proven on, since no user code runs here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.core.records import Record
from penstock.pipeline.graph import Node
from penstock.releases.manifest import Manifest

# A type of JSON that may stand where another was expected of a caller.
_WIDER = {("int", "float"), ("Int64", "Float64"), ("Int32", "Int64"), ("Float32", "Float64")}
_OPEN = ("", "Any", "typing.Any", "object")
_MAP = re.compile(r"(typing\.)?(dict|Dict|Mapping)\b")


class Relied(Record, frozen=True, kw_only=True):
    """What an application relies on.

    Attributes:
        consumer: Its name.
        function: The serve function that it asks; "" for any.
        fields: Fields that it is known to send; None where nobody knows, which is taken for all.
        answer: Fields of an answer that it reads; empty for all.
    """

    consumer: str
    function: str = ""
    fields: frozenset[str] | None = None
    answer: tuple[str, ...] = ()


class Field(Record, frozen=True, kw_only=True):
    """A field of a request, or a column of its rows."""

    type: str
    required: bool


class Function(Record, frozen=True, kw_only=True):
    """A serve function as its callers see it.

    Attributes:
        fields: Of a request; a column of the rows that it takes is "rows.name".
        returns: The annotation of the answer, as text.
        answer: Kinds of JSON by path within an answer ("title", "user.age"), of those in every example.
    """

    fields: dict[str, Field]
    returns: str = ""
    answer: dict[str, frozenset[str]] = {}


class Breach(Record, frozen=True, kw_only=True):
    """A change that an application cannot live with.

    Attributes:
        what: "recommend: field k is gone".
    """

    consumer: str
    function: str
    what: str

    def __str__(self) -> str:
        return f"{self.consumer}: {self.what}"


def breaks(before: Manifest, after: Manifest, contracts: Sequence[Relied]) -> list[Breach]:
    """Return what a release would break, by application.

    A function that is gone, a field that is gone or of another type, a new field that is required, an answer of another
    type or with a field less are breaches. A field more, one that need not be sent any more, or one that takes more
    than before are none.

    Args:
        before: What answers now.
        after: What is to answer.
        contracts: What applications rely on.
    """
    old, new = interface_of(before), interface_of(after)
    found = []
    for relied in contracts:
        names = [relied.function] if relied.function else list(old)
        for name in (n for n in names if n in old):
            said = ["it is gone"] if name not in new else list(_broken(old[name], new[name], relied))
            found += [Breach(consumer=relied.consumer, function=name, what=f"{name}: {one}") for one in said]
    return found


def interface_of(manifest: Manifest) -> dict[str, Function]:
    """Return the serve functions of a release as callers see them."""
    return {node.name: _function(node, manifest) for node in manifest.graph.nodes if node.role == "serve"}


def _function(node: Node, manifest: Manifest) -> Function:
    fields = {param.name: Field(type=param.type, required=param.required) for param in node.params}
    columns = manifest.inputs.get(node.name, ())
    fields |= {f"rows.{name}": Field(type=kind, required=True) for name, kind in columns}
    returns = node.returns[0] if node.returns else ""
    answers = [example.answer for example in manifest.examples.get(node.name, ())]
    return Function(fields=fields, returns=returns, answer={} if _MAP.match(returns) else _common(answers))


def _broken(old: Function, new: Function, relied: Relied) -> Iterator[str]:
    for name, field in old.fields.items():
        if relied.fields is not None and name not in relied.fields:
            continue
        if name not in new.fields:
            yield f"field {name} is gone"
        elif not _takes(new.fields[name].type, field.type):
            yield f"field {name} was {field.type} and is {new.fields[name].type}"
    for name, field in new.fields.items():
        is_sent = name in old.fields and (relied.fields is None or name in relied.fields)
        was_required = name in old.fields and old.fields[name].required
        if field.required and not was_required and not is_sent:
            yield f"field {name} is required" if name in old.fields else f"field {name} is new and required"
    yield from _answer_broken(old, new, relied)


def _answer_broken(old: Function, new: Function, relied: Relied) -> Iterator[str]:
    if not old.answer or not new.answer:
        if old.returns != new.returns and not _takes(old.returns, new.returns):
            yield f"the answer was {old.returns or 'anything'} and is {new.returns or 'anything'}"
        return
    for path, kinds in old.answer.items():
        if relied.answer and path.partition(".")[0] not in relied.answer and path not in relied.answer:
            continue
        what = f"{path} of the answer" if path else "the answer"
        if path not in new.answer:
            yield f"{what} is gone"
        elif not new.answer[path] <= kinds | {"null"} and "null" not in kinds:
            yield f"{what} was {_words(kinds)} and is {_words(new.answer[path])}"


def _takes(wide: str, narrow: str) -> bool:
    """Return whether whatever is of the one type may stand where the other is expected, by the text of both."""
    if wide == narrow or wide in _OPEN:
        return True
    wides = {part.strip() for part in wide.split("|")}
    return all(
        part.strip() in wides or any((part.strip(), one) in _WIDER for one in wides) for part in narrow.split("|")
    )


def _common(answers: Sequence[Any]) -> dict[str, frozenset[str]]:
    """Return the kinds by path, of the paths that every answer has; a list stands for its items."""
    found: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    seen = 0
    for one in answers:
        items = one if isinstance(one, list) else [one]
        for item in items:
            seen += 1
            for path, kind in _paths("", item):
                found.setdefault(path, set()).add(kind)
                counts[path] = counts.get(path, 0) + 1
    return {path: frozenset(kinds) for path, kinds in found.items() if counts[path] == seen}


def _paths(path: str, value: Any) -> Iterator[tuple[str, str]]:
    yield path, _kind(value)
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _paths(f"{path}.{name}" if path else str(name), item)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case _:
            return "object"


def _words(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds))
