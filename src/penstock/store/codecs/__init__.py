"""Codecs: how a value becomes bytes under a digest, and the same value again. Nothing here reads pickle.

Belongs here: one module per family of types, and `registry` that chooses among them.
"""

from typing import TYPE_CHECKING

from penstock.core.lazy import lazy_words

if TYPE_CHECKING:
    from penstock.store.codecs.registry import blobs_of, follow, load, save

__all__ = ["blobs_of", "follow", "load", "save"]

# Imported when first used: a supervisor keeps and compares digests, and never loads a value.
__getattr__ = lazy_words(__name__, dict.fromkeys(__all__, "penstock.store.codecs.registry"))
