"""Objects whose class says how: `save(path)` writes a file or a directory, a classmethod `load(path)` reads it.

Belongs here: the files such a class writes, as they are. What stands in them is the class's own business.
"""

import inspect
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.core.errors import UnsupportedError
from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs.codec import (
    File,
    Listing,
    class_reference,
    library,
    load_listing,
    resolve_class,
    save_listing,
    unsupported,
)

# Their classes have codecs of their own, or a `save` that means something else.
_KNOWN = frozenset({
    "numpy", "polars", "pandas", "pyarrow", "scipy", "sklearn", "lightgbm", "torch", "onnx", "implicit", "builtins",
})  # fmt: skip
_CONTENT = "content"


@dataclass(frozen=True, slots=True)
class OwnCodec:
    """Keeps objects through their own save and load."""

    name: str = "own"
    is_listing: bool = True

    def matches(self, value: object) -> bool:
        """Whether the value's class, not one of a known library, has save and a classmethod (or static) load."""
        kind = type(value)
        if library(kind) in _KNOWN or not callable(getattr(kind, "save", None)):
            return False
        return isinstance(inspect.getattr_static(kind, "load", None), classmethod | staticmethod)

    def save(self, value: Any, blobs: Blobs) -> Artifact:
        """Let the object write, and keep every file it wrote."""
        reference = class_reference(type(value))
        with blobs.writing() as directory:
            directory.mkdir()
            value.save(directory / _CONTENT)
            written = sorted(path.name for path in directory.iterdir())
            if written != [_CONTENT]:
                raise unsupported(
                    value, f"its save(path) wrote {written!r} instead of what `path` names", hint=_EXACTLY
                )
            is_file = (directory / _CONTENT).is_file()
            files = tuple(_taken(directory / _CONTENT, value, blobs))
        listing = Listing(value={"class": reference, "is_file": is_file}, files=files)
        return save_listing(self.name, value, listing, blobs, meta={"files": [file.name for file in files]})

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Lay the files out and let the class read them; they are gone afterwards."""
        del form
        listing = load_listing(artifact, blobs)
        kind: Any = resolve_class(listing.value["class"])
        if not hasattr(kind, "load"):
            raise UnsupportedError(f"{listing.value['class']!r} has no load(path) any more.", hint="bring it back")
        with blobs.writing() as directory:
            directory.mkdir()
            content = directory / _CONTENT
            if not listing.value["is_file"]:
                content.mkdir()
            for file in listing.files:
                _laid_out(blobs.check(file.digest), content / file.name if file.name else content)
            return kind.load(content)


_EXACTLY = "write one file or one directory, at exactly the path given, without an ending of your own"


def _taken(content: Path, value: object, blobs: Blobs) -> Iterator[File]:
    paths = [content] if content.is_file() else sorted(_walked(content))
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise unsupported(value, f"its save(path) wrote {path.name!r}, which is no file", hint=_EXACTLY)
        name = "" if path == content else path.relative_to(content).as_posix()
        size = path.stat().st_size
        yield File(name=name, digest=blobs.put_file(path), size_bytes=size)


def _walked(directory: Path) -> Iterator[Path]:
    for path in directory.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path


def _laid_out(blob: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(blob, place)
    except OSError:  # another file system, or one without links
        shutil.copyfile(blob, place)
