"""LightGBM boosters, in LightGBM's own text format.

Belongs here: `Booster`. The scikit-learn flavoured models go through `estimators`.
"""

from dataclasses import dataclass
from typing import Any

from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs.codec import File, Listing, library, load_listing, save_listing


@dataclass(frozen=True, slots=True)
class BoosterCodec:
    """Keeps LightGBM boosters."""

    name: str = "lightgbm"
    is_listing: bool = True

    def matches(self, value: object) -> bool:
        """Whether `value` is a LightGBM Booster."""
        return library(type(value)) == "lightgbm" and type(value).__name__ == "Booster"

    def save(self, value: Any, blobs: Blobs) -> Artifact:
        """Write every tree, not only those up to the best iteration."""
        text = value.model_to_string(num_iteration=-1).encode()
        file = File(name="model.txt", digest=blobs.put(text), size_bytes=len(text))
        listing = Listing(value={"best_iteration": value.best_iteration}, files=(file,))
        meta = {"trees": value.num_trees(), "features": value.feature_name()}
        return save_listing(self.name, value, listing, blobs, meta=meta)

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Read the text back."""
        del form
        import lightgbm  # noqa: PLC0415 -- optional dependency, needed only for values that came from it

        listing = load_listing(artifact, blobs)
        booster = lightgbm.Booster(model_str=blobs.read(listing.files[0].digest).decode())
        booster.best_iteration = listing.value["best_iteration"]
        return booster
