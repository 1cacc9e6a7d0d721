"""Where flagged rows concentrate: found where they do, and seldom anywhere else."""

from math import comb

import numpy as np
import polars as pl
import pytest

from penstock.checks.concentration import hypergeometric_tail, search_concentration

FIELDS = ("genre", "country", "age", "k")


def people(rows: int, seed: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "genre": draw.choice(["drama", "comedy", "horror", "crime"], rows),
            "country": draw.choice(["de", "fr", "it"], rows, p=[0.6, 0.3, 0.1]),
            "age": draw.uniform(18, 80, rows),
            "k": draw.choice([5, 10, 20], rows),
        }
    )


def test_the_slice_that_was_planted_is_named_first_and_alone() -> None:
    """L8: a change for a quarter of one genre is that genre's, and a change for a pair is the pair's."""
    frame = people(500, 1)
    horror = (frame["genre"] == "horror").to_numpy()
    found = search_concentration(frame, FIELDS, horror & (np.arange(500) % 4 == 0))
    assert [one.name for one in found.found if one.is_sure] == ["genre=horror"]
    pair = horror & (frame["country"] == "fr").to_numpy()
    found = search_concentration(frame, FIELDS, pair)
    (only,) = [one for one in found.found if one.is_sure]
    assert set(only.parts) == {("genre", "horror"), ("country", "fr")}
    assert (only.flagged, only.n, only.share) == (int(pair.sum()), int(pair.sum()), 1.0)


def test_two_places_are_two_slices() -> None:
    """L8: what one slice does not explain is told as another."""
    frame = people(1000, 2)
    flags = (frame["genre"] == "horror").to_numpy() | (frame["k"] == 20).to_numpy() & (
        frame["country"] == "it"
    ).to_numpy()
    found = search_concentration(frame, FIELDS, flags)
    sure = [set(one.parts) for one in found.found if one.is_sure]
    assert sure[0] == {("genre", "horror")}
    assert {("k", "20"), ("country", "it")} in sure


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_flags_spread_by_chance_concentrate_nowhere(share: float) -> None:
    """L8: in at most 5 % of cases is any slice called sure, with the simulation's error on top."""
    draw, wrong, trials = np.random.default_rng(5), 0, 200
    for trial in range(trials):
        found = search_concentration(people(300, 100 + trial), FIELDS, draw.random(300) < share)
        wrong += any(one.is_sure for one in found.found)
    assert wrong / trials <= 0.08


def test_nothing_or_everything_flagged_is_no_question() -> None:
    """L8: without a difference between rows there is nothing to concentrate."""
    frame = people(50, 3)
    assert search_concentration(frame, FIELDS, np.zeros(50, dtype=np.bool_)).found == ()
    assert search_concentration(frame, FIELDS, np.ones(50, dtype=np.bool_)).found == ()
    assert search_concentration(pl.DataFrame(), (), np.zeros(0, dtype=np.bool_)).judged == 0


def test_the_tail_is_exact() -> None:
    """L8: against the sum of its terms in whole numbers."""
    for least, drawn, marked, rows in (
        (3, 10, 12, 40),
        (1, 5, 5, 9),
        (10, 10, 12, 40),
        (0, 5, 5, 20),
        (16, 80, 16, 240),
    ):
        terms = range(least, min(drawn, marked) + 1)
        exact = sum(comb(marked, hits) * comb(rows - marked, drawn - hits) for hits in terms) / comb(rows, drawn)
        assert hypergeometric_tail(least, drawn, marked, rows) == pytest.approx(exact, rel=1e-9)
    assert hypergeometric_tail(6, 5, 5, 9) == 0.0
