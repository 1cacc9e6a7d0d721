"""A declared function with its signature read: the halfway house between what was said and the graph.

Belongs here: signatures, outputs and the list of mistakes. Does not: rules over several functions (`validate`).
"""

import ast
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import DeclarationError
from penstock.pipeline.annotations import Annotation, Reader, text_of
from penstock.pipeline.declare import Declared, Place
from penstock.pipeline.graph import Role

EMPTY = inspect.Parameter.empty
TITLES: dict[Role, str] = {
    "dataset": "Dataset",
    "step": "Step",
    "model": "Model",
    "baseline": "Baseline",
    "evaluate": "Evaluation",
    "check": "Check",
    "serve": "Serve function",
    "fallback": "Fallback",
    "outcome": "Outcome",
}


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter of a function."""

    name: str
    annotation: Annotation | None
    default: object = EMPTY


@dataclass(frozen=True, slots=True)
class Draft:
    """A declared function as its signature shows it.

    Attributes:
        given: Parameters before the star.
        asked: Parameters after the star.
        odd: Parameters of a kind a pipeline cannot fill, as `*args`.
        returned: The whole return annotation.
    """

    declared: Declared
    given: tuple[Slot, ...] = ()
    asked: tuple[Slot, ...] = ()
    odd: tuple[str, ...] = ()
    returned: Annotation | None = None

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.declared.name

    @property
    def role(self) -> Role:
        """Role of the node."""
        return self.declared.role

    @property
    def each(self) -> str | None:
        """Column it fans out over."""
        return self.declared.each if isinstance(self.declared.each, str) else None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of its outputs."""
        said = self.declared.outputs
        return tuple(map(str, said)) if isinstance(said, tuple) and said else (self.name,)

    def makes(self) -> tuple[Annotation | None, ...]:
        """Return the annotation of each output; None where there is none or it says too little."""
        if len(self.outputs) == 1 or self.returned is None:
            return (self.returned,) * len(self.outputs)
        members = tuple_members(self.returned)
        if members and members[-1].text == "...":
            return (members[0],) * len(self.outputs)
        if members is None or len(members) != len(self.outputs):
            return (None,) * len(self.outputs)
        return members


def tuple_members(annotation: Annotation) -> tuple[Annotation, ...] | None:
    """Return the members of an annotated tuple, "..." among them; None when it is no tuple, or names no members."""
    if annotation.is_known:
        members = typing.get_args(annotation.type) if typing.get_origin(annotation.type) is tuple else ()
        return tuple(Annotation(text_of(member), member) for member in members) or None
    match ast.parse(annotation.text, mode="eval").body:
        case ast.Subscript(value=ast.Name(id="tuple" | "Tuple"), slice=ast.Tuple(elts=elements)):
            return tuple(Annotation(ast.unparse(element)) for element in elements)
    return None


def read_draft(declared: Declared, reader: Reader) -> Draft:
    """Return `declared` with its signature read."""
    function = declared.function
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return Draft(declared)
    kinds = inspect.Parameter
    given: list[Slot] = []
    asked: list[Slot] = []
    odd: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind in {kinds.POSITIONAL_ONLY, kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD}:
            odd.append(str(parameter).split(":", maxsplit=1)[0])
            continue
        slot = Slot(parameter.name, reader.read(parameter.annotation, function), parameter.default)
        (asked if parameter.kind is kinds.KEYWORD_ONLY else given).append(slot)
    returned = signature.return_annotation
    return Draft(
        declared,
        given=tuple(given),
        asked=tuple(asked),
        odd=tuple(odd),
        returned=None if returned is inspect.Signature.empty else reader.read(returned, function),
    )


class Mistakes:
    """Everything wrong with a pipeline, each with the function and place it concerns."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: list[tuple[Place, str]] = []

    def note(self, draft: Draft, text: str) -> None:
        """Add what is wrong with one function; `text` goes on after its name and place."""
        self._found.append((draft.declared.place, f"{self.title(draft)} {text}"))

    def note_whole(self, text: str) -> None:
        """Add what is wrong with the pipeline as a whole."""
        self._found.append((Place("", 0), text))

    def title(self, draft: Draft) -> str:
        """Return "Step 'fit' (churn.py:12)"."""
        return f"{TITLES[draft.role]} {draft.name!r} ({draft.declared.place.shown(self._root)})"

    def raise_any(self) -> None:
        """Raise all that was noted, in the order of the file.

        Raises:
            DeclarationError: Something was noted.
        """
        if self._found:
            raise DeclarationError(tuple(dict.fromkeys(text for _, text in sorted(self._found))))


Rule = Callable[[Draft, Mistakes], None]
