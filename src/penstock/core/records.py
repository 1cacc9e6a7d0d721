"""Records the platform writes: frozen, plain, the same as JSON in the ledger, in manifests and between processes."""

from datetime import datetime
from typing import Any

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen record; change it by `msgspec.structs.replace`."""


class Artifact(Record, frozen=True, kw_only=True):
    """Immutable bytes by digest, and how to read them.

    Attributes:
        digest: BLAKE3 of the bytes (of the tree listing when several files were written).
        codec: Name of the codec that wrote it and reads it, as "arrow", "skops", "object".
        type: Python type the value had, as "polars.dataframe.frame:DataFrame".
        size_bytes: Bytes on disk, all files together.
        rows: Number of rows where the value is a frame, table or array.
        meta: What the codec needs to read the bytes and a preview for people (columns and dtypes, shape).
    """

    digest: str
    codec: str
    type: str
    size_bytes: int
    rows: int | None = None
    meta: dict[str, Any] = {}


class DatasetVersion(Record, frozen=True, kw_only=True):
    """One committed intake of a dataset, `ratings@7`.

    Attributes:
        digest: Chained digest of all rows taken in so far; equal data in equal order gives an equal digest.
        table: Where the Delta table lies, relative to the lake's root.
        delta_version: Version of the Delta table that holds exactly these rows.
        rows: Rows readable at this version, before newer rows per key hide older ones.
        rows_added: Rows this intake added.
        rows_quarantined: Rows this intake set aside, with reasons in the quarantine table.
        reasons: Number of rows set aside by reason.
        replaced: Rows of this intake whose key was there already, or came twice within it.
        watermark: What `since` will be at the next intake: largest value of the time column, or the source's cursor.
        schema: (column, dtype) in order, dtypes as polars writes them.
        contract: The contract enforced (nullability, ranges), as plain JSON.
    """

    pipeline: str
    dataset: str
    version: int
    digest: str
    table: str
    delta_version: int
    rows: int
    rows_added: int
    rows_quarantined: int = 0
    reasons: dict[str, int] = {}
    replaced: int = 0
    watermark: Any = None
    schema: tuple[tuple[str, str], ...] = ()
    contract: dict[str, Any] = {}
    taken_at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.dataset}@{self.version}"


class Interval(Record, frozen=True, kw_only=True):
    """A mean with its 95 % confidence interval over `n` examples."""

    mean: float
    low: float
    high: float
    n: int


class CheckResult(Record, frozen=True, kw_only=True):
    """A check and its evidence.

    Attributes:
        name: The user's function, or the name of a built-in check.
        built_in: The platform made it.
        passed: Whether it held.
        message: What was found, in one sentence; for a failed assert, its values.
        evidence: Plain JSON that the message rests on: values, counts, digests, intervals.
    """

    name: str
    passed: bool
    message: str
    built_in: bool = False
    evidence: dict[str, Any] = {}


class Failure(Record, frozen=True, kw_only=True):
    """Why an attempt did not succeed, in words a person can act on.

    Attributes:
        kind: "exception", "timeout", "memory", "signal", "exit", "crash", "lost", "cancelled", "refused",
            "damaged", "store", "check"; the code of the error where a run as a whole failed.
        message: What happened.
        traceback: The user's own frames, as text; empty when there are none.
        hint: The next action.
    """

    kind: str
    message: str
    traceback: str = ""
    hint: str = ""


class Usage(Record, frozen=True, kw_only=True):
    """What an attempt used."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0


class Owner(Record, frozen=True, kw_only=True):
    """A process that holds a lease.

    Attributes:
        start: Start time of the process in clock ticks since boot, so a recycled pid is not mistaken for it.
    """

    host: str
    boot: str
    pid: int
    start: int
