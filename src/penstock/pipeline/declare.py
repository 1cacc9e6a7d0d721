"""What decorators say, collected as it is said; judged later, all at once, by `describe`.

Belongs here: the record of a declared function and where it stands. Does not: any rule about what is lawful.
"""

import functools
import inspect
import linecache
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

from penstock.pipeline.graph import Role


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a function's `def` stands; `file` is a path, or the name of a notebook cell."""

    file: str
    line: int

    def shown(self, root: Path) -> str:
        """Return "features.py:31", relative to `root` where it lies below it."""
        path = Path(self.file)
        return f"{path.relative_to(root) if path.is_relative_to(root) else self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Declared:
    """A function with the role and options its decorator gave it.

    Attributes:
        outputs: Names of the outputs; None when the decorator named none.
        each: Column to fan out over.
        options: What else the decorator was given, as it was given.
    """

    name: str
    role: Role
    function: Callable[..., object]
    place: Place
    outputs: object = None
    each: object = None
    options: Mapping[str, object] = field(default_factory=dict)


class Declarations:
    """All that one pipeline declares, in order.

    Args:
        name: Name of the pipeline.
        goal: What it is for, in one sentence.
        module: Module in which the pipeline was made.
    """

    def __init__(self, name: str, *, goal: str = "", module: str = "__main__") -> None:
        self.name = name
        self.goal = goal
        self.module = module
        self._entries: list[Declared | Declarations] = []
        self._places: dict[tuple[str, str], int] = {}

    def add(self, declared: Declared) -> None:
        """Append `declared`; a notebook cell that runs again replaces what it declared before."""
        known = (declared.function.__module__, declared.name)
        index = self._places.get(known)
        before = self._entries[index] if index is not None else None
        if index is not None and isinstance(before, Declared) and _is_redeclared(before, declared):
            self._entries[index] = declared
            return
        self._places[known] = len(self._entries)
        self._entries.append(declared)

    def include(self, other: "Declarations") -> None:
        """Reuse everything `other` declares, now or later."""
        if other is not self and other not in self._entries:
            self._entries.append(other)

    @property
    def parts(self) -> tuple["Declarations", ...]:
        """The pipelines it includes directly."""
        return tuple(entry for entry in self._entries if isinstance(entry, Declarations))

    def __iter__(self) -> Iterator[Declared]:
        return self._walk(set())

    def _walk(self, seen: set[int]) -> Iterator[Declared]:
        if id(self) in seen:  # two parts may include the same third part
            return
        seen.add(id(self))
        for entry in self._entries:
            if isinstance(entry, Declared):
                if id(entry) not in seen:
                    seen.add(id(entry))
                    yield entry
            else:
                yield from entry._walk(seen)  # noqa: SLF001 - the same class


def declare(
    role: Role,
    function: Callable[..., object],
    options: Mapping[str, object] | None = None,
    *,
    outputs: object = None,
    each: object = None,
) -> Declared:
    """Return the record of `function` in `role`."""
    return Declared(
        name=str(getattr(function, "__name__", type(function).__name__)),
        role=role,
        function=function,
        place=place_of(function),
        outputs=outputs,
        each=each,
        options={name: value for name, value in (options or {}).items() if value is not None},
    )


def place_of(function: Callable[..., object]) -> Place:
    """Return where the `def` of `function` stands, below its decorators."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if not isinstance(code, CodeType):
        return Place("<unknown>", 0)
    return Place(code.co_filename, _line_of_def(code))


def _line_of_def(code: CodeType) -> int:
    lines = linecache.getlines(code.co_filename)
    wanted = _definition(code.co_name)
    last = min(len(lines), code.co_firstlineno + 200)
    return next((n for n in range(code.co_firstlineno, last + 1) if wanted.match(lines[n - 1])), code.co_firstlineno)


@functools.lru_cache(maxsize=4096)
def _definition(name: str) -> re.Pattern[str]:
    return re.compile(rf"\s*(?:async\s+)?def\s+{re.escape(name)}\b")


def _is_redeclared(before: Declared, now: Declared) -> bool:
    """Say whether `now` is `before` from a notebook cell or console input that ran again."""
    is_same_input = before.place.file == now.place.file
    if is_same_input and before.place.line != now.place.line:
        return False  # two definitions in one cell or file: a mistake to report
    return is_same_input or not Path(now.place.file).is_file()


def names(value: str | Sequence[str] | None) -> Sequence[str] | None:
    """Return one name or several as a tuple, None as None; leave anything else for `describe` to judge."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list | tuple | set | frozenset) else value
