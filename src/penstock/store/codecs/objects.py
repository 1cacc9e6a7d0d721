"""Objects with named fields: dataclasses, msgspec Structs (`Row`), named tuples, enums.

Belongs here: taking them apart into plain state and putting them together again. Only the fields are kept.
"""

import dataclasses
import enum
from functools import cached_property
from typing import Any

import msgspec

from penstock.core.errors import UnsupportedError
from penstock.store.codecs.codec import class_reference, resolve_class, unsupported

_CHANGED = "the class changed since; run the pipeline again"


@dataclasses.dataclass(frozen=True, slots=True)
class Apart:
    """An object taken apart.

    Attributes:
        tag: Which sort of object it was.
        reference: Its class, "module:qualname".
        state: Plain value it is rebuilt from.
    """

    tag: str
    reference: str
    state: object


def take_apart(value: object) -> Apart | None:
    """Return the fields of `value`, or None when it is not an object with fields.

    Raises:
        UnsupportedError: It holds more than its fields, or its class cannot be found by another process.
    """
    kind = type(value)
    if isinstance(value, enum.Enum):
        # Combined flags have no name of their own.
        return Apart("enum", class_reference(kind), value.value if isinstance(value, enum.Flag) else value.name)
    if isinstance(value, msgspec.Struct):
        state: object = {name: getattr(value, name) for name in value.__struct_fields__}
        return Apart("struct", class_reference(kind), state)
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return Apart("named_tuple", class_reference(kind), list(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return Apart("dataclass", class_reference(kind), _dataclass_state(value))
    return None


def _dataclass_state(value: Any) -> dict[str, object]:
    names = [field.name for field in dataclasses.fields(value)]
    derived = {name for base in type(value).__mro__ for name, entry in vars(base).items() if _is_cached(entry)}
    more = set(getattr(value, "__dict__", {})) - set(names) - derived
    if more:
        raise unsupported(
            value, f"it holds {sorted(more)!r} beside its fields", hint="declare them as fields, or give it save/load"
        )
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _is_cached(entry: object) -> bool:
    return isinstance(entry, cached_property)


def rebuild_object(tag: str, reference: str, state: Any) -> object:
    """Return the object that `take_apart` was given.

    Raises:
        UnsupportedError: The class is gone, or does not have these fields any more.
    """
    kind: Any = resolve_class(reference)
    try:
        match tag:
            case "enum" if issubclass(kind, enum.Enum):
                return kind(state) if issubclass(kind, enum.Flag) else kind[state]
            case "struct" if issubclass(kind, msgspec.Struct):
                return kind(**state)
            case "named_tuple" if issubclass(kind, tuple) and hasattr(kind, "_make"):
                return kind._make(state)
            case "dataclass" if dataclasses.is_dataclass(kind):
                return _rebuild_dataclass(kind, state)
    except (TypeError, KeyError, ValueError) as error:
        raise UnsupportedError(f"{reference!r} cannot be rebuilt: {error}.", hint=_CHANGED) from error
    raise UnsupportedError(f"{reference!r} is not a {tag!r} any more.", hint=_CHANGED)


def _rebuild_dataclass(kind: Any, state: dict[str, object]) -> object:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    strange = sorted(set(state) - set(fields))
    if strange:
        raise TypeError(f"it has no field {strange[0]!r}")
    # Neither __init__ nor __post_init__ runs: they may change what was kept.
    value = object.__new__(kind)
    for name, field in fields.items():
        if name in state:
            object.__setattr__(value, name, state[name])
        elif field.default is not dataclasses.MISSING:
            object.__setattr__(value, name, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            object.__setattr__(value, name, field.default_factory())
        elif field.init:
            raise TypeError(f"nothing was kept for field {name!r}")
    return value
