"""Frames as Arrow IPC files: written once, hashed on the way, memory-mapped back without a copy.

Belongs here: the file, its digest and the form a frame is asked for in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from penstock.core.errors import DamagedError
from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs import frames
from penstock.store.codecs.codec import type_name
from penstock.store.codecs.layout import even_batches


@dataclass(frozen=True, slots=True)
class ArrowCodec:
    """Keeps polars, pandas and pyarrow frames, and iterators of them."""

    name: str = "arrow"
    is_listing: bool = False

    def matches(self, value: object) -> bool:
        """Whether `value` is a frame, a series, or an iterator (of frames)."""
        return frames.frame_form(value) is not None

    def save(self, value: object, blobs: Blobs) -> Artifact:
        """Write the rows, batch by batch; memory holds one batch at a time when the value is lazy."""
        stream = frames.to_stream(value)
        rows = 0
        with blobs.sink() as sink:
            with pa.PythonFile(sink, mode="w") as file, pa.ipc.new_file(file, stream.schema) as writer:
                for batch in even_batches(stream.tables, stream.schema):
                    sink.reserve(batch.nbytes)
                    writer.write_batch(batch)
                    rows += batch.num_rows
            digest = blobs.keep(sink)
            size = sink.size_bytes
        meta = {"form": stream.form, "columns": stream.columns}
        return Artifact(
            digest=digest, codec=self.name, type=type_name(type(value)), size_bytes=size, rows=rows, meta=meta
        )

    def load(self, artifact: Artifact, blobs: Blobs, form: str) -> object:
        """Give the frame back in `form`, or as it was; the file is mapped, not read."""
        path = blobs.check(artifact.digest)
        try:
            return _FORMS.get(form, _as_it_was)(path)
        except (pa.ArrowInvalid, pl.exceptions.PolarsError) as error:
            raise DamagedError(
                f"Blob {artifact.digest} is not a readable Arrow file: {error}.", hint="run the pipeline again"
            ) from error


def _mapped(path: Path) -> Any:
    return pa.ipc.open_file(pa.memory_map(str(path)))


def _table(path: Path) -> Any:
    return _mapped(path).read_all()


def _polars(path: Path) -> pl.DataFrame:
    # Over pyarrow's mapping: polars' own reader copies the columns.
    return pl.DataFrame(pl.from_arrow(_table(path), rechunk=False))


def _batches(path: Path) -> Iterator[Any]:
    reader = _mapped(path)
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def _pandas_series(path: Path) -> Any:
    table = _table(path)
    series = frames.pandas_frame(table).iloc[:, 0]
    return series.rename(frames.read_more(table.schema).get("name"))


def _record_batch(path: Path) -> Any:
    table = frames.without_ours(_table(path)).combine_chunks()
    batches = table.to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


_FORMS: dict[str, Any] = {
    "polars": _polars,
    "lazy": pl.scan_ipc,
    "pandas": lambda path: frames.pandas_frame(_table(path)),
    "arrow": lambda path: frames.without_ours(_table(path)),
    "batches": _batches,
}
_SORTS: dict[str, Any] = {
    **_FORMS,
    "series": lambda path: _polars(path).to_series(),
    "pandas_series": _pandas_series,
    "batch": _record_batch,
}


def _as_it_was(path: Path) -> object:
    return _SORTS[frames.read_form(_mapped(path).schema)](path)
