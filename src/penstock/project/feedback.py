"""What people say about predictions, handed over by the file or one by one."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from penstock.core.errors import InputError, StoreError
from penstock.core.records import Record
from penstock.project.workspace import Workspace
from penstock.serving.predictions.feedback import FeedbackLog
from penstock.serving.predictions.reading import count_unknown
from penstock.serving.predictions.truth import Said, Truth, truth_of

_AT_ONCE = 5_000


class Refused(Record, frozen=True, kw_only=True):
    """A piece of feedback that was not taken in; `line` counts from 1."""

    line: int
    message: str


class TakenFeedback(Record, frozen=True, kw_only=True):
    """What came of feedback that was handed over.

    Attributes:
        unknown: Predictions among those accepted that are not kept here: compacted away, or answered elsewhere.
    """

    pipeline: str
    accepted: int
    unknown: int = 0
    refused: tuple[Refused, ...] = ()


def take_feedback(pipeline: str, said: Sequence[Any], workspace: Workspace) -> TakenFeedback:
    """Keep what people say about predictions; it is on the disk when this returns.

    Args:
        pipeline: Whose predictions.
        said: Objects with `prediction_id`, `value` and, if need be, `name` and `at`; plain values.
        workspace: The project.

    Raises:
        StoreError: The disk is full; what is on it by then counts, and may be handed over again.
    """
    now = workspace.clock.now()
    read = [_read(item, line, now) for line, item in enumerate(said, start=1)]
    truths = [found for found in read if isinstance(found, Truth)]
    log = FeedbackLog(workspace.home, pipeline, worker=f"cli-{os.getpid()}", clock=workspace.clock)
    try:
        for start in range(0, len(truths), _AT_ONCE):
            if not log.write(truths[start : start + _AT_ONCE]):
                raise StoreError("Feedback cannot be written.", hint="free space on the disk, then hand it over again")
    finally:
        log.close()
    refused = tuple(found for found in read if isinstance(found, Refused))
    unknown = count_unknown(workspace.home, pipeline, [truth.prediction_id for truth in truths])
    return TakenFeedback(pipeline=pipeline, accepted=len(truths), unknown=unknown, refused=refused)


def read_feedback_file(path: Path) -> list[Any]:
    """Return the objects in a file: a JSON list, JSON lines, CSV or parquet.

    Raises:
        InputError: The file cannot be read as what its name says.
    """
    try:
        match path.suffix:
            case ".json":
                found = msgspec.json.decode(path.read_bytes())
                return found if isinstance(found, list) else [found]
            case ".jsonl" | ".ndjson":
                return [msgspec.json.decode(line) for line in path.read_bytes().splitlines() if line.strip()]
            case ".csv" | ".parquet":
                return _read_table(path)
    except (OSError, msgspec.DecodeError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read: {error}.", hint="see docs/how-to/bring-the-truth-back.md") from error
    raise InputError(f"{path} is of no known kind.", hint="name it .json, .jsonl, .csv or .parquet")


def _read(item: Any, line: int, received_at: datetime) -> Truth | Refused:
    try:
        return truth_of(msgspec.convert(item, Said), received_at)
    except msgspec.ValidationError as error:
        return Refused(line=line, message=f"{error}.")
    except InputError as error:
        return Refused(line=line, message=str(error))


def _read_table(path: Path) -> list[Any]:
    found = pl.read_csv(path, infer_schema_length=None) if path.suffix == ".csv" else pl.read_parquet(path)
    known = [name for name in Said.__struct_fields__ if name in found.columns]
    # An empty cell says nothing: the default stands.
    return [{name: value for name, value in row.items() if value is not None} for row in found[known].to_dicts()]
