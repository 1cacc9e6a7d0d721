"""Every route is asked what its own OpenAPI document allows and what it does not."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.serving.limits import Limits
from penstock.serving.processes.background import start
from penstock.serving.processes.supervisor import ServeOptions
from serving_release import make_node, make_release

CODE = '''
import datetime
import enum
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
import polars as pl

from penstock.core.rows import Row


class Genre(enum.Enum):
    DRAMA = "drama"
    COMEDY = "comedy"


@dataclass
class Filter:
    genre: Genre
    years: tuple[int, int] | None = None


class Movie(Row):
    movie_id: int
    title: str
    score: float | None


def plain(*, user_id: int, weight: float, name: str, seen: bool) -> list[Movie]:
    """Movies for a user."""
    return [Movie(movie_id=1, title=name, score=weight)]


def nested(*, wanted: list[Filter], mode: Literal["fast", "good"] = "fast", tags: dict[str, int] = {}) -> dict:
    return {"wanted": len(wanted), "tags": len(tags)}


def bounded(*, k: Annotated[int, msgspec.Meta(ge=1, le=100)], at: datetime.datetime | None = None) -> list[int]:
    return list(range(k))


def anything(*, value: object) -> bool:
    return value is None


def rows(*, rows: pl.DataFrame) -> list[int]:
    return [1] * len(rows)


def numbers(*, rows: np.ndarray) -> np.ndarray:
    return (rows > 0).sum(axis=1)
'''
FIELDS = {
    "plain": {"user_id": "int", "weight": "float", "name": "str", "seen": "bool"},
    "nested": {"wanted": "list", "mode": "str", "tags": "dict"},
    "bounded": {"k": "int", "at": "datetime"},
    "anything": {"value": "object"},
    "rows": {"rows": "polars.DataFrame"},
    "numbers": {"rows": "numpy.ndarray"},
}
PATHS = [f"/movies/{name}" for name in FIELDS]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("home")
    nodes = tuple(make_node(name, "serve", fields) for name, fields in FIELDS.items())
    release = make_release(home, 1, CODE, nodes=nodes)
    options = ServeOptions(
        pipeline="movies", home=home, current_release=lambda: release, port=0, limits=Limits(linger_s=0.2)
    )
    with start(options) as server:
        yield schemathesis.openapi.from_url(server.url + "/openapi.json")


def statuses_of(operation: Any, mode: GenerationMode) -> set[int]:
    """Ask an operation many times, check each reply by the document, and return the statuses that came."""
    seen: set[int] = set()

    @settings(max_examples=40, deadline=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case[Any]) -> None:
        # JSON Schema cannot say all that is refused: 1.0 for a whole number, NUL, rows that differ in their fields.
        reply = case.call_and_validate(timeout=20, excluded_checks=[positive_data_acceptance, negative_data_rejection])
        seen.add(reply.status_code)

    check()
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_route_fails_or_answers_otherwise_than_its_document_says(api: Any, mode: GenerationMode) -> None:
    """No 5xx, no undocumented status, type or shape, whatever is sent; what breaks the document is refused."""
    operations = [found.ok() for found in api.get_all_operations()]
    if mode is GenerationMode.NEGATIVE:  # a request without a body or parameters cannot break its description
        operations = [operation for operation in operations if list(operation.body)]
    statuses = {operation.path: statuses_of(operation, mode) for operation in operations}
    assert set(PATHS) <= set(statuses)
    if mode is GenerationMode.POSITIVE:
        assert all(200 in statuses[path] for path in PATHS)
    else:
        assert all(400 <= status < 500 for path in PATHS for status in statuses[path])
