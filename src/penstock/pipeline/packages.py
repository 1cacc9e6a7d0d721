"""Which installed distribution an import belongs to, and its version; the libraries themselves are not imported."""

import importlib.util
import sys
from importlib import metadata

from penstock.core.installed import is_installed

_IGNORED = frozenset({*sys.stdlib_module_names, "penstock", ""})


def is_ignored(module: str) -> bool:
    """Whether a module is Python's own or Penstock's; their versions are not the user's code."""
    return module.partition(".")[0] in _IGNORED


class Packages:
    """Versions of installed packages by the name that imports them, each looked up once."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[str, str]] = {}
        self._remarks: dict[str, str] = {}
        self._records: list[tuple[metadata.Distribution, str]] | None = None

    def versions(self, name: str) -> dict[str, str]:
        """Return distribution name to version for a top-level import name; a shared namespace may have several."""
        if name not in self._versions:
            self._versions[name] = self._named(name) or self._providing(name)
        return self._versions[name]

    def remark(self, name: str) -> str:
        """Say what cannot be seen of an import, as the end of a sentence; "" when all is well."""
        if name not in self._remarks:
            self._remarks[name] = self._look_at(name)
        return self._remarks[name]

    def _look_at(self, name: str) -> str:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            return f"uses `{name}`, which is neither in the project nor installed"
        origin = spec.origin or next(iter(spec.submodule_search_locations or ()), "")
        if spec.origin in {"built-in", "frozen"} or is_installed(origin):
            return ""
        return f"uses `{name}`, which lies outside the project and is not installed as a package"

    @staticmethod
    def _named(name: str) -> dict[str, str]:
        """Try a distribution called like the import, if it does hold that import."""
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            return {}
        return {found.metadata["Name"]: found.version} if _provides(found.read_text("RECORD") or "", name) else {}

    def _providing(self, name: str) -> dict[str, str]:
        # packages_distributions() parses every file of every package, 20 times slower than looking for one line.
        if self._records is None:
            self._records = [(found, found.read_text("RECORD") or "") for found in metadata.distributions()]
        found = [distribution for distribution, record in self._records if _provides(record, name)]
        return {distribution.metadata["Name"]: distribution.version for distribution in found}


def _provides(record: str, name: str) -> bool:
    lines = f"\n{record}"
    return (
        f"\n{name}/" in lines or f"\n{name}.py," in lines or f"\n{name}.cpython" in lines or f"\n{name}.abi3" in lines
    )
