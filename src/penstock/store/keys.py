"""The hashes of good keys, in a file that the process with the ledger writes and the workers of servers read."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from penstock.core.records import Record

KIND = "serve"


class KeyHolder(Record, frozen=True, kw_only=True):
    """An application with a good key.

    Attributes:
        key_hash: SHA-256 of the key's secret.
        rate_per_s: Requests per second, over all workers; None for no limit.
        burst: Requests at once; None for those of one second.
    """

    name: str
    key_id: str
    key_hash: str
    rate_per_s: float | None = None
    burst: float | None = None


class Admission(Record, frozen=True, kw_only=True):
    """Who may ask a server.

    Attributes:
        keys: The file of those who have a key.
        require_key: Whether everybody needs one.
        workers: Processes among which a quota is divided.
    """

    keys: str
    require_key: bool = False
    workers: int = 1


def write_keys(path: Path, holders: Sequence[KeyHolder]) -> None:
    """Write who has a key; nothing happens where the file says so already.

    Raises:
        OSError: It cannot be written.
    """
    data = msgspec.json.encode(list(holders))
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    half.replace(path)


def read_keys(path: Path) -> list[KeyHolder]:
    """Return who has a key.

    Raises:
        OSError: It cannot be read.
        msgspec.DecodeError: It was not written here.
    """
    return msgspec.json.decode(path.read_bytes(), type=list[KeyHolder])
