"""Codecs: how a value becomes bytes under a digest, and the same value again. Nothing here reads pickle.

Belongs here: one module per family of types, and `registry` that chooses among them.
"""

from penstock.store.codecs.registry import blobs_of, follow, load, save

__all__ = ["blobs_of", "follow", "load", "save"]
