"""The counters of a whole server: a folder with a file per worker, and what dead workers had counted.

The supervisor is the only one that writes here beside each worker's own file. Sums never go backwards while the server
lives: a dead worker's counts are added to the kept ones before its file goes, and a reader that meets a change between
the two reads again.
"""

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path

import msgspec

from penstock.core.process import is_running
from penstock.core.records import Record
from penstock.serving.observe import metrics
from penstock.serving.observe.counters import Read, read_counters
from penstock.serving.observe.metrics import Key

_FOLDER = re.compile(r"serving-(?P<pid>[0-9]+)-[0-9a-f]+")
_KEPT = "kept.json"
_TRIES = 50
_GAUGES = frozenset(metric.name for metric in metrics.METRICS if metric.kind == "gauge")


class Happened(Record, frozen=True, kw_only=True):
    """What the supervisor counts.

    Attributes:
        restarts: Workers that died and were replaced.
        hung: Workers whose event loop stood still and that were killed for it; restarts hold them too.
        swaps: Releases that took over from another one.
        refused: Releases that were not taken up.
    """

    restarts: int = 0
    hung: int = 0
    swaps: int = 0
    refused: int = 0


class Series(Record, frozen=True, kw_only=True):
    """The numbers of one series: one, or a histogram's buckets and sum."""

    metric: str
    labels: tuple[str, ...]
    values: tuple[float, ...]


class Kept(Record, frozen=True, kw_only=True):
    """What stands in the supervisor's file.

    Attributes:
        version: Grows with each write.
        folded: Files whose counts are in `series` and that are about to go.
        series: Counts of dead workers.
    """

    version: int = 0
    folded: tuple[str, ...] = ()
    happened: Happened = Happened()
    series: tuple[Series, ...] = ()


class Totals(Record, frozen=True, kw_only=True):
    """The counts of a server since its start.

    Attributes:
        values: By series, summed over workers.
        workers: Those that live, by slot.
    """

    happened: Happened
    values: dict[Key, tuple[float, ...]]
    workers: tuple[Read, ...]


class ServerCounters:
    """The folder of one server, as its supervisor sees it.

    Args:
        home: The project's store.
    """

    def __init__(self, home: Path) -> None:
        temporary = home / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(temporary)
        self.folder = temporary / f"serving-{os.getpid()}-{secrets.token_hex(4)}"
        self.folder.mkdir(mode=0o700)
        self._kept = Kept()
        self._made = 0
        self._write(self._kept)

    @property
    def happened(self) -> Happened:
        """What was counted so far by the supervisor itself."""
        return self._kept.happened

    def new_file(self, slot: int) -> Path:
        """Return the path of the file that a new worker is to make."""
        self._made += 1
        return self.folder / f"w{slot}-{self._made:06d}.counters"

    def note(self, *, restarts: int = 0, hung: int = 0, swaps: int = 0, refused: int = 0) -> None:
        """Add to what the supervisor counts."""
        now = self._kept.happened
        happened = Happened(
            restarts=now.restarts + restarts,
            hung=now.hung + hung,
            swaps=now.swaps + swaps,
            refused=now.refused + refused,
        )
        self._write(msgspec.structs.replace(self._kept, happened=happened))

    def fold(self, path: Path) -> None:
        """Take over the counts of a worker that has ended, and remove its file."""
        read = read_counters(path)
        if read is not None:
            values = {(s.metric, s.labels): s.values for s in self._kept.series}
            _add(values, {key: cell for key, cell in read.values.items() if key[0] not in _GAUGES})
            series = tuple(Series(metric=name, labels=labels, values=v) for (name, labels), v in values.items())
            self._write(msgspec.structs.replace(self._kept, folded=(path.name,), series=series))
        for file in (path, path.with_name(path.name + ".partial")):
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, kept: Kept) -> None:
        # Memory is the truth: on a full disk readers see an older state, and the next write brings them up to date.
        self._kept = msgspec.structs.replace(kept, version=self._kept.version + 1)
        partial = self.folder / f"{_KEPT}.partial"
        with contextlib.suppress(OSError):
            partial.write_bytes(msgspec.json.encode(self._kept))
            partial.rename(self.folder / _KEPT)


def read_totals(folder: Path) -> Totals:
    """Return the counts of the server whose folder this is; any process may ask."""
    kept, reads = _read_kept(folder), _read_workers(folder)
    for _ in range(_TRIES):
        after = _read_kept(folder)
        if after.version == kept.version:
            break
        kept, reads = after, _read_workers(folder)
    values = {(s.metric, s.labels): s.values for s in kept.series}
    alive = [read for name, read in reads.items() if name not in kept.folded]
    for read in alive:
        _add(values, read.values)
    return Totals(happened=kept.happened, values=values, workers=tuple(sorted(alive, key=lambda r: r.worker.slot)))


def _read_kept(folder: Path) -> Kept:
    try:
        return msgspec.json.decode((folder / _KEPT).read_bytes(), type=Kept)
    except OSError:
        return Kept()


def _read_workers(folder: Path) -> dict[str, Read]:
    found = {path.name: read_counters(path) for path in sorted(folder.glob("*.counters"))}
    return {name: read for name, read in found.items() if read is not None}


def _add(into: dict[Key, tuple[float, ...]], values: dict[Key, tuple[float, ...]]) -> None:
    for key, cell in values.items():
        before = into.get(key)
        into[key] = cell if before is None else tuple(map(sum, zip(before, cell, strict=True)))


def _remove_left_behind(temporary: Path) -> None:
    # A server that was killed could not remove its folder.
    for path in temporary.iterdir():
        match = _FOLDER.fullmatch(path.name)
        if match and not is_running(int(match["pid"])):
            shutil.rmtree(path, ignore_errors=True)
