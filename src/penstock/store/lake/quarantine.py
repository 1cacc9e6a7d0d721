"""Rows set aside: a Delta table beside the dataset, with the reason, the intake and the row as it came.

The commit of an intake names its quarantine file, so a row set aside counts exactly when the intake does. The
quarantine's own log follows after; `settle` brings it up to date when a process died between the two.
"""

from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from deltalake import DeltaTable

from penstock.store.lake.contract import REASON
from penstock.store.lake.files import finish_part
from penstock.store.lake.log import Facts, Part, commit, commit_paths, facts_newest_first

FOLDER = "_quarantine"
_SCHEMA = pl.Schema({REASON: pl.String(), "_intake": pl.Int64(), "_row": pl.String()})


class QuarantineWriter:
    """Writes the rows one intake sets aside, and counts them by reason.

    Args:
        directory: The dataset's table.
        stem: Name of the file, without its ending.
        intake: Number of the intake.
    """

    def __init__(self, directory: Path, stem: str, intake: int) -> None:
        self._directory = directory / FOLDER
        self._name = f"{stem}.parquet"
        self._intake = intake
        self._writer: pq.ParquetWriter | None = None
        self.reasons: dict[str, int] = {}

    @property
    def rows(self) -> int:
        """Rows set aside so far."""
        return sum(self.reasons.values())

    def write(self, original: pl.DataFrame, reasons: pl.Series) -> None:
        """Set aside the rows of `original`, each with its reason."""
        if not original.height:
            return
        for reason, count in reasons.value_counts().sort(REASON).rows():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        numbers = pl.repeat(self._intake, original.height, dtype=pl.Int64(), eager=True).alias("_intake")
        frame = pl.DataFrame([reasons, numbers, as_json(original)])
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            self._directory.mkdir(exist_ok=True)
            self._writer = pq.ParquetWriter(self._directory / self._name, table.schema, compression="zstd")
        self._writer.write_table(table)

    def finish(self) -> Part | None:
        """Close and sync the file; None when nothing was set aside."""
        if self._writer is None:
            return None
        self._writer.close()
        self._writer = None
        return finish_part(self._directory, self._name, self.rows)

    def discard(self) -> None:
        """Remove what was written, after an error."""
        if self._writer is not None:
            self._writer.close()
        (self._directory / self._name).unlink(missing_ok=True)


def as_json(frame: pl.DataFrame) -> pl.Series:
    """Return each row as JSON text, the form in which rows are set aside."""
    changes = []
    for name, dtype in frame.schema.items():
        if dtype.is_float() and not frame[name].is_finite().all():
            changes.append(pl.col(name).cast(pl.String()))  # JSON has no NaN
        elif isinstance(dtype, pl.Binary):
            changes.append(pl.col(name).bin.encode("hex"))
        elif isinstance(dtype, pl.Decimal | pl.Duration | pl.Categorical | pl.Enum):
            changes.append(pl.col(name).cast(pl.String()))
    readable = frame.with_columns(changes)
    return readable.select(pl.struct(pl.all()).struct.json_encode().alias("_row")).to_series()


def read(directory: Path, facts: Iterable[Facts]) -> pl.LazyFrame:
    """Return the rows set aside by committed intakes, oldest first."""
    parts = sorted(_parts(facts).values(), key=lambda part: part.name)
    if not parts:
        return pl.LazyFrame(schema=_SCHEMA)
    return pl.scan_parquet([directory / FOLDER / part.name for part in parts], glob=False)


def _parts(facts: Iterable[Facts]) -> dict[str, Part]:
    return {fact.quarantine.name: fact.quarantine for fact in facts if fact.quarantine is not None}


def settle(directory: Path) -> None:
    """Add to the quarantine's log each file a committed intake names and the log lacks; the lock is held."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return
    wanted = _parts(facts_newest_first(directory))
    if commit_paths(folder):
        known = pl.DataFrame(DeltaTable(folder).get_add_actions(flatten=True))["path"].to_list()
        wanted = {name: part for name, part in wanted.items() if name not in set(known)}
    if wanted:
        commit(folder, _SCHEMA, None, add=sorted(wanted.values(), key=lambda part: part.name))
