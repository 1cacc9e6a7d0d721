"""What serve functions get in place of a model: quick where it was proven, the model itself everywhere else."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from penstock.serving.program.stand_ins.inputs import Inputs, Rows

# Given rows as doubles, what the model would answer; None where the original must be asked.
Compute = Callable[[Rows], Any]
CALL = "__call__"
# What changes a model: the equivalent was made from the model as it was, so the original answers from then on.
_CHANGING_PREFIXES = ("fit", "load_", "model_from", "partial_fit", "register_", "reset_", "set_", "shuffle_")
_CHANGING = frozenset({
    "add_module", "apply", "bfloat16", "cuda", "densify", "double", "float", "half", "refit", "requires_grad_",
    "rollback_one_iter", "share_memory", "sparsify", "to", "to_empty", "train", "type", "update",
})  # fmt: skip
ALL_ROWS = 1 << 62
_OWN = ("_original", "_switch")


class Switch:
    """Whether an equivalent answers; every method looks here, so that going back holds for references kept elsewhere.

    Attributes:
        most: Most rows at once that it answers; 0 when the original answers all.
    """

    __slots__ = ("most",)

    def __init__(self) -> None:
        self.most = ALL_ROWS

    def off(self) -> None:
        """Let the original answer from now on."""
        self.most = 0


class StandIn:
    """Stands in for `original`; safe to use from several threads when the original is.

    Args:
        original: The model as it was released.
        inputs: How rows are read.
        methods: What the equivalent computes, by the name of the method.
        switch: Whether it answers.
    """

    def __init__(self, original: Any, inputs: Inputs, methods: Mapping[str, Compute], switch: Switch) -> None:
        put = object.__setattr__
        put(self, "_original", original)
        put(self, "_switch", switch)
        for name, compute in methods.items():
            put(self, name, _method(getattr(original, name), inputs, compute, switch))

    @property  # type: ignore[misc]  # nothing may set it
    def __class__(self) -> Any:
        """The class of the original, so that `isinstance` tells what it told before."""
        return type(self._original)

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:
            raise AttributeError(name)  # asked for while this object is being made or copied
        if name in _CHANGING or name.startswith(_CHANGING_PREFIXES):
            self._switch.off()
        return getattr(self._original, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._switch.off()
        setattr(self._original, name, value)

    def __delattr__(self, name: str) -> None:
        self._switch.off()
        delattr(self._original, name)

    def __dir__(self) -> list[str]:
        return dir(self._original)

    def __repr__(self) -> str:
        return repr(self._original)

    def __bool__(self) -> bool:
        return bool(self._original)

    def __len__(self) -> int:
        return len(self._original)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._original)

    def __contains__(self, item: object) -> bool:
        return item in self._original

    def __getitem__(self, item: object) -> Any:
        return self._original[item]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._original.__reduce_ex__(protocol)  # a copy is a copy of the original


class CalledStandIn(StandIn):
    """Stands in for a model that is called itself, as modules of PyTorch are."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Answer as the original does when it is called."""
        return self.__dict__[CALL](*given, **named)

    def eval(self) -> "CalledStandIn":
        """Say that the model is to answer, not to learn; it was proven in that mode."""
        self._original.eval()
        return self


def original_of(value: object) -> Any:
    """Return the original behind a stand-in; any other value as it is."""
    return object.__getattribute__(value, "_original") if issubclass(type(value), StandIn) else value


def switch_of(value: object) -> Switch:
    """Return the switch of a stand-in."""
    found: Switch = object.__getattribute__(value, "_switch")
    return found


def _method(original: Callable[..., Any], inputs: Inputs, compute: Compute, switch: Switch) -> Callable[..., Any]:
    read = inputs.read

    def answer(*given: Any, **named: Any) -> Any:
        if len(given) == 1 and not named:
            rows = read(given[0])
            if rows is not None and len(rows) <= switch.most:
                found = compute(rows)
                if found is not None:
                    return found
        return original(*given, **named)

    return answer
