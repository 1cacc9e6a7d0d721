"""Penstock: the whole life of a machine-learning pipeline. These are the public words.

Each is imported when first used, so that `import penstock` is quick and loads no data library.
"""

from typing import TYPE_CHECKING

from penstock.core.lazy import lazy_words

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
    from penstock.project.loading import load_release

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
    "load_release",
    "sources",
]

_HOMES = {
    "Pipeline": "penstock.authoring",
    "Row": "penstock.core.rows",
    "load_release": "penstock.project.loading",
    "sources": "penstock.sources",
}

__getattr__ = lazy_words(__name__, {word: _HOMES.get(word, "penstock.core.errors") for word in __all__})


def __dir__() -> list[str]:
    return sorted(__all__)
