"""What a run says: one table of all servers, and one of what was promised and whether it is kept."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Sample = dict[str, Any]
Key = tuple[str, str, str, str]  # server, model, route, load
_MIB = 2**20
_MEMORY = ("memory_bytes", "largest_bytes")
_CEILING = "constant answer, bare uvicorn"
_LOADS = {
    "16": "16 connections",
    "64": "64 connections",
    "steady": "80 % of maximum",
    "batch": "1,000 rows, 4 connections",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some bursts, with the smallest and the largest."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return _shown(self.median)
        return f"{_shown(self.median)} ({_shown(self.least)} to {_shown(self.most)})"


@dataclass(frozen=True, slots=True)
class Promise:
    """Something promised: what, how much, what was measured."""

    what: str
    target: str
    found: str = ""
    is_met: bool | None = None


class Samples:
    """The samples of a run, by server, model, route and load."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.all = list(samples)
        self._bursts: dict[Key, list[Sample]] = {}
        for sample in self.all:
            if "requests_per_s" in sample:
                key = (sample["server"], sample["model"], sample["route"], sample["load"])
                self._bursts.setdefault(key, []).append(sample)

    @property
    def measured(self) -> list[Key]:
        """Return what was measured, in the order in which it was first."""
        return list(self._bursts)

    def of(self, key: Key) -> list[Sample]:
        """Return the bursts of one key; empty when there are none."""
        return self._bursts.get(key, [])

    def figure(self, key: Key, name: str) -> Figure | None:
        """Return the median and spread of one measure; None when it was not measured."""
        found = [sample[name] for sample in self.of(key)]
        return Figure(statistics.median(found), min(found), max(found)) if found else None

    def middle(self, server: str, load: str, name: str) -> float | None:
        """Return the median of what a server says of itself, as its memory or its start."""
        found = [s[name] for s in self.all if s["server"] == server and s["load"] == load and name in s]
        return statistics.median(found) if found else None

    def best(self, kinds: Sequence[str], model: str, load: str, name: str = "rows_per_s") -> tuple[str, float] | None:
        """Return the fastest of the servers of some kinds, with its figure."""
        found = [
            (self.figure(key, name).median, key[0])  # type: ignore[union-attr]  # there is a burst for every key
            for key in self._bursts
            if key[1] == model
            and key[3] == load
            and self._bursts[key][0]["kind"] in kinds
            and "both cores" not in key[0]
        ]
        return (max(found)[1], max(found)[0]) if found else None


def table(samples: Iterable[Sample]) -> str:
    """Return the whole report as Markdown."""
    found = Samples(samples)
    parts = [
        _load_line(found),
        *(_servers(found, model) for model in ("linear", "trees")),
        _sizes(found),
        _absent(found),
        _kept(found),
    ]
    return "\n\n".join(part for part in parts if part)


def _servers(found: Samples, model: str) -> str:
    heads = (
        "server",
        "load",
        "requests/s",
        "per second of CPU",
        "p50 ms",
        "p99 ms",
        "CPU us",
        "of the ceiling",
    )
    rows = [cells for key in found.measured if key[1] == model for cells in _cells(found, key)]
    names = {"linear": "StandardScaler and LogisticRegression, 30 floats", "trees": "LightGBM, 200 trees, 30 floats"}
    return f"{names[model]}:\n\n{_markdown(heads, rows)}" if rows else ""


def _cells(found: Samples, key: Key) -> Iterator[tuple[str, ...]]:
    server, _, route, load = key
    rate = found.figure(key, "requests_per_s")
    assert rate is not None
    top = found.figure((_CEILING, "linear", "", load), "requests_per_s")
    cpu_us = _median(found, key, "cpu_us")
    wrong = sum(sample["refused"] + sample["broken"] for sample in found.of(key))
    yield (
        f"{server}{f', {route}' if route else ''}",
        _LOADS[load] + (f" ({wrong:,} without an answer)" if wrong else ""),
        str(rate),
        _shown(1e6 / cpu_us) if cpu_us else "",
        _shown(_median(found, key, "p50_ms")),
        _shown(_median(found, key, "p99_ms")),
        _shown(cpu_us),
        f"{100 * rate.median / top.median:.0f} %" if top and load in {"16", "64"} else "",
    )


def _sizes(found: Samples) -> str:
    """Return what each server takes to start and to hold: our own columns of the table, once per server."""
    names = dict.fromkeys((s["server"], s["version"]) for s in found.all if s["load"] == "start" and not s["failed"])
    rows = []
    for name, version in names:
        figures = [found.middle(name, *what) for what in (("start", "seconds"), *(("memory", m) for m in _MEMORY))]
        start_s, whole, largest = (value or float("nan") for value in figures)
        rows.append((name, version, _shown(start_s), _shown(whole / _MIB), _shown(largest / _MIB)))
    heads = ("server", "version", "first answer after s", "memory MB, all its processes", "the one that answers")
    return f"Start and memory (median over both models):\n\n{_markdown(heads, rows)}" if rows else ""


