"""Rules that one declared function must keep, whatever else the pipeline holds.

Belongs here: names, kinds of function, run parameters, outputs, options. Does not: inputs (`wiring`).
"""

import inspect
import math
from types import FunctionType

import msgspec

from penstock.core.errors import InputError
from penstock.core.refs import NAME
from penstock.core.settings import parse_duration
from penstock.pipeline.drafts import EMPTY, Draft, Mistakes, Slot, tuple_members
from penstock.pipeline.graph import WORDS, Role, rows_form
from penstock.pipeline.params import near_miss, parse_type, type_text
from penstock.pipeline.returned import columns_returned

REQUESTED: frozenset[Role] = frozenset({"serve", "fallback"})
_NAME_RULE = "use lower-case letters, digits and '_', starting with a letter"
_TYPES = "int, float, str, bool, Path, list[...], Literal[...], an Enum, or a union of these with None"
_WORDS = ", ".join(sorted(WORDS))
_OPTIONS: dict[str, type] = {
    "key": tuple[str, ...],
    "time": str,
    "ranges": dict[str, tuple[float | None, float | None]],
    "allow_nulls": tuple[str, ...],
    "metric": str,
    "slices": tuple[str, ...],
    "higher_is_better": bool,
    "examples": tuple[dict[str, object], ...],
    "columns": tuple[str, ...],
    "deadline_ms": float,
    "within": str,
    "value": float,
}


def check_draft(draft: Draft, mistakes: Mistakes) -> None:
    """Note every mistake that can be seen in one function alone."""
    if not _check_kind(draft, mistakes):
        return
    _check_names(draft, mistakes)
    for odd in draft.odd:
        mistakes.note(
            draft,
            f"has the parameter {odd!r}, which nothing can fill. "
            "Name each input before '*' and each run parameter after it.",
        )
    _check_outputs(draft, mistakes)
    _check_each(draft, mistakes)
    _check_words(draft, mistakes)
    for slot in draft.asked:
        _check_asked(draft, slot, mistakes)
    read_options(draft, mistakes)
    if draft.role == "evaluate":
        _check_columns(draft, mistakes)


def _check_kind(draft: Draft, mistakes: Mistakes) -> bool:
    function = inspect.unwrap(draft.declared.function)
    if not isinstance(function, FunctionType):
        mistakes.note(draft, f"is a {type(function).__name__}, not a function written with 'def'.")
    elif function.__name__ == "<lambda>":
        mistakes.note(draft, "is a lambda. Write it with 'def', so that another process can import it by name.")
    elif "<locals>" in function.__qualname__:
        outer = function.__qualname__.split(".<locals>", maxsplit=1)[0]
        mistakes.note(
            draft, f"is defined inside {outer!r}. Move it to the top of the module, so another process can import it."
        )
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        mistakes.note(draft, "is async. Write it with a plain 'def': processes, not an event loop, run it in parallel.")
    else:
        return True
    return False


def _check_names(draft: Draft, mistakes: Mistakes) -> None:
    for name in dict.fromkeys((draft.name, *draft.outputs)):
        what = "is" if name == draft.name else "has an output"
        if name in WORDS:
            mistakes.note(draft, f"{what} called {name!r}, a word of the platform ({_WORDS}). Choose another name.")
        elif not NAME.fullmatch(name):
            better = name.strip("_").lower()
            hint = f"Did you mean {better!r}?" if NAME.fullmatch(better) else f"Please {_NAME_RULE}."
            mistakes.note(draft, f"{what} called {name!r}, which is not a usable name: {_NAME_RULE}. {hint}")


def _check_outputs(draft: Draft, mistakes: Mistakes) -> None:
    said = draft.declared.outputs
    if said is None:
        return
    if not isinstance(said, tuple) or not all(isinstance(name, str) for name in said):
        mistakes.note(draft, f"has outputs={said!r}. Give names, as outputs=('train', 'test').")
        return
    if not said:
        mistakes.note(draft, "has outputs=(), so nothing it makes could be used. Name at least one, or leave it out.")
        return
    if len(set(said)) < len(said):
        mistakes.note(draft, f"names an output twice: {', '.join(map(repr, said))}.")
    if len(said) > 1 and draft.returned is not None:
        _check_count(draft, len(said), mistakes)


def _check_count(draft: Draft, wanted: int, mistakes: Mistakes) -> None:
    returned = draft.returned
    if returned is None or returned.says_nothing:
        return
    members = tuple_members(returned)
    if members is not None:
        if members[-1].text != "..." and len(members) != wanted:
            mistakes.note(draft, f"has {wanted} outputs, but its annotation returns {len(members)}: {returned.text}.")
    elif returned.form is not None or (isinstance(returned.type, type) and not issubclass(returned.type, tuple)):
        mistakes.note(draft, f"has {wanted} outputs, but its annotation returns {returned.text}. Return a tuple.")


def _check_each(draft: Draft, mistakes: Mistakes) -> None:
    each = draft.declared.each
    if each is None:
        return
    if not isinstance(each, str) or not each:
        mistakes.note(draft, f"has each={each!r}. Give the name of one column.")
    elif not any(slot.name != each and slot.name not in WORDS for slot in draft.given):
        mistakes.note(draft, f"has each={each!r}, but takes no input to find keys in.")


