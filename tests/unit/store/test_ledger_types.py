"""Column types give back exactly what was stored."""

import math
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from penstock.store.ledger.types import AnyText, ExactFloat, Json, decode_json, encode_json

# Every character there is, lone surrogates and NUL too.
texts = st.text(st.characters(exclude_categories=[]), max_size=20)
keys = st.one_of(texts, st.sampled_from(["$", "$float", "$$float", "$$"]))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**200), 2**200), st.floats(), texts, st.sampled_from(["nan", "$float"])
)
plain = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3))


def same(a: Any, b: Any) -> bool:
    """Compare by type and value; NaN equals NaN, -0.0 is not 0.0."""
    match a, b:
        case dict(), dict():
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        case list(), list():
            return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
        case float(), float():
            return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
        case _:
            return type(a) is type(b) and a == b


@given(plain)
def test_json_comes_back_exactly(value: Any) -> None:
    """Fault 25: any plain value is given back as it was, and its text holds no NUL that a database refuses."""
    text = encode_json(value)
    assert same(decode_json(text), value)
    assert "\x00" not in text
    text.encode()


@given(st.dictionaries(texts, st.integers(), max_size=4))
def test_equal_values_have_equal_text(value: dict[str, int]) -> None:
    """The order of keys does not show, so that hashes over the text are stable."""
    backwards = dict(reversed(value.items()))
    assert encode_json(backwards) == encode_json(value)


@pytest.fixture(scope="module")
def stored() -> Any:
    table = sa.Table(
        "t", sa.MetaData(), sa.Column("number", ExactFloat), sa.Column("words", AnyText), sa.Column("json", Json)
    )
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    table.create(engine)

    def through(**values: Any) -> Any:
        with engine.connect() as conn:
            conn.execute(sa.insert(table), values)
            return conn.execute(sa.select(table)).one()

    yield through
    engine.dispose()


@given(number=st.floats(), text=texts)
def test_floats_and_text_come_back_exactly_from_sqlite(stored: Any, number: float, text: str) -> None:
    """Fault 25: SQLite itself would lose NaN and negative zero; PostgreSQL would refuse NUL."""
    row = stored(number=number, words=text, json=None)
    assert same(row.number, number)
    assert row.words == text
    assert row.json is None
