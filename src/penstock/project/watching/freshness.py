"""The monitor of freshness: how old data and model are at the end of each window, and what retraining has cost.

It tells how things stood at that time, whenever it is asked: what came later is left out.
"""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from penstock.core.errors import NotFoundError
from penstock.monitoring.findings import Finding, Window
from penstock.monitoring.freshness import cost_of_retrains, stale_data, stale_model
from penstock.project.watching.arrival import newest_row_at, versions_of, waits_of
from penstock.project.watching.look import Look, Measured
from penstock.store.ledger import datasets, releases, triggers

MONITOR = "freshness"


def measure(look: Look) -> Iterator[Measured]:
    """Measure how fresh the pipeline was at the end of the windows that closed since."""
    if look.release is None or look.manifest is None:
        return
    since = look.newest(MONITOR)
    if since is None:
        since = max(look.floor(look.release.made_at), look.floor(look.now) - look.reference * look.step)
    closed = look.spans(since)
    if closed:
        yield from _Freshness(look).measure(closed)


class _Freshness:
    def __init__(self, look: Look) -> None:
        self._look = look
        nodes = () if look.manifest is None else look.manifest.graph.nodes
        self._versions = {node.name: versions_of(look, node.name) for node in nodes if node.role == "dataset"}
        with look.workspace.ledger.read() as conn:
            self._made_at = sorted(release.made_at for release in releases.of_pipeline(conn, look.pipeline))

    def measure(self, closed: list[tuple[datetime, datetime]]) -> Iterator[Measured]:
        for start, end in closed:
            release = self._look.release
            is_live = release is not None and release.made_at <= end
            window = Window(
                monitor=MONITOR,
                start=start,
                end=end,
                rows=len(self._versions),
                release=str(release.ref) if release is not None and is_live else None,
                findings=(*self._data(end), *self._model(end), *self._cost(start, end)),
            )
            yield Measured(window=window)

    def _data(self, end: datetime) -> Iterator[Finding]:
        for name, versions in self._versions.items():
            known = [version for version in versions if version.taken_at is not None and version.taken_at <= end]
            newest = None if not known else newest_row_at(known[-1]) or known[-1].taken_at
            if newest is not None:
                yield from stale_data(name, end - newest, waits_of(known))

    def _model(self, end: datetime) -> Iterator[Finding]:
        release, manifest = self._look.release, self._look.manifest
        if release is None or manifest is None or release.made_at > end:
            return
        trained = new = 0
        for name, dataset in manifest.datasets.items():
            known = [v for v in self._versions.get(name, ()) if v.taken_at is not None and v.taken_at <= end]
            own = self._own_rows(name, dataset.version)
            trained += own or 0
            new += max(known[-1].rows - own, 0) if known and own is not None else 0
        gaps = [later - before for before, later in itertools.pairwise(self._made_at) if later <= end]
        age = end - release.made_at
        yield from stale_model(str(release.ref), age, gaps, trained_rows=trained, new_rows=new)

    def _own_rows(self, name: str, version: int) -> int | None:
        """Return how many rows the release was made from; None where it was made elsewhere."""
        with self._look.workspace.ledger.read() as conn, suppress(NotFoundError):
            return datasets.get(conn, self._look.pipeline, name, version).rows
        return None

    def _cost(self, start: datetime, end: datetime) -> Iterator[Finding]:
        with self._look.workspace.ledger.read() as conn:
            used = triggers.used_since(conn, self._look.pipeline, start)
        cpu_s = [one.cpu_s for one in used if one.at <= end]
        yield from cost_of_retrains(cpu_s, cpu_hour=self._look.policy.cost.cpu_hour, subject=self._look.pipeline)
