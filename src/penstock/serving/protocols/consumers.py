"""Which application asks, and whether it may: keys, known by their hashes, and quotas. The same for every protocol.

The hashes come in a file that whoever starts the server writes anew when a key is added or revoked. No secret is kept:
a key that was found good is remembered by the hash of the header that it came in.
"""

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from penstock.core.records import Record
from penstock.core.tokens import is_same, read_token
from penstock.serving.messages import Permission, Request
from penstock.serving.refusals import DeniedError

KIND = "serve"
_KEY, _NAME = b"authorization", b"x-penstock-consumer"
_BEARER = b"bearer pst_"
_PREFIX = 7  # of "Bearer "
_MOST_KNOWN = 4096
_events = structlog.get_logger("penstock.serving")


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
    """Write who has a key, for the workers of a server to read; nothing happens where the file says so already.

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


class _Seat:
    """An application in this worker: its name as a header, and how much of its quota is left."""

    __slots__ = ("_burst", "_left", "_rate", "_then_s", "header", "holder", "name")

    def __init__(self, holder: KeyHolder, workers: int, now_s: float) -> None:
        self.holder = holder
        self.name = holder.name
        self.header = holder.name.encode()
        self._rate = None if holder.rate_per_s is None else holder.rate_per_s / workers
        burst = holder.rate_per_s if holder.burst is None else holder.burst
        self._burst = max((burst or 0.0) / workers, 1.0)
        self._left, self._then_s = self._burst, now_s

    def take(self, now_s: float) -> float | None:
        """Take one request out of the quota (a token bucket); return in how many seconds there is one, or None."""
        if self._rate is None:
            return None
        self._left = min(self._burst, self._left + (now_s - self._then_s) * self._rate)
        self._then_s = now_s
        if self._left < 1.0:
            return (1.0 - self._left) / self._rate
        self._left -= 1.0
        return None


class Consumers:
    """Tells who asks, and refuses who may not; for one event loop.

    Args:
        admission: Who may ask.
        now_s: A clock that only goes forward.
    """

    def __init__(self, admission: Admission, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._admission = admission
        self._now_s = now_s
        self._seats: dict[str, _Seat] = {}
        self._names: frozenset[bytes] = frozenset()
        self._known: dict[bytes, _Seat] = {}
        self._seen: tuple[int, int] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read who has a key, where that has changed. What cannot be read changes nothing."""
        path = Path(self._admission.keys)
        try:
            stat = path.stat()
            if (stat.st_mtime_ns, stat.st_ino) == self._seen:
                return
            holders = msgspec.json.decode(path.read_bytes(), type=list[KeyHolder])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            _events.error("keys_unreadable", error=type(error).__name__)
            return
        self._seen = stat.st_mtime_ns, stat.st_ino
        # Who stays as they were keep what is left of their quota.
        kept = {key: seat for key, seat in self._seats.items() if seat.holder in holders}
        now_s = self._now_s()
        self._seats = {h.key_id: kept.get(h.key_id) or _Seat(h, self._admission.workers, now_s) for h in holders}
        self._names = frozenset(seat.header for seat in self._seats.values())
        self._known.clear()

    def identify(self, headers: Mapping[bytes, bytes], permission: Permission) -> _Seat | None:
        """Return who asks; None for somebody without a key.

        Raises:
            DeniedError: 401 for a key that is not good, for none where one is needed, or for a name that has one.
        """
        given = headers.get(_KEY)
        if given is not None and given[: len(_BEARER)].lower() == _BEARER:
            digest = hashlib.sha256(given).digest()
            return self._known.get(digest) or self._verified(given, digest)
        if permission == "health":
            return None
        if self._admission.require_key:
            raise DeniedError(
                "This server answers callers with a key only.",
                reason="key_required",
                hint="send the header authorization: Bearer pst_serve_...; penstock consumers add makes one",
            )
        if self._names and headers.get(_NAME) in self._names:
            raise DeniedError(
                "The consumer of this name has a key, and it was not sent.",
                reason="key_required",
                hint="send the header authorization: Bearer pst_serve_...",
            )
        return None

    def admit(self, request: Request, permission: Permission) -> Request:
        """Return a request with the name of who asks, counted against their quota.

        Raises:
            DeniedError: 401 as `identify` says, 429 beyond the quota.
        """
        seat = self.identify(request.headers, permission)
        if seat is None:
            return request
        self._charge(seat, permission)
        headers = request.headers | {_NAME: seat.header}
        del headers[_KEY]  # nobody behind this door needs it, a worker with another release least of all
        return Request(request.method, request.path, headers, request.body, request.query, request.variant)

    def admit_metadata(self, metadata: Mapping[str, str], permission: Permission) -> Mapping[str, str]:
        """Return the metadata of a gRPC call with the name of who asks; like `admit`."""
        headers = {name.encode(): value.encode() for name, value in metadata.items() if name in _METADATA}
        seat = self.identify(headers, permission)
        if seat is None:
            return metadata
        self._charge(seat, permission)
        return {**metadata, _NAME.decode(): seat.name}

    def _charge(self, seat: _Seat, permission: Permission) -> None:
        wait_s = None if permission not in _COUNTED else seat.take(self._now_s())
        if wait_s is not None:
            raise DeniedError(
                f"Consumer {seat.name!r} asks more often than its quota allows.",
                status=429,
                reason="quota",
                retry_after_s=math.ceil(wait_s),
                hint="ask again later; the quota is in penstock consumers show",
            )

    def _verified(self, given: bytes, digest: bytes) -> _Seat:
        token = read_token(given[_PREFIX:].decode("latin-1").strip())
        seat = None if token is None or token.kind != KIND else self._seats.get(token.id)
        if token is None or seat is None or not is_same(seat.holder.key_hash, token.hash):
            raise DeniedError(
                "The key is not good: it is unknown, or was revoked.",
                reason="bad_key",
                hint="ask whoever runs this server for a new one: penstock consumers rotate",
            )
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[digest] = seat
        return seat


_METADATA = frozenset({_KEY.decode(), _NAME.decode()})
_COUNTED = frozenset({"predict", "feedback"})
