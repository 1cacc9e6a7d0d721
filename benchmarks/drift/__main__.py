"""Drift judged: `python -m benchmarks drift [rates] [delays] [peers] [real]`. See docs/reference/benchmarks.md."""

import argparse
import functools
import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from benchmarks.drift import peers_run, real
from benchmarks.drift.ours import WINDOWS, Counts, delayed, judged, quartiles
from benchmarks.drift.plain import PLAIN
from benchmarks.drift.streams import KINDS, Kind, Stream, shift
from benchmarks.table import machine

from penstock.checks.statistics import Grouped, mean_intervals
from penstock.monitoring.drift.compare import Budget, Reference, Seen, compare
from penstock.monitoring.profiles.profile import profile

PARTS = ("rates", "delays", "peers", "real")
BIG = 1_000_000
# Streams below were looked at while weights and caution were chosen: what they show flatters.
FRESH = 1_000
PEERS = Path.home() / ".cache" / "penstock-drift-peers"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks drift", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--rows", default="1000,10000", help="rows per window; 1000000 takes hours")
    parser.add_argument("--streams", type=int, default=200, help="of each kind")
    parser.add_argument(
        "--first", type=int, default=FRESH, help="seed of the first stream; below 1000 are those tuned on"
    )
    parser.add_argument("--kinds", default="", help="beginnings of names, with commas; all by default")
    parser.add_argument("--peers", type=Path, default=PEERS, help="folder with an environment for each peer")
    parser.add_argument("--install", action="store_true", help="make these environments first (6 GB)")
    parser.add_argument(
        "--pairs", type=int, default=40, help="pairs of windows of each kind that peers are asked about"
    )
    parser.add_argument("--data", type=Path, default=real.DATA, help="folder of elec2, bank_marketing and nab")
    parser.add_argument("--limit", type=float, default=1800, help="seconds that a peer may take")
    options = parser.parse_args(arguments)
    print(f"{machine()}\n")
    names = tuple(name for name in options.kinds.split(",") if name) or ("",)
    kinds = [kind for kind in KINDS if kind.name.startswith(names)]
    if "rates" in options.parts:
        for rows in (int(one) for one in options.rows.split(",")):
            rates(kinds, rows, range(options.first, options.first + options.streams), options.looks)
    if "delays" in options.parts:
        delays(kinds, 1000, range(options.first, options.first + max(options.streams // 5, 1)))
    if "peers" in options.parts:
        if options.install:
            print("\n".join(f"{name}: {why}" for name, why in peers_run.install(options.peers).items()))
        against_peers(options.peers, options.pairs, options.limit)
    if "real" in options.parts:
        on_real_streams(options.data)


def rates(kinds: Sequence[Kind], rows: int, streams: range, looks: int) -> None:
    """Print false alarms and power, a line per kind."""
    print(f"\nWindows of {rows:,} rows, {WINDOWS if rows < BIG else 24} before them, budget 1 %:\n")
    print("| stream | false alarms per window (95 % interval) | found: 0.1 / 0.25 / 0.5 spreads | two humps |"
          " spread x 1.5 | 5 % missing | mix |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for kind in kinds:
        counts, shares = _over(kind, rows, streams, looks)
        found = [f"{100 * number / counts.tried:.0f} %" for number in counts.found.values()]
        print(f"| {kind.name} | {counts.alarms} of {counts.looks}: {shares} | {' / '.join(found[:3])} "
              f"| {' | '.join(found[3:])} |", flush=True)  # fmt: skip
        if counts.columns:
            print(f"<!-- false: {', '.join(counts.columns)} -->")


def delays(kinds: Sequence[Kind], rows: int, streams: range) -> None:
    """Print how many windows pass before a lasting shift of one column alarms."""
    print(
        f"\nMedian windows until the first alarm of that column, {rows:,} rows each (streams that alarmed within 10):\n"
    )
    print("| stream | 0.1 spreads | 0.25 | 0.5 |\n|---|---|---|---|")
    for kind in kinds:
        cells = []
        for size in (0.1, 0.25, 0.5):
            with ProcessPoolExecutor() as pool:
                found = list(pool.map(functools.partial(delayed, kind, rows, size=size), streams))
            cells.append(quartiles([one for part in found for one in part.delays[shift(size).name]]))
        print(f"| {kind.name} | {' | '.join(cells)} |", flush=True)


def against_peers(folder: Path, pairs: int, limit_s: float) -> None:
    """Print who alarms about how many pairs of windows, of which some have a shift in one column."""
    with tempfile.TemporaryDirectory() as scratch:
        arms = {"independent": KINDS[0], "wobbling": KINDS[1]}
        for name, kind in arms.items():
            for seed in range(pairs):
                _write_pair(Path(scratch), f"{name}-{seed:03d}", kind, seed)
        print(f"\nPairs of 10,000 rows, {pairs} of each kind: any column alarmed when nothing changed; the shifted"
              " column alarmed, 0.25 spreads:\n\n| judge | independent | wobbling | found, indep. | found, wobbling |"
              " CPU s per pair |\n|---|---|---|---|---|---|")  # fmt: skip
        print(_line("Penstock, 1 % budget", _of_ours(Path(scratch)), ""), flush=True)
        for name, judge in PLAIN.items():
            print(
                _line(name, {pair: judge(*_read(Path(scratch), pair)) for pair in _pairs(Path(scratch))}, ""),
                flush=True,
            )
        for name in peers_run.REQUIREMENTS:
            answer = peers_run.asked(folder, name, Path(scratch), limit_s)
            label = f"{name} {answer.version}".strip()
            said = _line(label, answer.columns, f"{answer.seconds:.2g}")
            print(f"| {label} | {answer.reason} |" if answer.reason else said, flush=True)


def on_real_streams(folder: Path) -> None:
    """Print what alarms in real streams."""
    print(f"\nElectricity, days: {real.told(real.electricity(folder))}", flush=True)
    print(f"Bank marketing, 500 calls each: {real.told(real.calls(folder))}", flush=True)
    found = list(real.anomalies(folder).values())
    totals = {name: sum(getattr(one, name) for one in found) for name in ("labelled", "hit", "looks", "false")}
    print(f"NAB, {len(found)} series, windows of four hours: {json.dumps(totals)}")


def _over(kind: Kind, rows: int, streams: range, most: int) -> tuple[Counts, str]:
    windows, looks = (WINDOWS, most) if rows < BIG else (24, min(most, 5))
    counts = Counts()
    shares = []
    with ProcessPoolExecutor() as pool:
        work = functools.partial(judged, kind, rows, windows=windows, looks=looks)
        for one in pool.map(work, streams):
            counts.add(one)
            shares.append(one.alarms / one.looks)
    # Windows of one stream share their reference: the streams are what is independent.
    interval = mean_intervals(Grouped.of(np.array(shares)), "nonnegative")
    low, high = 100 * float(interval.low[0]), 100 * float(interval.high[0])
    return counts, f"{100 * counts.alarms / counts.looks:.2f} % ({low:.2f} to {high:.2f})"


def _write_pair(folder: Path, name: str, kind: Kind, seed: int) -> None:
    """Write rows drawn from all reference windows, the window after them, and that window with a shift."""
    stream = Stream(kind, 10_000, 10_000 + seed)
    before = [stream.rows() for _ in range(24)]
    now = stream.rows()
    drawn = pl.concat([frame.sample(10_000 // 24, seed=seed) for frame in before])
    change = shift(0.25)
    moved = now.with_columns(change.make(now[change.column], np.random.default_rng(seed)).alias(change.column))
    for label, frame in (("same", now), ("moved", moved)):
        drawn.write_parquet(folder / f"{name}-{label}-before.parquet")
        frame.write_parquet(folder / f"{name}-{label}-now.parquet")
    pl.concat(before).write_parquet(folder / f"{name}-all.parquet")


def _of_ours(folder: Path) -> dict[str, list[str]]:
    """Judge as a monitor does: with the windows of the reference apart, which the others have no use for."""
    found = {}
    for pair in _pairs(folder):
        frame = pl.read_parquet(folder / f"{pair.rpartition('-')[0]}-all.parquet")
        first = Stream(KINDS[0], 1, 0).start()
        windows = [
            Seen(start=first + timedelta(days=day), profile=profile(frame.slice(day * 10_000, 10_000)))
            for day in range(24)
        ]
        now = Seen(start=first + timedelta(days=24), profile=profile(_read(folder, pair)[1]))
        alarms = compare(Reference(windows), now, budget=Budget(), subject="")
        found[pair] = [one.subject[1:] for one in alarms if one.is_alarm]
    return found


def _pairs(folder: Path) -> list[str]:
    return [path.name.removesuffix("-now.parquet") for path in sorted(folder.glob("*-now.parquet"))]


def _read(folder: Path, pair: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.read_parquet(folder / f"{pair}-before.parquet"), pl.read_parquet(folder / f"{pair}-now.parquet")


def _line(name: str, columns: dict[str, list[str]], seconds: str) -> str:
    cells = []
    for label, test in (("same", bool), ("moved", lambda found: "n0" in found)):
        for kind in ("independent", "wobbling"):
            mine = [test(found) for pair, found in columns.items() if pair.startswith(kind) and pair.endswith(label)]
            cells.append(f"{100 * np.mean(mine):.0f} % of {len(mine)}" if mine else "none in time")
    return f"| {name} | {' | '.join(cells)} | {seconds} |"


if __name__ == "__main__":
    main()
