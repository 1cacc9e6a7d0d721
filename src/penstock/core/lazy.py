"""Packages that import their words when they are first used (PEP 562), so that quick commands load no data library."""

import importlib
import sys
from collections.abc import Callable, Mapping


def lazy_words(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return a module's `__getattr__` that imports each word from its home when it is first asked for.

    Args:
        package: Name of the package.
        homes: By word, the module that defines it; a word that is its own home is a module.
    """

    def find(word: str) -> object:
        if word not in homes:
            raise AttributeError(f"module {package!r} has no attribute {word!r}")
        module = importlib.import_module(homes[word])
        value: object = module if homes[word] == f"{package}.{word}" else getattr(module, word)
        setattr(sys.modules[package], word, value)
        return value

    return find
