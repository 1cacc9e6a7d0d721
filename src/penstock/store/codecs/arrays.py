"""NumPy arrays and SciPy sparse matrices: plain `.npy` bytes, mapped back copy-on-write.

Belongs here: arrays of numbers, times and fixed-length text. Arrays of Python objects would need pickle: refused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy

from penstock.core.errors import DamagedError
from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs.codec import (
    Listing,
    class_reference,
    library,
    load_listing,
    resolve_class,
    save_listing,
    type_name,
    unsupported,
)

# Compressed by row, column or block; coordinates; diagonals. Others are converted by whoever needs them.
_SPARSE_FIELDS = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "coo": ("data", "row", "col"),
    "dia": ("data", "offsets"),
}


@dataclass(frozen=True, slots=True)
class ArrayCodec:
    """Keeps NumPy arrays and scalars."""

    name: str = "numpy"
    is_listing: bool = False

    def matches(self, value: object) -> bool:
        """Whether `value` is an array or a NumPy scalar."""
        return isinstance(value, np.ndarray | np.generic)

    def save(self, value: Any, blobs: Blobs) -> Artifact:
        """Write the array as `.npy`, in the order it has in memory."""
        if isinstance(value, np.ndarray) and type(value) not in {np.ndarray, np.memmap}:
            raise unsupported(value, "subclasses of ndarray hold more than numbers", hint="return a plain array")
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise unsupported(value, "an array of Python objects would need pickle", hint="use a frame, or a list")
        with blobs.sink() as sink:
            sink.reserve(array.nbytes)
            npy.write_array_header_2_0(sink, npy.header_data_from_array_1_0(array))
            by_column = array.flags.f_contiguous and not array.flags.c_contiguous
            flat = np.ascontiguousarray(cleared(array.T if by_column else array)).reshape(-1)
            if flat.nbytes:
                sink.write(flat.view(np.uint8).data)  # as bytes, because times have no buffer of their own
            digest = blobs.keep(sink)
            size = sink.size_bytes
        kind = np.ndarray if isinstance(value, np.ndarray) else type(value)
        meta = {"dtype": str(array.dtype), "shape": list(array.shape), "scalar": isinstance(value, np.generic)}
        rows = array.shape[0] if array.ndim else None
        return Artifact(digest=digest, codec=self.name, type=type_name(kind), size_bytes=size, rows=rows, meta=meta)

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Map the array; writing to it changes memory, never the file."""
        del form
        path = blobs.check(artifact.digest)
        try:
            array = np.load(path, mmap_mode="c" if artifact.size_bytes > _MAPPED_BYTES else None, allow_pickle=False)
        except ValueError as error:
            raise DamagedError(
                f"Blob {artifact.digest} is not a readable array: {error}.", hint="run the pipeline again"
            ) from error
        return array[()] if artifact.meta.get("scalar") else array.view(np.ndarray)


_MAPPED_BYTES = 1 << 16


def cleared(array: Any) -> Any:
    """Return an equal array whose gaps between fields are zero; the same one where there are no gaps."""
    names = array.dtype.names
    if names is None or array.dtype.itemsize == sum(array.dtype[name].itemsize for name in names):
        return array
    clean = np.zeros(array.shape, array.dtype)
    for name in names:
        clean[name] = array[name]
    return clean


@dataclass(frozen=True, slots=True)
class SparseCodec:
    """Keeps SciPy sparse matrices and arrays as their component arrays.

    Args:
        arrays: Keeps the components.
    """

    arrays: ArrayCodec
    name: str = "sparse"
    is_listing: bool = True

    def matches(self, value: object) -> bool:
        """Whether `value` is one of SciPy's sparse matrices."""
        return library(type(value)) == "scipy" and hasattr(value, "format") and hasattr(value, "nnz")

    def save(self, value: Any, blobs: Blobs) -> Artifact:
        """Keep shape and components."""
        fields = _SPARSE_FIELDS.get(value.format)
        if fields is None:
            raise unsupported(value, f"format {value.format!r} is for building", hint="convert it with .tocsr()")
        parts = tuple(self.arrays.save(getattr(value, name), blobs) for name in fields)
        listing = Listing(value={"class": class_reference(type(value)), "shape": list(value.shape)}, parts=parts)
        meta = {"dtype": str(value.dtype), "shape": list(value.shape), "stored": int(value.nnz)}
        return save_listing(self.name, value, listing, blobs, meta=meta)

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Put the components together without a copy."""
        listing = load_listing(artifact, blobs)
        kind: Any = resolve_class(listing.value["class"])
        data, *places = (self.arrays.load(part, blobs, form) for part in listing.parts)
        shape = tuple(listing.value["shape"])
        if kind.__name__.startswith("coo"):
            return kind((data, tuple(places)), shape=shape)
        return kind((data, *places), shape=shape)
