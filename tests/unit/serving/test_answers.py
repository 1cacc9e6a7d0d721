"""Answers become valid JSON or a defined error."""

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from penstock.core.rows import Row
from penstock.serving.program.answers import encode_answer
from penstock.serving.refusals import AnswerError


class Movie(Row, frozen=True):
    title: str
    score: float | None


@dataclass
class Pair:
    a: int
    b: Any


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Movie("Metropolis", 0.5), {"title": "Metropolis", "score": 0.5}),
        ([Movie("M", None)], [{"title": "M", "score": None}]),
        (Pair(1, Pair(2, None)), {"a": 1, "b": {"a": 2, "b": None}}),
        ([np.int64(3), np.float32(0.5), np.float64(0.25), np.bool_(1)], [3, 0.5, 0.25, True]),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (pl.DataFrame({"a": [1], "d": [date(2024, 2, 29)]}), [{"a": 1, "d": "2024-02-29"}]),
        (pl.Series([1, None]), [1, None]),
        (pa.table({"a": [1, 2]}), [{"a": 1}, {"a": 2}]),
        (None, None),
        ("null", "null"),
    ],
)
def test_what_serve_functions_return_is_sent_as_json(value: object, expected: object) -> None:
    """Rows, dataclasses, arrays and frames need no code of the user's."""
    assert json.loads(encode_answer(value)) == expected


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (float("nan"), "answer"),
        ({"a": [1.0, float("inf")]}, r"answer\.a\[1\]"),
        ([Movie("M", float("nan"))], r"answer\[0\]\.score"),
        (np.array([np.nan]), r"answer\[0\]"),
        (pl.DataFrame({"a": [float("-inf")]}), r"answer\[0\]\.a"),
        (np.float32("nan"), "answer"),
    ],
)
def test_nan_and_infinity_are_errors_that_name_their_place(value: object, place: str) -> None:
    """JSON has no such numbers; sending null in their place would be another answer."""
    with pytest.raises(AnswerError, match=place):
        encode_answer(value)


@pytest.mark.parametrize("value", ["\ud800", object(), {1: {2: lambda: None}}, 1j])
def test_what_json_cannot_show_is_an_error(value: object) -> None:
    """A type without a JSON form is named."""
    with pytest.raises(AnswerError, match="cannot be sent as JSON"):
        encode_answer(value)
