"""What a stream is made of: where rows come from, where answers go, and the positions that tie them together.

A source gives rows in order, each batch with the position behind it. A sink that keeps the position in the same atomic
step as the answers makes each row answered once; standard output can only promise at least once.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from penstock.core.records import Record
from penstock.serving.offline.pieces import Piece
from penstock.serving.offline.tasks import Form, Note


class Batch(Record, frozen=True, kw_only=True):
    """Rows that are answered together.

    Attributes:
        piece: Where they are.
        position: Plain JSON: where the source stands behind them.
    """

    piece: Piece
    position: Any


class StreamSource(Protocol):
    """Rows in order, from a position on."""

    @property
    def name(self) -> str:
        """What is followed, in words that stay the same from start to start."""
        ...

    @property
    def settles_s(self) -> float:
        """How long after something was put there it may be read."""
        ...

    def open(self, positions: Iterable[Any]) -> None:
        """Begin behind what is answered.

        Args:
            positions: Of all batches that are kept, the oldest first; none begins at the start.

        Raises:
            DataError: What lies behind them is gone or was changed.
        """
        ...

    def read(self, timeout_s: float) -> Batch | None:
        """Return the next rows, waiting at most `timeout_s` for some; None when there are none yet.

        Raises:
            DataError: What is there cannot be read.
        """
        ...

    def is_at_end(self) -> bool:
        """Return whether no more rows can ever come; what others write to has no end."""
        ...

    def commit(self, position: Any) -> None:
        """Take note that everything up to `position` is answered and kept."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class StreamSink(Protocol):
    """Where answers go."""

    @property
    def form(self) -> Form:
        """The form that `temporary` takes."""
        ...

    def positions(self) -> Iterable[Any]:
        """Return the positions of all batches that are kept, the oldest first."""
        ...

    def temporary(self) -> Path | None:
        """Return the file that the next answers are to be written to; None takes them as JSON lines."""
        ...

    def keep(self, batch: Batch, note: Note, lines: bytes) -> None:
        """Keep answers and position in one step.

        Raises:
            StoreError: They cannot be kept.
        """
        ...

    def close(self) -> None:
        """Let go of files."""
        ...
