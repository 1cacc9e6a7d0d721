"""Reads a manifest that came from elsewhere, and refuses what would lead outside the store once it is used.

Belongs here: what may stand in a manifest. Whether its blobs are there is told by `archive`.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from penstock.core.errors import InputError
from penstock.core.records import Artifact
from penstock.core.refs import parse_name
from penstock.releases.manifest import FORMAT, Manifest, decode_manifest

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FOREIGN = re.compile(
    r'[\x00-\x1f\x7f\\:*?"<>|]'
)  # control characters; separators, drives and patterns of other systems
_NAME_BYTES = 255
_PATH_BYTES = 1024
_UPGRADE = "it may be of a newer Penstock: upgrade, or export it again"
_AGAIN = "make the file again with penstock export"


class _Environment(msgspec.Struct, frozen=True):
    python: str = ""
    packages: dict[str, str] = {}


class _Head(msgspec.Struct, frozen=True):
    format: int


def read_untrusted(data: bytes, source: Path) -> Manifest:
    """Return the manifest in `data`, having looked at every name and digest that a path or a reference is made from.

    Args:
        data: Its bytes.
        source: The file it came in, for messages.

    Raises:
        InputError: It is not a manifest, not one of this format, or leads elsewhere.
    """
    _refuse_other_format(data, source)
    try:
        manifest = decode_manifest(data)
        msgspec.convert(manifest.environment, _Environment)
        again = msgspec.json.encode(msgspec.json.decode(data))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"The manifest of {source} is not readable: {_why(error)}.", hint=_UPGRADE) from error
    if again != data:  # spaces, names that come twice: other readers may see other things in it
        raise InputError(f"The manifest of {source} is not as Penstock writes it.", hint=_AGAIN)
    parse_name(manifest.pipeline, what="pipeline")
    if manifest.graph.pipeline != manifest.pipeline:
        raise InputError(f"The manifest of {source} is of two pipelines.", hint=_AGAIN)
    _refuse_paths(manifest, source)
    for digest in _digests(manifest):
        if not _DIGEST.fullmatch(digest):
            raise InputError(f"The manifest of {source} names {digest!r}, which is no digest.", hint=_AGAIN)
    return manifest


def _refuse_other_format(data: bytes, source: Path) -> None:
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"The manifest of {source} is not readable: {_why(error)}.", hint=_AGAIN) from error
    if not 1 <= head.format <= FORMAT:
        hint = "upgrade Penstock here" if head.format > FORMAT else "export it again"
        raise InputError(f"{source} has format {head.format}; this Penstock reads up to {FORMAT}.", hint=hint)


def _why(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _refuse_paths(manifest: Manifest, source: Path) -> None:
    files = [PurePosixPath(file.path) for file in manifest.graph.files]
    for file in manifest.graph.files:
        if not is_inside(file.path):
            raise InputError(f"The manifest of {source} names a file outside its code: {file.path!r}.", hint=_AGAIN)
    if len(set(files)) < len(files) or {parent for path in files for parent in path.parents} & set(files):
        raise InputError(f"The manifest of {source} names a file twice, or as a directory too.", hint=_AGAIN)
    root = manifest.graph.import_root
    if root != "." and not is_inside(root):
        raise InputError(f"The manifest of {source} imports from outside its code: {root!r}.", hint=_AGAIN)


def is_inside(path: str) -> bool:
    """Return whether `path` is relative, written one way only, and names something below where it starts."""
    pure = PurePosixPath(path)
    is_usable = (
        not _FOREIGN.search(path) and _size(path) <= _PATH_BYTES and all(_size(p) <= _NAME_BYTES for p in pure.parts)
    )
    return is_usable and path == str(pure) and path != "." and not pure.is_absolute() and ".." not in pure.parts


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _digests(manifest: Manifest) -> Iterator[str]:
    yield from (file.digest for file in manifest.graph.files)
    yield from (artifact.digest for artifact in _artifacts(manifest))
    yield from (dataset.digest for dataset in manifest.datasets.values())
    if manifest.champion is not None:
        yield manifest.champion


def _artifacts(manifest: Manifest) -> Iterator[Artifact]:
    groups: list[dict[str, Any]] = [manifest.artifacts, *manifest.serving.values()]
    groups += [evaluation.rows for evaluation in manifest.evaluations.values()]
    for group in groups:
        yield from group.values()
    for proofs in manifest.stand_ins.values():
        yield from (part for one in proofs.values() for part in (one.artifact, one.sample) if part is not None)
