"""The base of typed rows: what holds at run time is also what a type checker is told."""

import pytest

from penstock import Row


class Movie(Row):
    movie_id: int
    title: str = "untitled"


def test_a_row_is_made_by_name_and_stays_as_it_is() -> None:
    """A user's row needs no word of its own to be frozen, for Python as for a type checker."""
    movie = Movie(movie_id=7)
    assert (movie.movie_id, movie.title) == (7, "untitled")
    with pytest.raises(AttributeError, match="immutable"):
        movie.title = "Metropolis"  # type: ignore[misc]  # that it is refused is the point
