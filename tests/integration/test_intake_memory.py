"""Rows far larger than the memory a process may use are taken in and read in a stream."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

PROGRAM = """
import resource, sys
from pathlib import Path
import polars as pl
from penstock import sources
from penstock.store.lake import IntakeRules, Lake

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

batches, _ = sources.to_batches({source}, None)
before = peak()
table = Lake(Path(sys.argv[2])).table("p", "d")
version = table.intake(batches, IntakeRules(key=("id",), time="id"))
assert version.rows == {rows}, version
print(peak() - before)
"""
ROWS = 1_000_000
COPIES = 8


def _grown(source: str, rows: int, data: Path, lake: Path) -> int:
    """Return by how many bytes the peak memory grew during the intake."""
    program = PROGRAM.replace("{source}", source).replace("{rows}", str(rows))
    done = subprocess.run(
        [sys.executable, "-c", program, str(data), str(lake)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Eight times the rows cost little more memory than one, far less than the rows themselves."""
    random = np.random.default_rng(0)
    for number in range(COPIES):
        columns = {f"x{n}": random.standard_normal(ROWS) for n in range(15)}
        frame = pl.DataFrame({"id": np.arange(ROWS) + number * ROWS, **columns})
        folder = tmp_path / ("one" if number == 0 else "more")
        folder.mkdir(exist_ok=True)
        frame.write_parquet(folder / f"{number}.parquet", compression="uncompressed")
    (tmp_path / "more" / "0.parquet").hardlink_to(tmp_path / "one" / "0.parquet")
    whole_bytes = ROWS * COPIES * 16 * 8
    for source in ('sources.files(sys.argv[1] + "/*.parquet")', 'pl.scan_parquet(sys.argv[1] + "/*.parquet")'):
        name = source[:3]
        one = _grown(source, ROWS, tmp_path / "one", tmp_path / f"{name}-one")
        more = _grown(source, ROWS * COPIES, tmp_path / "more", tmp_path / f"{name}-more")
        assert more < whole_bytes * 0.9, f"{source}: {more:,} of {whole_bytes:,} bytes"
        assert more < one + whole_bytes * 0.5, f"{source}: {one:,} bytes for one, {more:,} for {COPIES}"
