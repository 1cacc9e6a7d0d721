"""The demonstration: the movies example in a project of its own, with its sample or with real ratings."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import polars as pl

from penstock.core.errors import DataError, NotFoundError, StepError, StoreError
from penstock.core.records import Record
from penstock.project.scaffold import new_project
from penstock.project.workspace import Workspace

PIPELINE = "movies"
DIRECTORY = "demo-movies"
_TABLES = {"ratings": ("ratings",), "titles": ("titles", "movies")}
_READERS = (PIPELINE, "als")  # every pipeline of the example that reads them
_KINDS = ("parquet", "csv")
_TIMEOUT_S = 30.0


class Stage(Record, frozen=True, kw_only=True):
    """Where the demonstration takes place.

    Attributes:
        is_new: False when an earlier one left it there.
        tables: File behind each dataset.
    """

    directory: str
    is_new: bool
    tables: dict[str, str]


class Viewer(Record, frozen=True, kw_only=True):
    """Somebody to recommend to; `rated` is how many titles they rated, 0 for a stranger."""

    user_id: int
    rated: int


class Recommended(Record, frozen=True, kw_only=True):
    """What the server answered."""

    viewer: Viewer
    prediction_id: str
    release: str
    answer: list[dict[str, Any]]
    fallback: bool


def directory_for(data: Path | None) -> Path:
    """Return the directory for a demonstration: one for the sample, one for each directory of real data."""
    return Path(DIRECTORY) if data is None else Path(f"{DIRECTORY}-{data.resolve().name}")


def set_up(directory: Path, data: Path | None) -> Stage:
    """Make the project unless an earlier demonstration left it, and see that its data is there.

    Args:
        directory: The project.
        data: Directory with ratings and titles (or movies) as parquet or CSV; None for the built-in sample.

    Raises:
        InputError: The directory holds something else, or `data` lacks a table.
        StepError: The sample could not be written.
    """
    tables = None if data is None else find_tables(data)
    is_new = not (directory / "penstock.toml").is_file()
    if is_new:
        new_project(PIPELINE, directory)
    if tables is None:
        tables = {name: directory / "data" / f"{name}.parquet" for name in _TABLES}
        if not all(path.is_file() for path in tables.values()):
            _write_sample(directory)
    elif is_new:
        _say_where(directory / "penstock.toml", tables)
    return Stage(directory=str(directory), is_new=is_new, tables={name: str(path) for name, path in tables.items()})


def find_tables(data: Path) -> dict[str, Path]:
    """Return the file of each dataset in a directory, absolute.

    Raises:
        NotFoundError: A table is not there; names what was looked for.
    """
    found: dict[str, Path] = {}
    for dataset, names in _TABLES.items():
        wanted = [f"{name}.{kind}" for name in names for kind in _KINDS]
        there = [data / name for name in wanted if (data / name).is_file()]
        if not there:
            raise NotFoundError(
                f"{str(data)!r} holds no {dataset}.", hint=f"put one of {', '.join(wanted)} there; see README.md"
            )
        found[dataset] = there[0].resolve()
    return found


def viewers(workspace: Workspace, count: int = 2) -> list[Viewer]:
    """Return `count` people of the data, the most active first, and a stranger.

    Raises:
        DataError: No ratings were taken in.
    """
    table = workspace.lake.table(PIPELINE, "ratings")
    latest = table.latest()
    if latest is None:
        raise DataError("No ratings were taken in.", hint="see penstock runs")
    rated = table.scan(latest).group_by("user_id").agg(pl.len().alias("rated")).collect()
    ranked = rated.sort(["rated", "user_id"], descending=[True, False])
    places = [0, *(ranked.height // 2**power for power in range(count, 1, -1))]
    known = [Viewer(user_id=ranked["user_id"][place], rated=ranked["rated"][place]) for place in places[:count]]
    last: Any = ranked["user_id"].max()
    return [*known, Viewer(user_id=int(last) + 1, rated=0)]


def ask(url: str, people: Sequence[Viewer], *, count: int = 5) -> list[Recommended]:
    """Ask a server for recommendations over HTTP.

    Raises:
        StoreError: It does not answer.
        StepError: It answers with an error.
    """
    found = []
    with httpx.Client(base_url=url, timeout=_TIMEOUT_S) as client:
        for viewer in people:
            try:
                reply = client.post(f"/{PIPELINE}/recommend", json={"user_id": viewer.user_id, "k": count})
            except httpx.HTTPError as error:
                raise StoreError(f"{url} does not answer: {error}.", hint="run the demo again") from error
            if reply.status_code != httpx.codes.OK:
                raise StepError(f"{url} answered {reply.status_code}: {reply.text[:500]}")
            body = reply.json()
            found.append(
                Recommended(
                    viewer=viewer,
                    prediction_id=body["prediction_id"],
                    release=body["release"],
                    answer=body["answer"],
                    fallback=body.get("fallback", False),
                )
            )
    return found


def _write_sample(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "sample.py", "data"], cwd=directory, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise StepError(f"{done.stderr}The sample could not be written.", hint=f"run it: python {directory}/sample.py")


def _say_where(settings: Path, tables: dict[str, Path]) -> None:
    # A JSON string is a TOML string. In the file, so that a plain `penstock run` there finds the data too.
    lines = "".join(f'"{name}.path" = {msgspec.json.encode(str(path)).decode()}\n' for name, path in tables.items())
    with settings.open("a", encoding="utf-8") as file:
        file.writelines(f"\n[{pipeline}.params]  # where your data lies\n{lines}" for pipeline in _READERS)
