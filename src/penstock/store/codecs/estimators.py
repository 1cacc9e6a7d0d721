"""Estimators of scikit-learn, and LightGBM's that behave like them, through skops; no pickle, an allow-list of ours.

Belongs here: estimators and pipelines of them. The list is in `trusted`.
"""

import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.core.digest import digest_bytes
from penstock.core.errors import UnsupportedError
from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs.arrays import cleared
from penstock.store.codecs.codec import libraries, type_name, unsupported
from penstock.store.codecs.trusted import TRUSTED

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class EstimatorCodec:
    """Keeps scikit-learn estimators as skops files."""

    name: str = "skops"
    is_listing: bool = False

    def matches(self, value: object) -> bool:
        """Whether the value's class comes from scikit-learn's BaseEstimator."""
        return "sklearn" in libraries(type(value)) and hasattr(value, "get_params")

    def save(self, value: Any, blobs: Blobs) -> Artifact:
        """Write a skops file whose bytes depend on the estimator alone."""
        skops_io = _skops()
        try:
            data = canonical_zip(skops_io.dumps(value))
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise unsupported(value, f"skops cannot write it ({error})", hint=_OWN) from error
        _refuse_strangers(skops_io, data, type_name(type(value)))
        digest = blobs.put(data)
        meta = {"params": {key: repr(item)[:80] for key, item in sorted(value.get_params(deep=False).items())}}
        return Artifact(digest=digest, codec=self.name, type=type_name(type(value)), size_bytes=len(data), meta=meta)

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Rebuild the estimator, after a look at every type in the file."""
        del form
        skops_io = _skops()
        data = blobs.read(artifact.digest)
        _refuse_strangers(skops_io, data, artifact.type)
        return skops_io.loads(data, trusted=sorted(TRUSTED))


# Text vectorisers remember the address of their stop words, to look at them once only; 0 makes them look again.
_ADDRESS = "_stop_words_id"
_NO_ADDRESS = {
    "__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": "0", "is_json": True,
}  # fmt: skip

_OWN = "give the class save(path) and a classmethod load(path)"


def _skops() -> Any:
    try:
        import skops.io  # noqa: PLC0415 -- optional dependency
    except ImportError as error:
        raise UnsupportedError(
            "Keeping scikit-learn estimators needs skops, which is not installed.",
            hint="pip install 'penstock[sklearn]'",
        ) from error
    return skops.io


def _refuse_strangers(skops_io: Any, data: bytes, kind: str) -> None:
    strange = sorted(set(skops_io.get_untrusted_types(data=data)) - TRUSTED)
    if strange:
        raise UnsupportedError(
            f"A value of type {kind!r} holds {strange!r}, which is not on the allow-list.", hint=_OWN
        )


def canonical_zip(data: bytes) -> bytes:
    """Return the skops file without memory addresses and times of day.

    skops names arrays and marks shared objects by `id()`; what shares memory differs between processes and after
    reading back. Arrays are named in the order of their use instead, equal ones once, and the marks go.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        files = _Files(source)
        text = json.dumps(files.renamed(json.loads(source.read(_SCHEMA))), separators=(",", ":"))
        target.writestr(zipfile.ZipInfo(_SCHEMA, _EPOCH), text)
        for name, content in files.contents.items():
            target.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return out.getvalue()


class _Files:
    def __init__(self, source: zipfile.ZipFile) -> None:
        self.contents: dict[str, bytes] = {}
        self._source = source
        self._names: dict[str, str] = {}

    def renamed(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.renamed(item) for item in node]
        if not isinstance(node, dict):
            return node
        marked = "__loader__" in node
        return {
            key: _NO_ADDRESS
            if key == _ADDRESS
            else self._name(item)
            if marked and key == "file" and isinstance(item, str)
            else self.renamed(item)
            for key, item in node.items()
            if not (marked and key == "__id__")
        }

    def _name(self, before: str) -> str:
        content = self._source.read(before)
        if before.endswith(".npy"):
            content = _cleared_npy(content)
        digest = digest_bytes(content)
        if digest not in self._names:
            self._names[digest] = f"{len(self._names) + 1}.{before.rpartition('.')[2]}"
            self.contents[self._names[digest]] = content
        return self._names[digest]


def _cleared_npy(content: bytes) -> bytes:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    clean = cleared(array)
    if clean is array:
        return content
    out = io.BytesIO()
    np.save(out, clean, allow_pickle=False)
    return out.getvalue()
