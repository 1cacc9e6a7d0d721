"""Intake, upsert and as-of join against bare deltalake and bare Polars, in one run.

Usage: python benchmarks/intake.py [--rows 10000000] [--batches 100]
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from deltalake import write_deltalake

from penstock.store.lake import IntakeRules, Lake, Table


def make_batches(rows: int, batches: int) -> list[pl.DataFrame]:
    """Return rows x 20 columns: a key, a time, eight integers, nine floats and a text, in equal batches."""
    per_batch = rows // batches
    return [make_batch(number * per_batch, per_batch) for number in range(batches)]


def make_batch(start: int, rows: int) -> pl.DataFrame:
    random = np.random.default_rng(start)
    columns: dict[str, object] = {
        "id": np.arange(start, start + rows),
        "at": pl.Series(np.arange(start, start + rows) * 1_000_000).cast(pl.Datetime("us")),
    }
    columns |= {f"i{n}": random.integers(0, 1_000_000, rows) for n in range(8)}
    columns |= {f"f{n}": random.standard_normal(rows) for n in range(9)}
    columns["text"] = pl.Series(random.integers(0, 10_000, rows)).cast(pl.String()).str.pad_start(12, "n")
    return pl.DataFrame(columns)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def take_in_one_by_one(table: Table, batches: list[pl.DataFrame], key: tuple[str, ...]) -> None:
    for number, batch in enumerate(batches):
        table.intake(iter([batch]), IntakeRules(key=key, time="at", expected_version=number))


def bare_append(folder: Path, batches: list[pl.DataFrame]) -> None:
    for batch in batches:
        write_deltalake(folder, batch.to_arrow(compat_level=pl.CompatLevel.oldest()), mode="append")


def intake(root: Path, batches: list[pl.DataFrame]) -> Table:
    lake = Lake(root / "lake")
    arms: list[tuple[str, float]] = [("bare deltalake, appends", timed(lambda: bare_append(root / "bare", batches)))]
    shutil.rmtree(root / "bare")
    for name, key in (("no key", ()), ("key id", ("id",)), ("key i0+id", ("i0", "id"))):
        table = lake.table("bench", name.replace(" ", "-").replace("+", "-"))
        arms.append((f"one intake per batch, {name}", timed(lambda t=table, k=key: take_in_one_by_one(t, batches, k))))  # type: ignore[misc]  # bound per arm
    streamed = lake.table("bench", "streamed")
    arms.append(
        (
            "one streamed intake, key id",
            timed(lambda: streamed.intake(iter(batches), IntakeRules(key=("id",), time="at"))),
        )
    )
    bare_s = arms[0][1]
    for name, seconds in arms:
        print(f"{name:<40} {seconds:8.2f} s   speed {bare_s / seconds:5.2f}x of bare deltalake")
    return lake.table("bench", "key-i0-id")


def folder_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def upsert(root: Path, rows: int) -> None:
    table = Lake(root / "lake").table("bench", "streamed")
    before = folder_bytes(root / "lake" / "bench" / "streamed")
    count = rows // 100
    chosen = np.sort(np.random.default_rng(1).choice(rows, count, replace=False))
    fresh = make_batch(rows, count).with_columns(pl.Series("id", chosen))
    last = table.latest()
    assert last is not None
    write_s = timed(
        lambda: table.intake(iter([fresh]), IntakeRules(key=("id",), time="at", expected_version=last.version))
    )
    version = table.latest()
    assert version is not None
    newest = pl.LazyFrame({"id": chosen})

    def read_back() -> pl.DataFrame:
        return table.scan(version).join(newest, on="id", how="semi").collect(engine="streaming")

    read_s = min(timed(read_back) for _ in range(3))
    back = read_back()
    assert back.height == count
    assert back.sort("id")["f0"].equals(fresh["f0"])
    assert table.count(version) == rows
    written = folder_bytes(root / "lake" / "bench" / "streamed") - before
    print(
        f"upsert of {count:,} rows into {rows:,}: intake {write_s:.2f} s, read back {read_s:.2f} s, "
        f"{written / 1e6:.1f} MB written, replaced {version.replaced:,}"
    )
    full_s = timed(lambda: table.scan(version).select(pl.col("f0").sum()).collect(engine="streaming"))
    print(f"sum of one column over the upserted table: {full_s:.2f} s")


def as_of(root: Path, rows: int) -> None:
    labels = pl.DataFrame({"at": np.sort(np.random.default_rng(2).integers(0, rows, rows // 10)) * 1_000_000 + 1})
    labels = labels.with_columns(pl.col("at").cast(pl.Datetime("us")), label=pl.int_range(pl.len()))
    table = Lake(root / "lake").table("bench", "no-key")
    version = table.latest()
    assert version is not None
    files = sorted((root / "lake" / "bench" / "no-key").glob("*.parquet"))

    def join(frame: pl.LazyFrame) -> pl.DataFrame:
        return labels.lazy().join_asof(frame.select("at", "f0", "f1", "i0").set_sorted("at"), on="at").collect()

    bare_s = min(timed(lambda: join(pl.scan_parquet(files))) for _ in range(3))
    ours_s = min(timed(lambda: join(table.scan(version))) for _ in range(3))
    print(
        f"as-of join of {labels.height:,} labels to {rows:,} rows: "
        f"bare Polars {bare_s:.2f} s, over scan() {ours_s:.2f} s, {ours_s / bare_s:.2f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--directory", type=Path, default=None, help="where to write; a temporary directory by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        root = Path(folder)
        batches = make_batches(options.rows, options.batches)
        intake(root, batches)
        del batches
        upsert(root, options.rows)
        as_of(root, options.rows)


if __name__ == "__main__":
    main()
