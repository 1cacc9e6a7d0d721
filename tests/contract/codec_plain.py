"""Plain values, objects and classes with save and load that must come back as they were."""

import datetime as dt
import enum
import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from penstock.core.rows import Row


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Popularity:
    counts: pl.DataFrame
    matrix: np.ndarray[Any, Any]
    title: str = "popular"
    nested: dict[str, object] = field(default_factory=dict)


class Movie(Row, frozen=True):
    movie_id: int
    title: str


def popularity() -> Popularity:
    return Popularity(pl.DataFrame({"id": [1, 2], "n": [5, 3]}), np.eye(3), nested={"movie": Movie(7, "Metropolis")})


def plain() -> dict[str, object]:
    return {
        "none": None,
        "huge": 2**5000,
        "floats": [0.1, -0.0, 5e-324, float("inf"), float("-inf")],
        "text": "\ud800 \0 é",
        "bytes": b"\xff",
        "tuple": (1, (2,)),
        "set": {"a", "b", "c", 1},
        "frozen": frozenset({(1, 2)}),
        "keys": {1: "one", (2, 3): "pair", None: 0},
        "dollar": {"$": "tuple", "v": [1]},
        "moment": dt.datetime(2020, 1, 1, 12, tzinfo=ZoneInfo("Europe/Brussels"), fold=1),
        "naive": dt.datetime(2020, 1, 1),  # noqa: DTZ001 -- a value without a zone must come back without one
        "day": dt.date(2020, 2, 29),
        "time": dt.time(1, 2, 3, 4, tzinfo=dt.UTC),
        "span": dt.timedelta(days=-1, microseconds=1),
        "decimal": Decimal("1.10"),
        "uuid": UUID(int=5),
        "complex": complex(1, -0.0),
        "range": range(1, 10, 2),
        "colour": Colour.RED,
        "point": Point(1, 2),
        "rows": [Movie(1, "a"), Movie(2, "b")],
    }


class Words:
    """A class of a user's own that writes one file."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.words))

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(json.loads(path.read_text()))


class Shelf(Words):
    """A class of a user's own that writes a directory."""

    def save(self, path: Path) -> None:
        (path / "deep").mkdir(parents=True)
        (path / "count").write_text(str(len(self.words)))
        for number, word in enumerate(self.words):
            (path / "deep" / f"{number}.txt").write_text(word)

    @classmethod
    def load(cls, path: Path) -> Self:
        count = int((path / "count").read_text())
        return cls([(path / "deep" / f"{number}.txt").read_text() for number in range(count)])


def own_file() -> Words:
    return Words(["a", "b"])


def own_directory() -> Shelf:
    return Shelf(["a", "b", "a"])


def dict_of_arrays() -> dict[str, object]:
    return {"weights": np.ones((2, 3)), "bias": np.zeros(3), "name": "layer"}
