"""What a codec is, and what all of them need: types by name, class references, listings of several files.

Belongs here: the protocol and the rules about classes. Which codec takes which value is told in `registry`.
"""

import importlib
from typing import Any, Protocol

import msgspec

from penstock.core.digest import canonical_json
from penstock.core.errors import DamagedError, UnsupportedError
from penstock.core.records import Artifact
from penstock.store.blobs import Blobs


class Codec(Protocol):
    """Writes and reads values of some types."""

    @property
    def name(self) -> str:
        """What `Artifact.codec` says."""

    @property
    def is_listing(self) -> bool:
        """Whether the artifact's digest names a `Listing`."""

    def matches(self, value: object) -> bool:
        """Whether this codec takes `value`; must not import the library that value may come from."""

    def save(self, value: object, blobs: Blobs) -> Artifact:
        """Keep `value`."""

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Give the value back, in the form asked for where it is a frame."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file that belongs to an artifact: path relative to it, with forward slashes."""

    name: str
    digest: str
    size_bytes: int


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What an artifact of several files consists of; its digest covers them all.

    Attributes:
        value: Plain JSON the codec needs.
        parts: Artifacts inside this one.
        files: Files of this one.
    """

    value: Any = None
    parts: tuple[Artifact, ...] = ()
    files: tuple[File, ...] = ()


def save_listing(codec: str, value: object, listing: Listing, blobs: Blobs, *, meta: dict[str, Any]) -> Artifact:
    """Keep the listing and return the artifact that it describes."""
    data = canonical_json(listing)
    inside = sum(part.size_bytes for part in listing.parts) + sum(file.size_bytes for file in listing.files)
    return Artifact(
        digest=blobs.put(data), codec=codec, type=type_name(type(value)), size_bytes=len(data) + inside, meta=meta
    )


def load_listing(artifact: Artifact, blobs: Blobs) -> Listing:
    """Read the listing of `artifact`.

    Raises:
        DamagedError: The bytes are not the bytes that were stored, or not a listing.
    """
    data = blobs.read(artifact.digest)
    try:
        return msgspec.json.decode(data, type=Listing)
    except msgspec.MsgspecError as error:
        raise DamagedError(
            f"Blob {artifact.digest} is not a listing of {artifact.codec!r}: {error}.",
            hint="it was written by another version or codec; run the pipeline again to rebuild it",
        ) from error


def libraries(kind: type) -> frozenset[str]:
    """Return the top-level packages that `kind` and what it inherits from are defined in."""
    return frozenset(base.__module__.partition(".")[0] for base in kind.__mro__)


def library(kind: type) -> str:
    """Return the top-level package that `kind` itself is defined in."""
    return kind.__module__.partition(".")[0]


def type_name(kind: type) -> str:
    """Return "module:qualname" of a type, for people and for `Artifact.type`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def class_reference(kind: type) -> str:
    """Return "module:qualname", having made sure that it leads back to `kind`.

    Raises:
        UnsupportedError: Another process could not import the class by that name.
    """
    name = type_name(kind)
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise UnsupportedError(
            f"Class {name!r} cannot be found by another process.",
            hint="define it at the top level of a module that the pipeline file imports",
        )
    if resolve_class(name) is not kind:
        raise UnsupportedError(
            f"The name {name!r} leads to another class than the value's.",
            hint="give the class a module-level name of its own",
        )
    return name


def resolve_class(name: str) -> type:
    """Import the class of a reference written by `class_reference`.

    The name always comes from verified bytes of our own store, never from a request: importing runs code.

    Raises:
        UnsupportedError: The module or class is not there any more.
    """
    module, _, qualname = name.partition(":")
    try:
        found: object = importlib.import_module(module)
        for step in qualname.split("."):
            found = getattr(found, step)
    except (ImportError, AttributeError) as error:
        raise UnsupportedError(
            f"Class {name!r} cannot be imported: {error}.",
            hint="bring the class back under that name, or run the pipeline again",
        ) from error
    if not isinstance(found, type):
        raise UnsupportedError(f"{name!r} is not a class.", hint="run the pipeline again")
    return found


def unsupported(value: object, why: str, *, hint: str) -> UnsupportedError:
    """Return the error for a value no codec can keep without guessing."""
    return UnsupportedError(f"A value of type {type_name(type(value))!r} cannot be kept: {why}.", hint=hint)
