"""Which recorded requests are asked again: the newest, by chance where there are more, the same ones each time."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import polars as pl

from penstock.core.digest import digest_bytes
from penstock.project.workspace import Workspace
from penstock.releases.replay.compare import ANSWER, Chosen
from penstock.releases.replay.records import Recorded
from penstock.serving.predictions.reading import predictions_frame
from penstock.serving.predictions.schemas import PREDICTIONS_SCHEMA
from penstock.serving.predictions.typed import COLUMNS, typed_frame

_ID = "prediction_id"
# So many of the newest requests, for each that is asked, are chosen from: the very newest may all be of one caller.
_POOL = 10
# Beside its fields, what is known of a request that has to do with who asks it and how.
_NOT_ABOUT = (_ID, "at", "release", "fallback", "key", ANSWER)
_OF_KEY = "requests of its key"


def choose_requests(pipeline: str, workspace: Workspace, *, most: int, since: datetime | None = None) -> Chosen:
    """Return recorded requests, in the order of the hashes of their ids.

    Of a request for several rows, each row is one. What was replayed until any moment is a sample by chance, too.

    Args:
        pipeline: Whose.
        workspace: The project.
        most: How many are asked again at most.
        since: Only those asked at this time or later, however many; by default ten times `most`, the newest.
    """
    found = predictions_frame(workspace.home, pipeline, since=since)
    pool = found.select(_ID, "at", "redacted")
    if since is None:
        pool = pool.sort("at", _ID, descending=True).head(_POOL * most)
    known = pool.collect(engine="streaming")
    whole = known.filter(pl.col("redacted") == "")
    hashed = sorted(whole[_ID].to_list(), key=lambda one: digest_bytes(one.encode()))
    # The time alone tells which files of the lake need not be read.
    rows = _rows(found.filter(pl.col("at") >= whole["at"].min()) if hashed else found, hashed[:most])
    readable = rows.filter(pl.col("fields").str.starts_with("{"))
    left_out = Counter(f"policy redacted {', '.join(names.split(','))}" for names in known["redacted"] if names)
    left_out["the rows it asked about cannot be read again"] = rows.height - readable.height
    return Chosen(
        requests=tuple(_recorded(row) for row in readable.iter_rows(named=True)),
        columns=_columns(readable),
        recorded=known.height,
        left_out={reason: count for reason, count in left_out.most_common() if count},
    )


def _rows(found: pl.LazyFrame, wanted: Sequence[str]) -> pl.DataFrame:
    order = pl.DataFrame({_ID: wanted, "order": range(len(wanted))}, schema={_ID: pl.String, "order": pl.Int64})
    if not wanted:
        return pl.DataFrame(schema=PREDICTIONS_SCHEMA)
    rows = found.filter(pl.col(_ID).is_in(wanted)).collect(engine="streaming")
    return rows.join(order, on=_ID, how="inner").sort("order").drop("order")


def _recorded(row: dict[str, Any]) -> Recorded:
    return Recorded(
        prediction_id=row[_ID],
        at=row["at"],
        release=row["release"],
        serve=row["serve"],
        fields=msgspec.Raw(row["fields"].encode()),
        answer=msgspec.Raw(row["answer"].encode()),
        is_own=row["error"] is None and not row["fallback"],
    )


def _columns(rows: pl.DataFrame) -> pl.DataFrame:
    """Return what requests can be sliced by: their fields, function, caller, and how often the same key asks."""
    if rows.is_empty():
        return pl.DataFrame()
    typed = rows.select(_ID).join(_typed(rows), on=_ID, how="left", maintain_order="left")
    count = pl.len().over("key")
    often = pl.when(count == 1).then(pl.lit("1")).when(count < 5).then(pl.lit("2 to 4")).otherwise(pl.lit("5 or more"))
    keyed = pl.when(pl.col("key") != "").then(often).alias(_OF_KEY)
    return typed.with_columns(keyed).drop(*_NOT_ABOUT, strict=False)


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    bare = rows.with_columns(pl.lit("null").alias(ANSWER))
    try:
        return typed_frame(bare, {})
    except pl.exceptions.PolarsError:  # a field of one function has the name of another's, and values of another kind
        parts = [typed_frame(part, {}) for part in bare.partition_by("serve")]
        return pl.concat(
            [part.rename({n: f"{part['serve'][0]}.{n}" for n in part.columns if n not in COLUMNS}) for part in parts],
            how="diagonal",
        ).drop(pl.selectors.ends_with(f".{ANSWER}"))
