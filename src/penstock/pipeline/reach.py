"""What a unit of the user's code reaches: names followed through modules, then through one another to the end.

Belongs here: resolving names and the transitive closure. Does not: reading files, reading single statements.
"""

import builtins
from dataclasses import dataclass, field

from penstock.pipeline.modules import Module, Project, Unit
from penstock.pipeline.names import Chain, Target
from penstock.pipeline.packages import Packages, is_ignored

Spot = Unit | str
"""A unit of the project, or the top-level name of an installed package."""

_KNOWN = frozenset({
    *dir(builtins), "__name__", "__file__", "__doc__", "__package__", "__spec__", "__path__", "__loader__",
    "__annotations__", "__dict__", "__class__", "__module__", "__qualname__", "get_ipython", "display",
})  # fmt: skip
_ENVIRONMENT = frozenset({"environ", "environb", "getenv", "getenvb"})


@dataclass(slots=True)
class _Found:
    """What the names of one unit lead to."""

    spots: set[Spot] = field(default_factory=set)
    seen: set[tuple[str, str]] = field(default_factory=set)
    remark: str = ""


class Reach:
    """Follows names from unit to unit over a project; every answer is computed once."""

    def __init__(self, project: Project, packages: Packages) -> None:
        self.project = project
        self.packages = packages
        self._next: dict[Unit, frozenset[Spot]] = {}
        self._remarks: dict[Unit, tuple[str, ...]] = {}
        self._closures: dict[Unit, frozenset[Spot]] = {}

    def remarks(self, unit: Unit) -> tuple[str, ...]:
        """Return what cannot be seen of one unit, one sentence each."""
        self.next(unit)
        return self._remarks[unit]

    def next(self, unit: Unit) -> frozenset[Spot]:
        """Return what a unit reaches in one step."""
        if unit not in self._next:
            remarks: list[str] = []
            spots = self._step(unit, remarks)
            spots.discard(unit)
            self._next[unit] = frozenset(spots)
            self._remarks[unit] = tuple(remarks)
        return self._next[unit]

    def _step(self, unit: Unit, remarks: list[str]) -> set[Spot]:
        module = unit.module
        spots: set[Spot] = set()
        self._touch(module, spots)
        if unit is module.top:
            self._touch_unused(module, spots)
        found_at: list[tuple[_Found, int]] = []
        for (name, chain), line in unit.uses.names.items():
            found_at.append((self._named(module, name, chain, is_sure=True), line))
        for (name, chain), line in unit.uses.quoted.items():
            found_at.append((self._named(module, name, chain, is_sure=False), line))
        for (target, chain), line in unit.uses.imports.items():
            found = _Found()
            self._follow(target, chain, found)
            found_at.append((found, line))
        for found, line in found_at:
            spots |= found.spots
            if found.remark:
                remarks.append(_sentence(unit, found.remark, line))
        for text, line in unit.uses.remarks.items():
            remarks.append(_sentence(unit, f"{text}; a change of it is not seen", line))
        self._remark_changes(unit, remarks)
        return spots

    def _remark_changes(self, unit: Unit, remarks: list[str]) -> None:
        names = unit.module.bound.names
        for name, line in unit.uses.changes.items():
            is_ours = names.get(name) == () or any(self.project.find(t.module) for t in names.get(name, ()))
            is_pipeline = self.project.is_pipeline(unit.module, name, ())
            if name not in _KNOWN and (is_ours or name not in names) and not is_pipeline:
                text = f"changes the global `{name}`; what it holds at that moment is not seen"
                remarks.append(_sentence(unit, text, line))

    def _named(self, module: Module, name: str, chain: Chain, *, is_sure: bool) -> _Found:
        found = _Found()
        if not self._global(module, name, chain, found) and is_sure:
            found.remark = f"uses `{name}`, which is defined nowhere that can be seen"
        return found

    def _global(self, module: Module, name: str, chain: Chain, found: _Found) -> bool:
        """Resolve a module-level name; False when it is defined nowhere."""
        if self.project.is_pipeline(module, name, chain) or (module.name, name) in found.seen:
            return True
        found.seen.add((module.name, name))
        units = module.units.get(name, ())
        for unit in units:
            found.spots.add(unit)
            for target in unit.targets.get(name, ()):
                self._follow(target, chain, found)
        return bool(units) or self._through_stars(module, name, chain, found) or name in _KNOWN

    def _through_stars(self, module: Module, name: str, chain: Chain, found: _Found) -> bool:
        for source, unit in module.stars:
            other = self.project.module(source)
            if other is None:
                if name not in _KNOWN and not is_ignored(source):
                    # Which names an installed package gives is known only by importing it.
                    found.spots |= {unit, source.partition(".")[0]}
                    return True
                if is_ignored(source) and name not in _KNOWN and self._is_last_star(module, source):
                    return True
            elif other.public(name) and self._global(other, name, chain, found) and name not in _KNOWN:
                self._touch(other, found.spots)
                found.spots.add(unit)
                return True
        return False

    @staticmethod
    def _is_last_star(module: Module, source: str) -> bool:
        return module.stars[-1][0] == source

    def _follow(self, target: Target, chain: Chain, found: _Found) -> None:
        """Resolve what an import binds, with the attributes read from it."""
        if target.name:
            chain = (target.name, *chain)
        self._attribute(target.module, chain, found)

    def _attribute(self, name: str, chain: Chain, found: _Found) -> None:
        module = self.project.module(name)
        if module is None:
            self._beyond(name, chain, found)
            return
        self._touch(module, found.spots)
        if not chain:
            found.spots.update(unit for units in module.units.values() for unit in units)
            return
        first, rest = chain[0], chain[1:]
        inner = f"{name}.{first}"
        if first in module.units or (self.project.find(inner) is None and not self.project.is_folder(inner)):
            self._member(module, first, rest, found)
        else:
            self._attribute(inner, rest, found)

    def _member(self, module: Module, name: str, chain: Chain, found: _Found) -> None:
        if self._global(module, name, chain, found):
            return
        if "__getattr__" in module.units:
            self._global(module, "__getattr__", (), found)
            return
        found.remark = f"takes `{name}` from {module.path}, where it is defined nowhere that can be seen"

    def _beyond(self, name: str, chain: Chain, found: _Found) -> None:
        """Resolve a module that is no file of the project: a folder of it, Python's own, or an installed package."""
        if name == "os" and chain and chain[0] in _ENVIRONMENT:
            found.remark = f"reads the environment (os.{chain[0]}); a change of it is not seen"
        if is_ignored(name):
            return
        if self.project.is_folder(name):
            if chain:
                self._attribute(f"{name}.{chain[0]}", chain[1:], found)
            return
        top = name.partition(".")[0]
        if self.project.module(top) is not None:
            found.remark = f"imports `{name}`, which is not in the project"
            return
        found.spots.add(top)
        found.remark = found.remark or self.packages.remark(top)

    def _touch(self, module: Module, spots: set[Spot]) -> None:
        """Importing a module runs its top level, and that of each package around it."""
        spots.add(module.top)
        package = module.name.rpartition(".")[0]
        while package:
            above = self.project.module(package)
            if above is not None:
                spots.add(above.top)
            package = package.rpartition(".")[0]

    def _touch_unused(self, module: Module, spots: set[Spot]) -> None:
        """An import whose name is never used stands there for what importing the module does."""
        ours = [
            (name, target)
            for name, targets in module.bound.names.items()
            for target in targets
            if self.project.find(target.module) is not None
        ]
        if not ours:
            return
        used = {name for unit in _units(module) for name, _ in (*unit.uses.names, *unit.uses.quoted)}
        for name, target in ours:
            if name not in used:
                inner = f"{target.module}.{target.name}" if target.name else target.module
                other = self.project.module(inner) or self.project.module(target.module)
                if other is not None:
                    self._touch(other, spots)

    def closure(self, start: Unit) -> frozenset[Spot]:
        """Return everything a unit reaches, itself included (Tarjan's components, without recursion)."""
        if start not in self._closures:
            self._components(start)
        return self._closures[start]

    def _components(self, start: Unit) -> None:
        index: dict[Unit, int] = {start: 0}
        low: dict[Unit, int] = {start: 0}
        path: list[Unit] = [start]
        work = [(start, iter(self.next(start)))]
        while work:
            unit, rest = work[-1]
            for spot in rest:
                if isinstance(spot, str) or spot in self._closures:
                    continue
                if spot not in index:
                    index[spot] = low[spot] = len(index)
                    path.append(spot)
                    work.append((spot, iter(self.next(spot))))
                    break
                low[unit] = min(low[unit], index[spot])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[unit])
                if low[unit] == index[unit]:
                    self._close(path, unit)

    def _close(self, path: list[Unit], first: Unit) -> None:
        position = path.index(first)
        members = path[position:]
        del path[position:]
        reached: set[Spot] = set(members)
        for member in members:
            for spot in self.next(member):
                reached.add(spot)
                if isinstance(spot, Unit):
                    reached |= self._closures.get(spot, frozenset())
        closure = frozenset(reached)
        self._closures.update(dict.fromkeys(members, closure))


def _units(module: Module) -> list[Unit]:
    return [*dict.fromkeys(unit for units in module.units.values() for unit in units), module.top]


def _sentence(unit: Unit, text: str, line: int) -> str:
    what = unit.label.rpartition(":")[0] if unit is not unit.module.top else unit.label
    return f"{what}:{line} {text}."
