"""`Row`: the base of the typed rows a serve function answers with."""

import msgspec


class Row(msgspec.Struct, frozen=True):
    """A frozen row with typed fields; what a `serve` function returns one or many of.

    Example:
        >>> class Movie(Row):
        ...     movie_id: int
        ...     title: str
        >>> Movie(movie_id=1, title="Metropolis")
        Movie(movie_id=1, title='Metropolis')
    """
