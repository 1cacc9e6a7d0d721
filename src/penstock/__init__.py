"""Penstock: the whole life of a machine-learning pipeline. These are the public words.

Each is imported when first used, so that `import penstock` is quick and loads no data library.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock import sources
    from penstock.authoring import Pipeline
    from penstock.core.errors import (
        ArtifactError,
        CheckError,
        DataError,
        DeclarationError,
        InputError,
        PenstockError,
        StepError,
        StoreError,
    )
    from penstock.core.rows import Row

__all__ = [
    "ArtifactError",
    "CheckError",
    "DataError",
    "DeclarationError",
    "InputError",
    "PenstockError",
    "Pipeline",
    "Row",
    "StepError",
    "StoreError",
    "sources",
]

_HOMES = {"Pipeline": "penstock.authoring", "Row": "penstock.core.rows"}


def __getattr__(word: str) -> object:
    if word not in __all__:
        raise AttributeError(f"module 'penstock' has no attribute {word!r}")
    if word == "sources":
        return importlib.import_module("penstock.sources")
    value: object = getattr(importlib.import_module(_HOMES.get(word, "penstock.core.errors")), word)
    globals()[word] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
