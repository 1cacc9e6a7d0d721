"""The counts of a server in Prometheus' text format (version 0.0.4), for `GET /metrics`."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path

from penstock.core.process import is_running
from penstock.serving.messages import Reply, Request, Respond, Route
from penstock.serving.observe import metrics
from penstock.serving.observe.metrics import Key, Metric
from penstock.serving.observe.totals import Happened, Totals, read_totals

PATH = "/metrics"
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def routes(folder: Path) -> dict[str, Route]:
    """Return the route for Prometheus.

    Args:
        folder: The folder of the server's counters.
    """

    def handle(_request: Request, respond: Respond) -> None:
        respond(Reply(200, exposition(folder), kind=CONTENT_TYPE))

    return {PATH: Route(methods=frozenset({"GET"}), permission="read", handle=handle)}


def exposition(folder: Path) -> bytes:
    """Return the counts of a server, summed over its workers, as Prometheus reads them.

    Args:
        folder: The folder of the server's counters.
    """
    totals = read_totals(folder)
    lines = [line for metric in metrics.METRICS for line in _metric_lines(metric, totals.values)]
    lines += _happened_lines(totals.happened)
    lines += _worker_lines(totals)
    return ("\n".join(lines) + "\n").encode()


def _metric_lines(metric: Metric, values: dict[Key, tuple[float, ...]]) -> Iterator[str]:
    yield from _head(metric.name, metric.kind, metric.help)
    for labels, cells in _series(metric, values):
        pairs = list(zip(metric.labels, labels, strict=True))
        if metric.kind == "histogram":
            yield from _histogram_lines(metric, pairs, cells)
        else:
            yield _line(metric.name, pairs, cells[0])


def _series(
    metric: Metric, values: dict[Key, tuple[float, ...]]
) -> Iterator[tuple[tuple[str, ...], tuple[float, ...]]]:
    if not metric.labels:
        yield (), values.get((metric.name, ()), (0.0,))
        return
    # In a fixed order; a series that never counted is left out, as most functions are asked in one protocol.
    for name, labels in sorted(values):
        if name == metric.name:
            yield labels, values[name, labels]


def _histogram_lines(metric: Metric, pairs: list[tuple[str, str]], cells: tuple[float, ...]) -> Iterator[str]:
    for bound, count in zip((*metric.buckets, math.inf), accumulate(cells[:-1]), strict=True):
        yield _line(f"{metric.name}_bucket", [*pairs, ("le", _number(bound))], count)
    yield _line(f"{metric.name}_sum", pairs, cells[-1])
    yield _line(f"{metric.name}_count", pairs, sum(cells[:-1]))


def _happened_lines(happened: Happened) -> Iterator[str]:
    told = (
        ("penstock_worker_restarts_total", "Workers that died and were replaced.", happened.restarts),
        ("penstock_worker_hangs_total", "Workers killed because they stood still.", happened.hung),
        ("penstock_swaps_total", "Releases that took over from another one.", happened.swaps),
        ("penstock_releases_refused_total", "Releases that were not taken up.", happened.refused),
    )
    for name, text, count in told:
        yield from _head(name, "counter", text)
        yield _line(name, (), count)


def _worker_lines(totals: Totals) -> Iterator[str]:
    alive = [read.worker for read in totals.workers if is_running(read.worker.pid)]
    yield from _head("penstock_release_info", "gauge", "Releases that answer now, and by how many workers.")
    for (pipeline, release), count in sorted(Counter((w.pipeline, w.release) for w in alive if w.release).items()):
        yield _line("penstock_release_info", (("pipeline", pipeline), ("release", release)), count)
    yield from _head("process_resident_memory_bytes", "gauge", "Resident memory by worker; of both during a swap.")
    sizes: Counter[int] = Counter()
    for worker in alive:
        sizes[worker.slot] += _resident_bytes(worker.pid)
    for slot, size in sorted(sizes.items()):
        yield _line("process_resident_memory_bytes", (("worker", str(slot)),), size)


def _resident_bytes(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0  # it has just ended, or the system tells no such thing
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _line(name: str, pairs: Iterable[tuple[str, str]], value: float) -> str:
    labels = ",".join(f'{label}="{_escaped(text)}"' for label, text in pairs)
    return f"{name}{{{labels}}} {_number(value)}" if labels else f"{name} {_number(value)}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
