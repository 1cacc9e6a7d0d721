"""Holds the values that the asserts of a rewritten check saw, and puts them into words."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from penstock.checks.show import is_telling, plain_number, show


@dataclass(slots=True)
class Seen:
    """A sub-expression whose value is recorded.

    Attributes:
        label: What a message calls it.
        base: Number of the sub-expression it was taken from (`a` for `a.b`), or None.
        operand: It is one side of a comparison.
    """

    label: str
    base: int | None = None
    operand: bool = False


@dataclass(slots=True)
class Assertion:
    """An assert of the function, as written."""

    source: str
    line: int
    seen: list[Seen] = field(default_factory=list)


class Recorder:
    """Receives the values while a rewritten function runs."""

    def __init__(self, assertions: list[Assertion]) -> None:
        self.assertions = assertions
        self.count = 0
        self._failures: list[tuple[AssertionError, dict[str, object]]] = []
        self._values: list[dict[int, object]] = [{} for _ in assertions]
        self._compared: dict[int, list[object]] = {}

    def start(self, number: int) -> None:
        """Forget the values of an earlier pass through this assert."""
        self._values[number] = {}

    def see(self, number: int, place: int, value: object) -> object:
        """Note a value and hand it on."""
        self._values[number][place] = value
        return value

    def passed(self, number: int) -> None:
        """Keep the numbers compared and drop the rest, so no frame lives longer than its assert."""
        self.count += 1
        seen = self.assertions[number].seen
        operands = (plain_number(value) for place, value in self._values[number].items() if seen[place].operand)
        self._compared[number] = [value for value in operands if value is not None]
        self._values[number] = {}

    def failed(self, number: int, *message: object) -> AssertionError:
        """Return the error to raise: the user's message if there is one, the source, the values."""
        self.count += 1
        assertion = self.assertions[number]
        values = list(self._describe(number))
        text = f"assert {assertion.source}" + (f": {', '.join(values)}" if values else "")
        if message:
            text = f"{show_message(message[0])} ({text})"
        error = AssertionError(text)
        self._failures.append((error, {"assert": assertion.source, "line": assertion.line, "values": values}))
        self._values[number] = {}
        return error

    def evidence_of(self, error: AssertionError) -> dict[str, object] | None:
        """Return what `failed` found when it made this error; None for an error from elsewhere."""
        return next((dict(found) for made, found in self._failures if made is error), None)

    def compared(self) -> list[dict[str, object]]:
        """Return the numbers of each assert's last passing comparison, in the order of the source."""
        return [
            {"assert": self.assertions[number].source, "values": values}
            for number, values in sorted(self._compared.items())
            if values
        ]

    def _describe(self, number: int) -> Iterator[str]:
        """Yield `label = value (base = value)`; what a comparison compared comes first."""
        values, seen = self._values[number], self.assertions[number].seen
        told: set[str] = set()
        for place in sorted(values, key=lambda place: (not seen[place].operand, place)):
            entry = seen[place]
            worth_it = is_telling(values[place]) or (entry.operand and entry.base is None)
            if not entry.label or entry.label in told or _is_code(values[place]) or not worth_it:
                continue
            yield self._with_base(number, place, told)

    def _with_base(self, number: int, place: int, told: set[str]) -> str:
        values, entry = self._values[number], self.assertions[number].seen[place]
        told.add(entry.label)
        text = f"{entry.label} = {show(values[place])}"
        base = entry.base
        if base is None or base not in values or self.assertions[number].seen[base].label in told:
            return text
        if _is_code(values[base]) or not is_telling(values[base]):
            return text
        return f"{text} ({self._with_base(number, base, told)})"


def show_message(message: object) -> str:
    """Return the user's own message of an assert; a frame given as message appears by its shape."""
    return message if isinstance(message, str) else show(message)


def _is_code(value: object) -> bool:
    return isinstance(value, ModuleType | FunctionType | BuiltinFunctionType | MethodType | type)
