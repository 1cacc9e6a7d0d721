"""Recommenders of `implicit`: their factors, similarities and settings as arrays and plain values.

Belongs here: ALS, BPR, logistic factors, item-item neighbours, on the processor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.core.errors import UnsupportedError
from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs.codec import (
    Listing,
    class_reference,
    library,
    load_listing,
    resolve_class,
    save_listing,
    unsupported,
)

# Made again on load, from what is kept.
_DERIVED = frozenset({"scorer", "_user_norms", "_item_norms", "_YtY", "_XtX"})


@dataclass(frozen=True, slots=True)
class FactorsCodec:
    """Keeps models of `implicit`.

    Args:
        save_part: Keeps the settings, arrays and matrices.
        load_part: Reads them back.
    """

    save_part: Callable[[object, Blobs], Artifact]
    load_part: Callable[[Artifact, Blobs], object]
    name: str = "implicit"
    is_listing: bool = True

    def matches(self, value: object) -> bool:
        """Whether `value` is a model of `implicit`."""
        return library(type(value)) == "implicit" and hasattr(value, "recommend")

    def save(self, value: Any, blobs: Blobs) -> Artifact:
        """Keep every attribute but those made from others."""
        state = {name: item for name, item in sorted(vars(value).items()) if name not in _DERIVED}
        if "gpu" in type(value).__module__:
            raise unsupported(value, "its factors are on the accelerator", hint="convert it with .to_cpu()")
        if isinstance(state.get("dtype"), np.dtype):
            state["dtype"] = state["dtype"].str
        part = self.save_part(state, blobs)
        listing = Listing(value={"class": class_reference(type(value))}, parts=(part,))
        return save_listing(self.name, value, listing, blobs, meta={"settings": sorted(state)})

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Build an empty model and give it its attributes."""
        del form
        listing = load_listing(artifact, blobs)
        kind: Any = resolve_class(listing.value["class"])
        if library(kind) != "implicit":
            raise UnsupportedError(
                f"{listing.value['class']!r} is no model of implicit.", hint="run the pipeline again"
            )
        state: Any = self.load_part(listing.parts[0], blobs)
        model = kind()
        for name, item in state.items():
            setattr(model, name, np.dtype(item) if name == "dtype" else item)
        if state.get("similarity") is not None:
            from implicit.nearest_neighbours import NearestNeighboursScorer  # noqa: PLC0415 -- optional dependency

            model.scorer = NearestNeighboursScorer(state["similarity"])
        return model
