"""Plain values and objects, with whatever frames, arrays and models lie inside them: one listing, many parts.

Belongs here: the codec around `plain` and `objects`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs.codec import Listing, load_listing, save_listing
from penstock.store.codecs.objects import take_apart
from penstock.store.codecs.plain import PLAIN, Encoder, decode

_PREVIEW = 200


@dataclass(frozen=True, slots=True)
class TreeCodec:
    """Keeps plain values as JSON; parts that are not plain become artifacts of their own.

    Args:
        save_part: Keeps a part by whichever codec takes it.
        load_part: Reads it back.
    """

    save_part: Callable[[object, Blobs], Artifact]
    load_part: Callable[[Artifact, Blobs], object]
    name: str = "plain"
    is_listing: bool = True

    def matches(self, value: object) -> bool:
        """Whether `value` is plain, a container, or an object with fields."""
        return type(value) in PLAIN or take_apart(value) is not None

    def save(self, value: object, blobs: Blobs) -> Artifact:
        """Keep `value` and its parts."""
        encoder = Encoder(lambda part: self.save_part(part, blobs))
        # As text within the listing: only the standard library's JSON is exact on lone surrogates.
        text = json.dumps(encoder.encode(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        listing = Listing(value=text, parts=tuple(encoder.parts))
        meta: dict[str, object] = {"preview": text[:_PREVIEW]}
        if isinstance(value, list | tuple | dict | set | frozenset):
            meta["length"] = len(value)
        return save_listing(self.name, value, listing, blobs, meta=meta)

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Give the value back; frames inside come as they were, whatever the form."""
        del form
        listing = load_listing(artifact, blobs)
        return decode(json.loads(listing.value), lambda number: self.load_part(listing.parts[number], blobs))
