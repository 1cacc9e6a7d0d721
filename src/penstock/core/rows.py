"""`Row`: the base of the typed rows a serve function answers with."""

from typing import dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True)  # a type checker then takes `class Movie(Row)` as frozen too
class Row(msgspec.Struct, frozen=True):
    """A frozen row with typed fields; what a `serve` function returns one or many of.

    Example:
        >>> class Movie(Row):
        ...     movie_id: int
        ...     title: str
        >>> Movie(movie_id=1, title="Metropolis")
        Movie(movie_id=1, title='Metropolis')
    """
