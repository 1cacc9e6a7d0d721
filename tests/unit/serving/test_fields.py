"""Requests are parsed into typed fields, or refused with the field's path."""

import polars as pl
import pytest

from penstock.core.errors import UnsupportedError
from penstock.serving.limits import Limits
from penstock.serving.program.fields import Fields, make_fields
from penstock.serving.refusals import RequestError


def recommend(titles: object, *, user_id: int, k: int = 10, tags: list[str] = [], note: object = None) -> None:  # noqa: B006  # as a user may write it
    pass


def score(model: object, *, rows: pl.DataFrame) -> None:
    pass


def strange(*, value: Limits | Fields) -> None:
    pass


@pytest.fixture
def fields() -> Fields:
    return make_fields("recommend", recommend, Limits(depth=8))


@pytest.fixture
def rows() -> Fields:
    return make_fields("score", score, Limits(rows=3))


def test_only_parameters_after_the_star_are_fields_and_defaults_fill_in(fields: Fields) -> None:
    """The rule of the star holds for requests."""
    parsed = fields.parse(b'{"user_id": 7}')
    assert parsed.__struct_fields__ == ("user_id", "k", "tags", "note")
    assert [getattr(parsed, name) for name in parsed.__struct_fields__] == [7, 10, [], None]


POISON = [
    (b"", 400, ""),
    (b"{", 400, ""),
    (b"nonsense", 400, ""),
    (b"\xff\xfe", 400, ""),
    (b'{"user_id": NaN}', 400, ""),
    (b'{"user_id": 1}{"user_id": 1}', 400, ""),
    (b'{"user_id": 1, "note": "\\ud800"}', 400, ""),
    (b'{"user_id": 1, "note": "\\udc00x"}', 400, ""),
    (b'{"user_id": 1, "note": "\x00"}', 400, ""),
    (b"[]", 422, ""),
    (b"null", 422, ""),
    (b"{}", 422, "user_id"),
    (b'{"user_id": "7"}', 422, "user_id"),
    (b'{"user_id": 7.5}', 422, "user_id"),
    (b'{"user_id": true}', 422, "user_id"),
    (b'{"user_id": 1, "usr": 2}', 422, "usr"),
    (b'{"user_id": 1, "tags": ["a", 2]}', 422, "tags[1]"),
    (b'{"user_id": 1180591620717411303424}', 422, "user_id"),
    (b'{"user_id": 1, "note": {"a": [1, -9223372036854775809]}}', 422, "note.a[1]"),
    (b'{"user_id": 1, "note": 1e400}', 422, "note"),
    (b'{"user_id": 1, "user_id": 2}', 422, "user_id"),
    (b'{"user_id": 1, "\\u0075ser_id": 2}', 422, "user_id"),
    (b'{"user_id": 1, "note": {"a": 1, "a": 2}}', 422, "a"),
    (b'{"user_id": 1, "note": "a\\u0000b"}', 422, "note"),
    (b'{"user_id": 1, "note": ' + b"[" * 9 + b"]" * 9 + b"}", 422, ""),
    (b'{"user_id": 1, "note": ' + b"[" * 100_000, 422, ""),
    (b'{"user_id": 1' + b"0" * 5000 + b"}", 422, "user_id"),
]


@pytest.mark.parametrize(("body", "status", "field"), POISON)
def test_a_poison_body_is_refused_with_its_field(fields: Fields, body: bytes, status: int, field: str) -> None:
    """Nothing is stored as something else than was sent, and nothing raises another error."""
    with pytest.raises(RequestError, match=r".") as caught:
        fields.parse(body)
    assert (caught.value.status, caught.value.field) == (status, field)


@pytest.mark.parametrize(
    "body",
    [
        b'{"user_id": 9223372036854775807}',
        b'{"user_id": -9223372036854775808}',
        b'{"user_id": 1, "note": 0.12345678901234567890123}',
        b'{"user_id": 1, "note": "user_id \\"user_id\\" \xc3\xa9 \\n"}',
        b'{"user_id": 1, "note": "[[[[[[[[[[[[[[[[[["}',
        b'{"user_id": 1, "note": 1e308}',
        b' {"k": 3, "user_id": 1}\n',
    ],
)
def test_an_unusual_but_lawful_body_is_taken(fields: Fields, body: bytes) -> None:
    """The second look at a body refuses only real hazards."""
    assert fields.parse(body) is not None


@pytest.mark.parametrize(
    "body", [b'[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]', b'{"rows": {"a": [1, 2], "b": ["x", "y"]}}']
)
def test_rows_come_as_a_list_or_as_columns(rows: Fields, body: bytes) -> None:
    """A function that takes rows gets a frame, whichever way they are sent."""
    parsed = rows.parse(body)
    frame = getattr(parsed, "rows")  # noqa: B009  # the Struct is made at run time
    assert frame.to_dict(as_series=False) == {"a": [1, 2], "b": ["x", "y"]}


@pytest.mark.parametrize(
    "body",
    [
        b"[1, 2]",
        b'{"rows": 1}',
        b'{"rows": {"a": 1}}',
        b'{"rows": {"a": [1, "x"]}}',
        b'{"rows": {"a": [1], "b": [1, 2]}}',
        b'[{"a": 1}, {"a": {"b": 2}}]',
        b'[{"a": 1}, {"a": true}]',
        b'{"rows": {"a": [[1], ["x"]]}}',
        b'[{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]',
    ],
)
def test_rows_that_are_no_table_are_refused(rows: Fields, body: bytes) -> None:
    """Too many, ragged or mixed rows name the field."""
    with pytest.raises(RequestError, match="Expected") as caught:
        rows.parse(body)
    assert (caught.value.status, caught.value.field) == (422, "rows")


def test_rows_keep_every_value_as_it_was_sent(rows: Fields) -> None:
    """Whole numbers beside fractions become floats, absent values null; nothing is cut or turned into text."""
    parsed = rows.parse(b'[{"a": 1, "l": [1, 2.5]}, {"a": 2.5, "b": "x", "l": []}]')
    frame = getattr(parsed, "rows")  # noqa: B009  # the Struct is made at run time
    assert frame.rows() == [(1.0, [1.0, 2.5], None), (2.5, [], "x")]


def test_a_field_no_request_can_fill_is_found_when_the_release_is_loaded() -> None:
    """A type JSON does not know is an error before the first request."""
    with pytest.raises(UnsupportedError, match="'strange'"):
        make_fields("strange", strange, Limits())
