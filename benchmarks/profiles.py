"""Profiles of 10M rows x 20 columns beside others with the same content: `python -m benchmarks profiles`.

Content: of 15 columns of numbers the count, missing values, mean, deviation, extremes and five quantiles; of 5
columns of text the count, the number of different values and the most common ones. Each arm is a process of its own
that reads the same Parquet file, so that its peak of memory is its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from benchmarks.table import machine

from penstock.monitoring.drift.compare import Budget, Reference, Seen, compare
from penstock.monitoring.profiles.profile import decode_profile, encode_profile, profile

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
CHUNK = 500_000
TEXTS = {"plan": 5, "city": 200, "shop": 5_000, "word": 100_000, "user": 1_000_000}
DAY = timedelta(days=1)


def write(path: Path, rows: int) -> None:
    """Write rows of 15 columns of numbers and 5 of text, in groups of 500,000."""
    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, CHUNK):
        table = _chunk(rng, min(CHUNK, rows - start)).to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _chunk(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    columns: dict[str, object] = {f"normal{n}": rng.normal(n * 10, n + 1, rows) for n in range(6)}
    columns |= {f"heavy{n}": np.exp(rng.normal(size=rows) * (1 + n)) for n in range(3)}
    columns |= {f"zeros{n}": np.where(rng.random(rows) < 0.7, 0, rng.gamma(2, size=rows)) for n in range(2)}
    columns |= {f"count{n}": rng.poisson(3 + 100 * n, rows) for n in range(2)}
    columns |= {"id": rng.integers(0, 10**9, rows), "at": 1.7e9 + rng.random(rows) * 1e6}
    for name, many in TEXTS.items():
        codes = rng.zipf(1.3, rows) % many if name == "word" else rng.integers(0, many, rows)
        columns[name] = f"{name}-" + pl.Series(codes).cast(pl.String)
    return pl.DataFrame(columns)


def ours(path: str) -> object:
    return profile(pl.scan_parquet(path))


def polars_exact(path: str) -> object:
    numbers, texts = _kinds(path)
    lazy = pl.scan_parquet(path)
    found = lazy.select(
        *(pl.col(name).quantile(share).alias(f"{name} {share}") for name in numbers for share in SHARES),
        *(
            getattr(pl.col(name), what)().alias(f"{name} {what}")
            for name in numbers
            for what in ("mean", "std", "min", "max")
        ),
        *(pl.col(name).n_unique() for name in texts),
    ).collect(engine="streaming")
    top = [lazy.group_by(name).len().top_k(512, by="len").collect(engine="streaming") for name in texts]
    return found, top


def duckdb_approximate(path: str) -> object:
    import duckdb  # noqa: PLC0415 - a peer, asked in a process of its own

    numbers, texts = _kinds(path)
    parts = [
        f'approx_quantile("{name}", {list(SHARES)}), avg("{name}"), stddev("{name}"), min("{name}"), max("{name}")'
        for name in numbers
    ]
    parts += [f'approx_count_distinct("{name}"), approx_top_k("{name}", 512)' for name in texts]
    return duckdb.connect().execute(f"SELECT count(*), {', '.join(parts)} FROM '{path}'").fetchall()  # noqa: S608 - our own names


def datasketches_of(path: str) -> object:
    """KLL for numbers from arrays; counts by polars per batch before HLL and frequent items, one call per value."""
    import datasketches as ds  # noqa: PLC0415 - a peer, in a process of its own

    numbers, texts = _kinds(path)
    kll = {name: ds.kll_doubles_sketch(200) for name in numbers}
    distinct = {name: ds.hll_sketch(12) for name in texts}
    common = {name: ds.frequent_strings_sketch(12) for name in texts}
    moments: list[object] = []
    for batch in pl.scan_parquet(path).collect_batches(chunk_size=CHUNK, maintain_order=False, engine="streaming"):
        for name in numbers:
            kll[name].update(batch[name].cast(pl.Float64).to_numpy().copy())
        moments.append(batch.select(pl.col(numbers).mean().name.suffix("m"), pl.col(numbers).std().name.suffix("s")))
        for name in texts:
            for value, number in batch[name].value_counts().iter_rows():
                distinct[name].update(value)
                common[name].update(value, number)
    return [sketch.get_quantiles(list(SHARES)) for sketch in kll.values()], moments


ARMS: dict[str, Callable[[str], object]] = {
    "Penstock": ours,
    "polars, exact": polars_exact,
    "DuckDB, approximate": duckdb_approximate,
    "datasketches": datasketches_of,
}
WHYLOGS = """
import json, pathlib, sys, time
import pandas as pd, whylogs
frame = pd.read_parquet(sys.argv[1])
start, cpu = time.perf_counter(), time.process_time()
whylogs.log(frame)
print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu,
    "peak_mb": int(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1e3}))
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks profiles", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=3, help="repetitions; the arms take turns")
    parser.add_argument("--limit", type=float, default=600, help="seconds that one repetition of an arm may take")
    parser.add_argument("--whylogs", type=Path, help="interpreter of an environment with whylogs")
    parser.add_argument("--arm", choices=list(ARMS), help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.arm:
        _one(options.arm, options.file)
        return
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write(path, options.rows)
        few = Path(folder) / "few.parquet"
        write(few, options.rows // 20)
        _compared(path, few, options)
    window(options.times)
    answers()


def _compared(path: Path, few: Path, options: argparse.Namespace) -> None:
    print(f"{options.rows:,} rows x 20 columns from Parquet; peak memory also with a twentieth of the rows:\n")
    print("| who | s | CPU s | times ours (CPU) | peak MB | peak MB, a twentieth |\n|---|---|---|---|---|---|")
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    for turn in range(options.times):
        for name in ARMS:
            # One that was too late once is not waited for again.
            if len(taken[name]) == turn and (found := _arm(name, path, options.limit)):
                taken[name].append(found)
    base = statistics.median(run["cpu"] for run in taken["Penstock"])
    for name, runs in taken.items():
        small = _arm(name, few, options.limit)
        if not runs or small is None:
            print(f"| {name} | none within {options.limit:g} s |", flush=True)
            continue
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(f"| {name} | {middle['seconds']:.2f} | {middle['cpu']:.2f} | {middle['cpu'] / base:.1f}x "
              f"| {middle['peak_mb']:.0f} | {small['peak_mb']:.0f} |", flush=True)  # fmt: skip
    if options.whylogs:
        found = _in_process([str(options.whylogs), "-W", "ignore", "-c", WHYLOGS, str(few)])
        print(f"| whylogs, a twentieth of the rows, x 20 | {20 * found['seconds']:.0f} | {20 * found['cpu']:.0f} "
              f"| {20 * found['cpu'] / base:.0f}x | | {found['peak_mb']:.0f} |")  # fmt: skip


def window(times: int) -> None:
    """Print what a drift window of a million rows costs: profile, bytes, reference of 56 windows, comparison."""
    rng = np.random.default_rng(1)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    kept = [encode_profile(profile(_chunk(rng, 20_000))) for _ in range(56)]
    frame = _chunk(rng, 1_000_000)
    taken = []
    for _ in range(times):
        begun, cpu = time.perf_counter(), time.process_time()
        now = Seen(start=start + 56 * DAY, profile=profile(frame))
        profiled = time.process_time()
        reference = Reference(
            [Seen(start=start + at * DAY, profile=decode_profile(one)) for at, one in enumerate(kept)]
        )
        compare(reference, now, budget=Budget(), subject="rows")
        taken.append((time.perf_counter() - begun, profiled - cpu, time.process_time() - profiled))
    wall, first, second = (statistics.median(part) for part in zip(*taken, strict=True))
    print(f"\nA drift window of 1M rows x 20 columns: {wall:.3f} s (CPU: profile {first:.3f} s, "
          f"56 reference windows read and compared {second:.3f} s)")  # fmt: skip


def answers() -> None:
    """Print what a served answer adds: profiles of typed frames of predictions, in batches of 10,000."""
    rng = np.random.default_rng(2)
    frame = pl.DataFrame({
        "user_id": rng.integers(0, 10**6, 10_000), "k": rng.integers(1, 20, 10_000), "amount": rng.gamma(2, 50, 10_000),
        "channel": pl.Series(rng.choice(np.array(["web", "app", "shop"]), 10_000)), "answer": rng.random(10_000),
    })  # fmt: skip
    profile(frame)
    begun = time.process_time()
    for _ in range(20):
        profile(frame)
    each = (time.process_time() - begun) / 20 / frame.height
    print(f"A served answer of 5 columns, in batches of 10,000: {each * 1e6:.2f} us of CPU")


def _one(arm: str, path: str) -> None:
    begun, cpu = time.perf_counter(), time.process_time()
    ARMS[arm](path)
    taken = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    print(json.dumps(taken | {"peak_mb": _peak_mb()}))


def _peak_mb() -> float:
    # Not ru_maxrss: a process begins with that of the one that started it.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


def _arm(name: str, path: Path, limit_s: float) -> dict[str, float] | None:
    """Return what an arm took in a process of its own; nothing where it was not ready in time."""
    command = [sys.executable, "-m", "benchmarks.profiles", "--arm", name, "--file", str(path)]
    try:
        return _in_process(command, limit_s)
    except subprocess.TimeoutExpired:
        return None


def _in_process(command: Sequence[str], limit_s: float | None = None) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit_s)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _kinds(path: str) -> tuple[list[str], list[str]]:
    schema = pl.scan_parquet(path).collect_schema()
    return [name for name, kind in schema.items() if kind.is_numeric()], [
        name for name, kind in schema.items() if kind == pl.String
    ]


if __name__ == "__main__":
    main()