def _check_words(draft: Draft, mistakes: Mistakes) -> None:
    given = {slot.name for slot in draft.given}
    if draft.role == "evaluate" and "model" not in given:
        mistakes.note(draft, "does not take 'model': the candidate, baselines and champion in turn. Put it first.")
    if draft.role == "outcome" and "predictions" not in given:
        mistakes.note(draft, "does not take 'predictions', the served answers to join the truth to. Put it first.")
    if draft.role == "check" and not given:
        mistakes.note(draft, "takes no input, so there is nothing it could check. Name a dataset or an output.")


def _check_asked(draft: Draft, slot: Slot, mistakes: Mistakes) -> None:
    if slot.name in WORDS:
        mistakes.note(draft, f"has {slot.name!r} after '*', but that is a word of the platform. Move it before '*'.")
        return
    if slot.annotation is None:
        what = "field" if draft.role in REQUESTED else "run parameter"
        guess = type(slot.default).__name__ if slot.default is not EMPTY and slot.default is not None else "int"
        mistakes.note(draft, f"has the {what} {slot.name!r} without a type. Write it as '{slot.name}: {guess}'.")
    elif draft.role in REQUESTED:
        _check_field(draft, slot, mistakes)
    else:
        _check_param(draft, slot, mistakes)


def _check_param(draft: Draft, slot: Slot, mistakes: Mistakes) -> None:
    text = "" if slot.annotation is None else type_text(slot.annotation)
    kind = parse_type(text)
    if kind is None:
        mistakes.note(draft, f"has the run parameter {slot.name!r} of type {text}, which it cannot have: use {_TYPES}.")
        return
    if slot.default is EMPTY:
        return
    try:
        kind.accept(slot.default)
    except ValueError:
        mistakes.note(draft, f"has the run parameter {slot.name!r} of type {text} with the default {slot.default!r}.")


def _check_field(draft: Draft, slot: Slot, mistakes: Mistakes) -> None:
    annotation = slot.annotation
    if annotation is None or annotation.form is not None or not annotation.is_known or rows_form(annotation.text):
        return
    try:
        msgspec.json.schema(annotation.type)
    except (TypeError, NotImplementedError):
        mistakes.note(draft, f"has the field {slot.name!r} of type {annotation.text}, which no request can carry.")
        return
    if slot.default is not EMPTY and not is_plain(slot.default):
        mistakes.note(draft, f"has the field {slot.name!r} with the default {slot.default!r}, which is not plain JSON.")


def is_plain(value: object) -> bool:
    """Say whether `value` can be kept as JSON without loss."""
    if isinstance(value, float):
        return math.isfinite(value)
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, NotImplementedError):
        return False
    return True


def read_options(draft: Draft, mistakes: Mistakes) -> dict[str, object]:
    """Return the options of the decorator as plain JSON, noting those that are not of their type."""
    found: dict[str, object] = {}
    for name, value in draft.declared.options.items():
        try:
            found[name] = msgspec.json.decode(msgspec.json.encode(msgspec.convert(value, _OPTIONS[name])))
        except (msgspec.ValidationError, TypeError):
            mistakes.note(draft, f"has {name}={value!r}, which is not usable: {_usual(name)}.")
    _check_within(draft, mistakes)
    examples = found.get("examples")
    for example in examples if isinstance(examples, list | tuple) else ():
        _check_example(draft, example, mistakes)
    return found


def _check_columns(draft: Draft, mistakes: Mistakes) -> None:
    known = columns_returned(draft.declared.function)
    for name in ("metric", "slices", "key") if known else ():
        value = draft.declared.options.get(name)
        asked = (value,) if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
        for column in (text for text in asked if text and text not in (known or ())):
            near = near_miss(str(column), list(known or ()))
            hint = f"Did you mean {near!r}?" if near else f"They have {', '.join(map(repr, known or ()))}."
            mistakes.note(draft, f"names {column!r} in {name}=, but the rows it returns have no such column. {hint}")


def _usual(name: str) -> str:
    kind = _OPTIONS[name]
    return f"give {'names of columns' if kind == tuple[str, ...] else str(getattr(kind, '__name__', kind))}"


def _check_within(draft: Draft, mistakes: Mistakes) -> None:
    within = draft.declared.options.get("within")
    if isinstance(within, str):
        try:
            parse_duration(within)
        except InputError as error:
            mistakes.note(draft, f"has within={within!r}: {error}")


def _check_example(draft: Draft, example: object, mistakes: Mistakes) -> None:
    if not isinstance(example, dict):
        return
    fields = {slot.name: slot for slot in draft.asked}
    for name in example:
        if name not in fields:
            near = near_miss(str(name), list(fields))
            hint = f" Did you mean {near!r}?" if near else ""
            mistakes.note(draft, f"has an example with the field {name!r}, which it does not take.{hint}")
    missing = [name for name, slot in fields.items() if slot.default is EMPTY and name not in example]
    if missing:
        mistakes.note(draft, f"has an example without {', '.join(map(repr, missing))}.")
