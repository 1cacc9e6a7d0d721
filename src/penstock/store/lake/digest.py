"""The digest of rows: equal rows in equal order give an equal digest, however they came in batches.

Each column feeds its own running BLAKE3 with bytes that simply follow one another (values, lengths, places of nulls),
so where a batch ends leaves no trace. Nothing here knows files.
"""

from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from penstock.core.digest import canonical_json, digest_bytes
from penstock.store.lake.dtypes import Schema


class _Column:
    """The running digest of one column, or of the values inside its lists or structs."""

    __slots__ = ("children", "hasher", "nulls", "seen")

    def __init__(self) -> None:
        self.hasher = blake3()
        self.nulls: blake3 | None = None
        self.children: dict[str, _Column] = {}
        self.seen = 0

    def child(self, name: str) -> "_Column":
        return self.children.setdefault(name, _Column())

    def feed(self, array: pa.Array) -> None:
        if array.null_count:
            places = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)) + self.seen
            self.nulls = self.nulls or blake3()
            self.nulls.update(places.astype("<i8").view(np.uint8).data)
        self.seen += len(array)
        kind = array.type
        if pa.types.is_struct(kind):
            for index in range(kind.num_fields):
                self.child(kind.field(index).name).feed(pc.struct_field(array, index))
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._feed_lengths(pc.list_value_length(array))
            self.child("item").feed(array.flatten())
        elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
            self._feed_bytes(array)
        else:
            self._feed_values(array)

    def _feed_lengths(self, lengths: pa.Array) -> None:
        counts = lengths.fill_null(0).to_numpy(zero_copy_only=False).astype("<i8")
        self.hasher.update(counts.view(np.uint8).data)

    def _feed_bytes(self, array: pa.Array) -> None:
        if array.null_count:
            array = array.fill_null("" if pa.types.is_large_string(array.type) else b"")
        offsets = np.frombuffer(array.buffers()[1], dtype="<i8", count=array.offset + len(array) + 1)[array.offset :]
        self.hasher.update(np.diff(offsets).view(np.uint8).data)
        if offsets[-1] > offsets[0]:
            self.child("text").hasher.update(memoryview(array.buffers()[2])[offsets[0] : offsets[-1]])

    def _feed_values(self, array: pa.Array) -> None:
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.uint8())
        if array.null_count:
            array = array.fill_null(_zero(array.type))
        width = array.type.bit_width // 8
        data = memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]
        self.hasher.update(data)

    def digest(self) -> list[object]:
        return [
            self.seen,
            self.hasher.hexdigest(),
            self.nulls.hexdigest() if self.nulls is not None else None,
            [[name, self.children[name].digest()] for name in sorted(self.children)],
        ]


def _zero(kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_decimal(kind):
        return pa.scalar(Decimal(0), kind)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return pa.scalar(0).cast(kind)
    return pa.array([0], pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)[0]


class RowDigest:
    """The digest of rows that arrive in batches, all of one schema and in stored types."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._columns = [_Column() for _ in schema]
        self.rows = 0

    def feed(self, frame: pl.DataFrame) -> None:
        """Add the rows of `frame`, whose columns are those of the schema."""
        for column, series in zip(self._columns, frame.get_columns(), strict=True):
            column.feed(series.to_arrow(compat_level=pl.CompatLevel.oldest()))
        self.rows += frame.height

    def chain(self, before: str) -> str:
        """Return the digest of everything: of `before` followed by these rows."""
        parts = [column.digest() for column in self._columns]
        return digest_bytes(canonical_json([before, self._schema, self.rows, parts]))
