"""Messages between processes of one server: a length in four bytes, then as many bytes."""

from collections.abc import Iterator

_LENGTH_BYTES = 4


class Frames:
    """Puts messages together from what a socket gives."""

    def __init__(self) -> None:
        self._held = bytearray()

    def take(self, data: bytes) -> Iterator[bytes]:
        """Take what came, and yield the messages that are whole now."""
        self._held += data
        start, held = 0, self._held
        while len(held) - start >= _LENGTH_BYTES:
            end = start + _LENGTH_BYTES + int.from_bytes(held[start : start + _LENGTH_BYTES], "little")
            if end > len(held):
                break
            yield bytes(held[start + _LENGTH_BYTES : end])
            start = end
        del held[:start]


def framed(data: bytes) -> bytes:
    """Return a message with its length before it."""
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data
