"""Predictions get the types that a serve function declares, whatever releases the rows came from."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Literal

import msgspec
import polars as pl
import pytest

from penstock import Row
from penstock.serving.predictions.exploding import Row as Answered
from penstock.serving.predictions.records import LogEntry
from penstock.serving.predictions.tables import frame_of
from penstock.serving.predictions.typed import Shape, dtype_of, typed_frame

NOW = datetime(2024, 5, 1, tzinfo=UTC)


class Movie(Row):
    movie_id: int
    title: str
    score: float


@dataclass
class Point:
    x: float
    tags: list[str]


class Colour(Enum):
    RED = "red"


MOVIES = pl.List(pl.Struct({"movie_id": pl.Int64(), "title": pl.String(), "score": pl.Float64()}))


@pytest.mark.parametrize(
    ("annotation", "dtype"),
    [
        (int, pl.Int64()),
        (float | int, pl.Float64()),
        (bool | None, pl.Boolean()),
        (list[Movie], MOVIES),
        (tuple[int, ...], pl.List(pl.Int64())),
        (Point, pl.Struct({"x": pl.Float64(), "tags": pl.List(pl.String())})),
        (Literal["a", "b"], pl.String()),
        (Colour, pl.String()),
        (datetime, pl.String()),
        (Any, None),
        (dict[str, int], None),
        (int | str, None),
        (pl.DataFrame, None),
    ],
)
def test_an_annotation_is_a_column_type(annotation: object, dtype: pl.DataType | None) -> None:
    """What JSON makes of an annotated type is known without looking at values; what is open is None."""
    assert dtype_of(annotation) == dtype


def rows(*answers: tuple[str, str, str]) -> pl.DataFrame:
    made = []
    for n, (serve, fields, answer) in enumerate(answers):
        entry = LogEntry(id=f"p{n}", at=NOW, release="m@1", serve=serve, fields=msgspec.Raw(fields.encode()))
        made.append(Answered(entry.id, entry, entry.fields, msgspec.Raw(answer.encode())))
    return frame_of(made)


def test_fields_become_columns_and_the_answer_its_type() -> None:
    """Missing fields are null, unknown ones of older releases are left out."""
    raw = rows(
        ("recommend", '{"user_id":7,"k":2}', '[{"movie_id":1,"title":"a","score":1}]'),
        ("recommend", '{"user_id":8,"old":true}', "[]"),
    )
    found = typed_frame(raw, {"recommend": Shape({"user_id": pl.Int64(), "k": pl.Int64()}, MOVIES)})
    assert found.schema["answer"] == MOVIES
    assert found.select("user_id", "k").rows() == [(7, 2), (8, None)]
    assert "old" not in found.columns
    assert found["answer"].to_list() == [[{"movie_id": 1, "title": "a", "score": 1.0}], []]


def test_answers_of_an_older_form_get_the_type_they_show() -> None:
    """A release that answered otherwise is no reason to fail."""
    raw = rows(("f", '{"n":1}', '{"a":1}'), ("f", '{"n":"x"}', '{"a":2}'))
    found = typed_frame(raw, {"f": Shape({"n": pl.Int64()}, pl.List(pl.Int64()))})
    assert found["answer"].to_list() == [{"a": 1}, {"a": 2}]
    assert found["n"].to_list() == [1, None]


def test_fields_that_have_the_name_of_a_column_are_renamed() -> None:
    """`key` and `at` of a request do not hide those of the prediction."""
    found = typed_frame(
        rows(("f", '{"key":"a","n":1}', "1")), {"f": Shape({"key": pl.String(), "n": pl.Int64()}, None)}
    )
    assert found.select("key", "key_field", "n", "answer").rows() == [("", "a", 1, 1)]


def test_functions_of_unlike_answers_give_text() -> None:
    """Two serve functions share the frame; where one column cannot hold both kinds of answers they stay JSON."""
    raw = rows(("f", '{"n":1}', "[1,2]"), ("g", '{"m":"x"}', '"yes"'))
    shapes = {"f": Shape({"n": pl.Int64()}, pl.List(pl.Int64())), "g": Shape({"m": pl.String()}, pl.String())}
    found = typed_frame(raw, shapes)
    assert found.select("n", "m", "answer").rows() == [(1, None, "[1,2]"), (None, "x", '"yes"')]


def test_no_predictions_have_the_same_columns() -> None:
    """An outcome function may count on its columns when nobody has asked yet."""
    found = typed_frame(rows(), {"f": Shape({"n": pl.Int64()}, MOVIES)})
    assert (found.height, found.schema["n"], found.schema["answer"]) == (0, pl.Int64(), MOVIES)
