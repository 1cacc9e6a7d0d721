"""Packages that import their words when they are first used (PEP 562), so that quick commands load no data library."""

import gc
import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType


def lazy_words(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return a module's `__getattr__` that imports each word from its home when it is first asked for.

    Args:
        package: Name of the package.
        homes: By word, the module that defines it; a word that is its own home is a module.
    """

    def find(word: str) -> object:
        if word not in homes:
            raise AttributeError(f"module {package!r} has no attribute {word!r}")
        module = import_quickly(homes[word])
        value: object = module if homes[word] == f"{package}.{word}" else getattr(module, word)
        setattr(sys.modules[package], word, value)
        return value

    return find


def import_quickly(name: str) -> ModuleType:
    """Import a module without looking for garbage meanwhile: what modules define stays, and looking takes a tenth."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if was_enabled:
            gc.enable()
