"""The rule of the star: what each parameter before `*` names, in which form it comes, and whether the types meet.

Belongs here: rules that need to see the whole pipeline. Does not: rules about one function (`validate`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.pipeline.annotations import Annotation, meets
from penstock.pipeline.drafts import EMPTY, TITLES, Draft, Mistakes, Slot
from penstock.pipeline.graph import SERVED, WORDS, Edge, Form, Role
from penstock.pipeline.params import near_miss
from penstock.pipeline.validate import REQUESTED

_LAWFUL: dict[str, frozenset[Role]] = {
    "since": frozenset({"dataset"}),
    "now": frozenset({"dataset", "step", "model", "baseline", "evaluate", "check", "outcome"}),
    "champion": frozenset({"step", "model", "evaluate", "check"}),
    "model": frozenset({"evaluate"}),
    "predictions": frozenset({"outcome", "dataset"}),
    "feedback": frozenset({"dataset"}),
}
_GIVING: frozenset[Role] = frozenset({"dataset", "step", "model", "baseline", "evaluate"})
_FRAME = Annotation("polars.LazyFrame")


@dataclass(frozen=True, slots=True)
class Source:
    """What a parameter may name: an output with the node that makes it."""

    name: str
    draft: Draft
    made: Annotation | None

    @property
    def is_rows(self) -> bool:
        """Whether it is known to be a frame."""
        return self.draft.role == "dataset" or (self.made is not None and self.made.form is not None)


class Wiring:
    """Finds what every parameter names.

    Args:
        pipeline: Name of the pipeline, for messages.
        drafts: All declared functions.
        mistakes: Where mistakes are noted.
    """

    def __init__(self, pipeline: str, drafts: Sequence[Draft], mistakes: Mistakes) -> None:
        self._pipeline = pipeline
        self._mistakes = mistakes
        self._nodes: dict[str, Draft] = {}
        self._sources: dict[str, Source] = {}
        self._models = [draft.name for draft in drafts if draft.role == "model"]
        for draft in drafts:
            self._register(draft)

    def _register(self, draft: Draft) -> None:
        taken = self._nodes.setdefault(draft.name, draft)
        if taken is not draft:
            self._mistakes.note(draft, f"has the name of {self._mistakes.title(taken)}. Rename one of them.")
            return
        for name, made in zip(draft.outputs, draft.makes(), strict=True):
            source = self._sources.get(name)
            clash = source.draft if source is not None else self._nodes.get(name, draft)
            if clash is not draft:
                self._mistakes.note(
                    draft, f"gives {name!r}, as {self._mistakes.title(clash)} does. Rename one of them."
                )
            elif draft.role in _GIVING:
                self._sources[name] = Source(name, draft, _FRAME if draft.role == "dataset" else made)
        other = self._sources.get(draft.name)
        if other is not None and other.draft is not draft:
            text = f"has the name of an output of {self._mistakes.title(other.draft)}. Rename one of them."
            self._mistakes.note(draft, text)

    def edges(self, draft: Draft) -> tuple[Edge, ...]:
        """Return an edge for each parameter of `draft` before the star, noting those that cannot be filled."""
        found = (self._edge(draft, slot) for slot in draft.given)
        return tuple(edge for edge in found if edge is not None)

    def _edge(self, draft: Draft, slot: Slot) -> Edge | None:
        if slot.name in WORDS or (draft.role == "dataset" and slot.name in SERVED):
            return self._word(draft, slot)
        if slot.name == draft.each:
            return Edge(argument=slot.name, source=slot.name, node="", form="key")
        source = self._sources.get(slot.name)
        if source is None:
            self._mistakes.note(draft, self._unknown(draft, slot))
            return None
        if draft.role == "dataset":
            text = f"takes {slot.name!r}, but a dataset reads what is outside the pipeline. Derive it with a step."
            self._mistakes.note(draft, text)
            return None
        if slot.default is not EMPTY:
            self._mistakes.note(draft, f"gives {slot.name!r} a default, but the pipeline always fills it. Remove it.")
        form = self._form(draft, slot, source)
        return Edge(argument=slot.name, source=slot.name, node=source.draft.name, form=form)

    def _word(self, draft: Draft, slot: Slot) -> Edge | None:
        lawful = _LAWFUL[slot.name]
        if draft.role in lawful:
            return Edge(argument=slot.name, source=slot.name, node="", form="word")
        owners = " and ".join(f"{TITLES[role].lower()}s" for role in TITLES if role in lawful)
        hint = ""
        if slot.name == "model" and self._models:
            hint = f" Did you mean the model {self._models[0]!r}?"
        elif slot.name == "now" and draft.role in REQUESTED:
            hint = " Take it as a field of the request, after '*'."
        self._mistakes.note(draft, f"takes {slot.name!r}, a word that only {owners} may take.{hint}")
        return None

    def _unknown(self, draft: Draft, slot: Slot) -> str:
        if slot.default is not EMPTY:
            becomes = "a field of the request" if draft.role in REQUESTED else "a run parameter"
            return f"has {slot.name!r} with a default before '*'. Put '*' before it to make it {becomes}."
        node = self._nodes.get(slot.name)
        if node is not None and node.role in _GIVING:
            return (
                f"needs {slot.name!r}, but that {node.role} gives {' and '.join(map(repr, node.outputs))}. Name those."
            )
        if node is not None:
            return f"needs {slot.name!r}, but that is a {TITLES[node.role].lower()}, which gives nothing to take."
        known = [*self._sources, *(word for word, roles in _LAWFUL.items() if draft.role in roles)]
        if draft.role == "dataset":
            known = ["since", "now", *sorted(SERVED)]
        near = near_miss(slot.name, [name for name in known if name != draft.name])
        hint = f" Did you mean {near!r}?" if near else f" There is {', '.join(known[:8])}." if known else ""
        return f"needs {slot.name!r}, which nothing in pipeline {self._pipeline!r} provides.{hint}"

    def _form(self, draft: Draft, slot: Slot, source: Source) -> Form:
        wanted = slot.annotation
        if source.draft.role == "evaluate":
            self._check_evaluation(draft, slot)
            return "evaluation"
        if source.draft.each is not None and draft.each is None:
            return self._parts(draft, slot, source)
        if source.draft.each is not None and source.draft.each != draft.each:
            maker = self._mistakes.title(source.draft)
            self._mistakes.note(
                draft,
                f"has each={draft.each!r}, but takes {slot.name!r}, which {maker} makes "
                f"for each={source.draft.each!r}. Use the same column, or join the parts in a step without 'each'.",
            )
        self._check_meets(draft, slot, source)
        if wanted is None:
            return "polars" if source.is_rows else "value"
        return wanted.form or ("polars" if wanted.says_nothing and source.is_rows else "value")

    def _parts(self, draft: Draft, slot: Slot, source: Source) -> Form:
        wanted = slot.annotation
        if wanted is None or wanted.is_parts or wanted.says_nothing:
            return "parts"
        if wanted.form is not None and (source.is_rows or source.made is None):
            return wanted.form
        self._mistakes.note(
            draft,
            f"takes {slot.name!r} as {wanted.text}, but it comes in parts, one for each {source.draft.each!r}. "
            f"Annotate it as dict[str, ...], or add each={source.draft.each!r}.",
        )
        return "parts"

    def _check_evaluation(self, draft: Draft, slot: Slot) -> None:
        wanted = slot.annotation
        if wanted is not None and not wanted.says_nothing and not wanted.text.endswith("Evaluation"):
            self._mistakes.note(
                draft,
                f"takes {slot.name!r} as {wanted.text}, but an evaluation comes with its statistics. "
                "Leave the annotation out.",
            )

    def _check_meets(self, draft: Draft, slot: Slot, source: Source) -> None:
        if slot.annotation is None or source.made is None or meets(source.made, slot.annotation):
            return
        maker = self._mistakes.title(source.draft)
        what = "rows" if source.draft.role == "dataset" else source.made.text
        self._mistakes.note(draft, f"takes {slot.name!r} as {slot.annotation.text}, but {maker} gives {what}.")


def stand_ins(drafts: Sequence[Draft], mistakes: Mistakes) -> dict[str, tuple[str, ...]]:
    """Return for each fallback the serve functions it answers for: those that take the same fields."""
    serving = [draft for draft in drafts if draft.role == "serve"]
    found: dict[str, tuple[str, ...]] = {}
    for draft in drafts:
        if draft.role != "fallback":
            continue
        same = tuple(serve.name for serve in serving if _fields(serve) == _fields(draft))
        if not same:
            mistakes.note(draft, _why_none(draft, serving))
        found[draft.name] = same
    return found


def _why_none(draft: Draft, serving: Sequence[Draft]) -> str:
    if not serving:
        return "has no serve function to stand in for. Declare one with the same fields."
    nearest = max(serving, key=lambda serve: len(_fields(serve).items() & _fields(draft).items()))
    ours, theirs = _fields(draft), _fields(nearest)
    differing = [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]
    return (
        f"must take the fields of serve function {nearest.name!r}, but these differ: "
        f"{', '.join(f'{name!r} ({_kind(ours, name)} here, {_kind(theirs, name)} there)' for name in differing)}."
    )


def _kind(fields: Mapping[str, str], name: str) -> str:
    return fields.get(name, "missing")


def _fields(draft: Draft) -> dict[str, str]:
    return {slot.name: "any" if slot.annotation is None else slot.annotation.text for slot in draft.asked}
