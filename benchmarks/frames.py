"""A frame of 1,000,000 rows x 20 floats handed from step to step, against bare Arrow files doing the same."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from benchmarks.steps import medians, project, run, run_anew
from benchmarks.table import Row, in_turn
from pyarrow import ipc

from penstock.project.workspace import open_workspace
from penstock.store.ledger import attempts

ROWS, COLUMNS = 1_000_000, 20
HEAD = f"""
import numpy as np
import polars as pl
from penstock import Pipeline

bench = Pipeline("bench")

@bench.step
def f0() -> pl.DataFrame:
    random = np.random.default_rng(0)
    return pl.DataFrame({{f"c{{n}}": random.standard_normal({ROWS}) for n in range({COLUMNS})}})
"""
STEP = """
@bench.step
def f{n}(f{before}: pl.DataFrame) -> pl.DataFrame:
    return f{before}.with_columns(pl.col("c0") + {n})
"""


def rows(steps: int = 5) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        made = project(Path(folder) / "made", chain(0))
        short, long = project(Path(folder) / "short", chain(steps)), project(Path(folder) / "long", chain(3 * steps))
        made_s, short_s = medians(partial(run_anew, made), partial(run_anew, short), times=3)
        (bare_s,) = in_turn(bare(Path(folder), steps), times=3)
        run_anew(long)
        peaks_mb = [peak_bytes(root) / 1e6 for root in (short, long)]
    size = f"{ROWS * COLUMNS * 8 / 1e6:.0f} MB"
    return [
        Row(f"a frame of {size} through {steps} steps", short_s - made_s, "s", bare_s,
            f"Arrow files written and mapped {steps} times", limit=1.5, is_ratio=True),
        Row(f"peak memory, {3 * steps} steps against {steps}", peaks_mb[1], "MB", peaks_mb[0], f"{steps} steps",
            limit=1.1, is_ratio=True),
    ]  # fmt: skip


def chain(steps: int) -> str:
    return HEAD + "".join(STEP.format(n=n, before=n - 1) for n in range(1, steps + 1))


def bare(folder: Path, steps: int) -> partial[None]:
    random = np.random.default_rng(0)
    table = pa.table({f"c{n}": random.standard_normal(ROWS) for n in range(COLUMNS)})
    return partial(write_and_map, table, folder, steps)


def write_and_map(table: pa.Table, folder: Path, steps: int) -> None:
    for step in range(steps):
        path = folder / f"bare{step}.arrow"
        with ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
        table = ipc.open_file(pa.memory_map(str(path))).read_all()


def peak_bytes(root: Path) -> int:
    """Return the largest peak of resident memory over the attempts of the last run."""
    report = run(root)  # nothing is left to do, so it only tells which run came before
    with open_workspace(root) as workspace, workspace.ledger.read() as conn:
        return max(attempt.peak_bytes or 0 for attempt in attempts.of_run(conn, report.run_id - 1))
