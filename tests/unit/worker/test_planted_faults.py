"""What is planted in a rehearsal: when, in which rows, and in which code."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from penstock.core.errors import InputError
from penstock.worker.rehearsal.faults.code import with_bad_answers
from penstock.worker.rehearsal.faults.files import read, read_source, said, spoiled, write
from penstock.worker.rehearsal.faults.plans import FAULTS, Fault, lay_out, parse_faults
from penstock.worker.rehearsal.records import Plan

START = datetime(2025, 3, 1, tzinfo=UTC)
PLAN = Plan(pipeline="films", start=START, steps=20)
DAYS = range(20)
RATINGS = pl.DataFrame({
    "user_id": [day % 7 for day in DAYS],
    "film": [day % 3 for day in DAYS],
    "rating": pl.Series([1 if day == 0 else 9 for day in DAYS], dtype=pl.Int8),
    "timestamp": [(START + timedelta(days=day, hours=12)).replace(tzinfo=None) for day in DAYS],
})  # fmt: skip
TITLES = pl.DataFrame({"film": [0, 1, 2], "genres": [["Drama"], ["Drama", "War"], ["War"]]})


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The two source files; the dataset with times first."""
    paths = [tmp_path / "ratings.parquet", tmp_path / "titles.parquet"]
    RATINGS.write_parquet(paths[0])
    TITLES.write_parquet(paths[1])
    return paths


def test_faults_are_apart_and_within_the_rehearsal() -> None:
    """No two are there at once, and what is ordinary is known before the first."""
    for steps in (66, 100, 182):
        found = lay_out(FAULTS, steps)
        assert tuple(fault.name for fault in found) == FAULTS
        assert found[0].first >= 14
        assert found[-1].after <= steps - 7
        assert all(later.first - earlier.after >= 7 for earlier, later in itertools.pairwise(found))


def test_too_short_a_rehearsal_is_told() -> None:
    with pytest.raises(InputError, match=r"Planting 5 of the faults needs \d+ steps, and the rehearsal has 28"):
        lay_out(FAULTS, 28)


def test_faults_are_named_in_any_order() -> None:
    """The order of time does not depend on how they were said."""
    assert parse_faults("schema, feed") == ("feed", "schema")
    with pytest.raises(InputError, match="There is no fault 'flood' to plant"):
        parse_faults("flood")


def test_a_broken_feed_gives_nothing_new_and_later_all(files: list[Path]) -> None:
    source = read_source(files, ("user_id", "film"))
    feed = [Fault(name="feed", first=5, after=8)]
    known = START.replace(tzinfo=None) + timedelta(days=5)
    for step in (5, 6, 7):
        rows = spoiled(source, feed, PLAN, step)
        assert (rows["timestamp"] < known).all()
        assert rows.height == 5
    assert spoiled(source, feed, PLAN, 8).equals(RATINGS)


def test_the_largest_genre_means_the_opposite_for_a_while(files: list[Path]) -> None:
    """Only rows of the time and the genre are turned, within the scale that there was."""
    source = read_source(files, ("user_id", "film"))
    assert source.largest_group == "Drama"
    rows = spoiled(source, [Fault(name="genre", first=6, after=9)], PLAN, 19)
    changed = [day for day in DAYS if rows["rating"][day] != RATINGS["rating"][day]]
    assert changed == [6, 7]
    assert rows["rating"][6] == 1
    assert rows.schema == RATINGS.schema


def test_a_column_is_renamed_for_a_step(files: list[Path]) -> None:
    source = read_source(files, ("user_id", "film"))
    schema = Fault(name="schema", first=5, after=6)
    assert "rating_v2" in spoiled(source, [schema], PLAN, 5).columns
    assert spoiled(source, [schema], PLAN, 6).equals(RATINGS)
    assert said(source, schema) == "the source called column 'rating' 'rating_v2' for a step"


def test_what_cannot_be_spoiled_is_told(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'genre' cannot be planted: no second file"):
        _ = read_source(files[:1], ("user_id", "film")).largest_group
    words = tmp_path / "words.csv"
    write(pl.DataFrame({"at": ["a"], "x": [1]}), words)
    assert read(words).height == 1
    with pytest.raises(InputError, match="no column with a time"):
        read_source([words], ())


CODE = '''
@films.serve
def recommend(taste, *, user_id: int) -> list[str]:
    """Ä film."""
    if user_id < 0:
        return []
    return [
        f"ö{user_id}"
        for _ in range(1)
    ]
'''


class Named:
    """Stands where the pipeline does."""

    @staticmethod
    def serve(function: object) -> object:
        return function


def test_spoiled_code_answers_everybody_alike() -> None:
    """A change that a colleague could have made: the module still works, and one function forgets who asks."""
    good: dict[str, object] = {"films": Named}
    bad: dict[str, object] = {"films": Named}
    exec(CODE, good)  # noqa: S102 - a text of this file
    exec(with_bad_answers(CODE, "recommend", "user_id", 5), bad)  # noqa: S102 - as above
    asked = [function(None, user_id=user) for function in (good["recommend"], bad["recommend"]) for user in (7, 8, -1)]  # type: ignore[operator]  # defined by the text
    assert asked == [["ö7"], ["ö8"], [], ["ö5"], ["ö5"], ["ö5"]]


def test_code_that_cannot_be_spoiled_is_told() -> None:
    for function, field in (("answer", "user_id"), ("recommend", "k")):
        with pytest.raises(InputError, match=f"'{function}' is no plain function with a field '{field}'"):
            with_bad_answers(CODE, function, field, 1)
