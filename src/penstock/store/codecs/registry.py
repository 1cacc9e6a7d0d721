"""Which codec takes which value, and the doors: `save`, `load`, `blobs_of`, `follow`.

Belongs here: the order in which codecs are asked. A value's type is looked at, no library is imported to test it.
"""

from collections.abc import Iterator
from typing import Literal

from penstock.core.errors import ArtifactError, UnsupportedError
from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs.arrays import ArrayCodec, SparseCodec
from penstock.store.codecs.arrow import ArrowCodec
from penstock.store.codecs.boosters import BoosterCodec
from penstock.store.codecs.codec import Codec, load_listing, type_name
from penstock.store.codecs.estimators import EstimatorCodec
from penstock.store.codecs.factors import FactorsCodec
from penstock.store.codecs.networks import OnnxCodec, TorchCodec
from penstock.store.codecs.own import OwnCodec
from penstock.store.codecs.tree import TreeCodec


def save(value: object, blobs: Blobs) -> Artifact:
    """Keep `value` under its digest, by the codec for its type.

    Args:
        value: A frame, array, model, plain value, object with fields, or an object whose class has save and load.
        blobs: Where the bytes go.

    Raises:
        UnsupportedError: No codec takes it without guessing; the hint says what would.
        DiskFullError: There is no space.
    """
    for codec in CODECS:
        if codec.matches(value):
            return codec.save(value, blobs)
    raise UnsupportedError(
        f"A value of type {type_name(type(value))!r} cannot be kept: nothing knows how.",
        hint="give its class save(path) and a classmethod load(path), make it a dataclass, or return a frame",
    )


def load(artifact: Artifact, blobs: Blobs, *, form: str = "value", verify: Literal["lazy", "full"] = "lazy") -> object:
    """Give back the value that `save` was given.

    Args:
        artifact: What `save` returned.
        blobs: Where the bytes are.
        form: For frames: lazy, polars, pandas, arrow or batches; anything else gives the value as it was.
        verify: "lazy" trusts files this machine hashed since it booted, until they change; "full" reads every byte.

    Raises:
        DamagedError: The bytes are missing, or not the bytes that were stored.
        UnsupportedError: A class it needs is not there any more.
    """
    if verify == "full":
        for digest in blobs_of(artifact, blobs):
            blobs.verify(digest)
    return _codec(artifact).load(artifact, blobs, form)


def blobs_of(artifact: Artifact, blobs: Blobs) -> list[str]:
    """Return the digest of every blob that `artifact` needs, each once; for export and for garbage collection.

    Raises:
        DamagedError: A listing is missing or damaged.
    """
    return list(dict.fromkeys(follow(artifact, blobs)))


def follow(artifact: Artifact, blobs: Blobs) -> Iterator[str]:
    """Yield the digests of an artifact's blobs; each comes before it is read, so that it may be fetched by then.

    Raises:
        DamagedError: A listing is missing or damaged.
        ArtifactError: A codec is not known here.
    """
    waiting = [artifact]
    seen: set[tuple[str, str]] = set()  # listings that name each other twice over would multiply without it
    while waiting:
        current = waiting.pop()
        if (current.digest, current.codec) in seen:
            continue
        seen.add((current.digest, current.codec))
        codec = _codec(current)
        yield current.digest
        if codec.is_listing:
            listing = load_listing(current, blobs)
            yield from (file.digest for file in listing.files)
            waiting.extend(reversed(listing.parts))


def _codec(artifact: Artifact) -> Codec:
    for codec in CODECS:
        if codec.name == artifact.codec:
            return codec
    raise ArtifactError(
        f"Artifact {artifact.digest} was written by codec {artifact.codec!r}, which is not known here.",
        hint="it was written by a newer version of Penstock: upgrade",
    )


def _load_part(artifact: Artifact, blobs: Blobs) -> object:
    return load(artifact, blobs)


_ARRAYS = ArrayCodec()
# A class's own save and load win over what its bases would allow; fields are the last resort.
CODECS: tuple[Codec, ...] = (
    ArrowCodec(),
    _ARRAYS,
    OwnCodec(),
    SparseCodec(_ARRAYS),
    BoosterCodec(),
    EstimatorCodec(),
    TorchCodec(),
    OnnxCodec(),
    FactorsCodec(save, _load_part),
    TreeCodec(save, _load_part),
)