def _absent(found: Samples) -> str:
    lines = {f"- {s['server']} ({s['model']}): {s['failed'].strip()[:300]}" for s in found.all if s.get("failed")}
    return "Not measured:\n\n" + "\n".join(sorted(lines)) if lines else ""


def _load_line(found: Samples) -> str:
    loads = [sample["load_average"] for key in found.measured for sample in found.of(key)]
    if not loads:
        return "nothing was measured"
    machine = "".join(f"{sample['machine']}. " for sample in found.all[:1] if "machine" in sample)
    return (
        f"{machine}Load average during the run: {statistics.median(loads):.1f} ({min(loads):.1f} to {max(loads):.1f})."
    )


def _kept(found: Samples) -> str:
    rows = [
        (promise.what, promise.target, promise.found, {True: "yes", False: "NO", None: "not measured"}[promise.is_met])
        for promise in _promises(found)
    ]
    return f"What was promised:\n\n{_markdown(('what', 'target', 'measured', 'met'), rows)}"


def _promises(found: Samples) -> Iterator[Promise]:
    fast, plain = "Penstock", "Penstock, uncompiled"
    for route in ("typed rows", "typed fields", "OIP"):
        yield _rate(found, (fast, "linear", route, "16"), 20_000)
    yield _rate(found, (plain, "linear", "typed rows", "16"), 9_000)
    for route in ("typed rows", "typed fields", "OIP"):
        yield _rate(found, (fast, "trees", route, "16"), 16_000)
    for model in ("linear", "trees"):
        yield _late(found, (fast, model, "typed rows", "steady"))
    yield _times(found, "16", ("unbatched",), target=6)
    yield _over_mlflow(found)
    yield _times(found, "64", ("batched",), target=1)
    for model in ("linear", "trees"):
        yield _times(found, "batch", ("batched", "unbatched"), target=3, model=model)
    yield _second_worker(found)
    yield _at_most("cold start: command to first answer", found.middle(fast, "start", "seconds"), 1.5, "s")
    yield _memory(found)


def _at_most(what: str, value: float | None, limit: float, unit: str) -> Promise:
    target = f"<= {limit:g} {unit}"
    return Promise(what, target) if value is None else Promise(what, target, f"{_shown(value)} {unit}", value <= limit)


def _at_least(what: str, value: float | None, limit: float, unit: str) -> Promise:
    target = f">= {limit:,g}{unit}"
    return Promise(what, target) if value is None else Promise(what, target, f"{_shown(value)}{unit}", value >= limit)


def _rate(found: Samples, key: Key, target: float) -> Promise:
    rate = found.figure(key, "requests_per_s")
    what = f"{key[0]}, {key[1]}, {key[2]}, {_LOADS[key[3]]}"
    return _at_least(what, rate.median if rate else None, target, "/s")


def _late(found: Samples, key: Key) -> Promise:
    late, bare = found.figure(key, "p99_ms"), found.figure((_CEILING, "linear", "", "steady"), "p99_ms")
    what = f"p99 at 80 % of the maximum, {key[1]}, open loop"
    if bare:
        what += f" (a constant answer: {_shown(bare.median)} ms)"
    return _at_most(what, late.median if late else None, 5, "ms")


def _times(found: Samples, load: str, kinds: tuple[str, ...], *, target: float, model: str = "linear") -> Promise:
    ours, peer = found.best(("ours",), model, load), found.best(kinds, model, load)
    what = f"against the fastest {' or '.join(kinds)} peer, {model}, {_LOADS[load]}"
    if not ours or not peer:
        return Promise(what, f">= {target:g}x")
    text = f"{ours[1] / peer[1]:.1f}x: {ours[0]} {_shown(ours[1])} rows/s, {peer[0]} {_shown(peer[1])}"
    return Promise(what, f">= {target:g}x", text, ours[1] >= target * peer[1])


def _over_mlflow(found: Samples) -> Promise:
    ours = found.best(("ours",), "linear", "16")
    theirs = found.figure(("MLflow, frame", "linear", "", "16"), "requests_per_s")
    return _at_least("against MLflow's default", ours[1] / theirs.median if ours and theirs else None, 130, "x")


def _second_worker(found: Samples) -> Promise:
    names = ("Penstock on both cores, uncompiled, 1 worker", "Penstock on both cores, uncompiled, 2 workers")
    one, two = (found.figure((name, "linear", "typed fields", "64"), "requests_per_s") for name in names)
    return _at_least(
        "two workers against one, typed fields, uncompiled", two.median / one.median if one and two else None, 1.8, "x"
    )


def _memory(found: Samples) -> Promise:
    what = "memory of a worker beyond Python with the model and its library"
    worker, bare = (found.middle(name, "memory", "largest_bytes") for name in ("Penstock", "linear model alone"))
    return _at_most(what, (worker - bare) / _MIB if worker and bare else None, 120, "MB")


def _median(found: Samples, key: Key, name: str) -> float:
    figure = found.figure(key, name)
    return figure.median if figure else float("nan")


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [heads, *rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    lines = [
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
