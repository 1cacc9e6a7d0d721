"""How the movies pipeline ages on MovieTweetings: `python -m benchmarks.ageing DATA [--folder KEPT]`.

Releases are made with `--now` at gaps of 1, 2, 4, 7 and 14 days; each judges all earlier ones on its own held-out rows.
Prints every comparison and the curve through them. Takes some minutes: every release is a training of its own.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from penstock.core.clock import Clock
from penstock.core.settings import load_settings
from penstock.monitoring.staleness import Pair, fit
from penstock.project.ageing import evaluation_of, pairs_of
from penstock.project.crew import kept_crew
from penstock.project.running import RunOptions, run_graph
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace, open_store
from penstock.store.ledger import attempts
from penstock.worker.weighing import DAY_S

EXAMPLE = Path(__file__).parents[1] / "examples" / "movies"
GAPS_DAYS = (0, 1, 2, 4, 7, 14)
SHOWN_DAYS = (1, 2, 4, 7, 14, 28)


def lay_out(data: Path, root: Path) -> None:
    """Write the example and the data as it wants them."""
    shutil.copytree(EXAMPLE, root, dirs_exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    shutil.copy(data / "ratings.parquet", root / "data" / "ratings.parquet")
    titles = pl.read_parquet(data / "movies.parquet")
    titles.write_parquet(root / "data" / "titles.parquet")


def measure(root: Path, begin: datetime, *, weeks: int) -> list[Pair]:
    """Make the releases and return what they showed of each other."""
    with kept_crew() as crew, open_store(load_settings(root), Clock(), crew) as workspace:
        now = begin
        for gap in GAPS_DAYS:
            now += timedelta(days=gap)
            release(workspace, now, weeks=weeks)
        graph = find_graph(workspace, "movies")
        evaluation = evaluation_of(graph)
        return [] if evaluation is None else pairs_of(workspace, "movies", evaluation)


def release(workspace: Workspace, now: datetime, *, weeks: int) -> None:
    """Retrain as of a day, and judge every earlier release on the same rows."""
    options = RunOptions(params={"recommender.weeks": weeks}, now=now, earlier=len(GAPS_DAYS))
    report = run_graph(find_graph(workspace, "movies"), workspace, options)
    with workspace.ledger.read() as conn:
        used = attempts.of_run(conn, report.run_id)
    judged = sum(a.node.startswith("age:") for a in used)
    spent = {name: sum(a.cpu_s or 0.0 for a in used if a.node.startswith(name)) for name in ("", "recommender", "age:")}
    parts = f"{spent['recommender']:.0f} for the model, {spent['age:']:.0f} for {judged} earlier releases"
    said = f"{spent['']:.0f} CPU s, of them {parts}"
    print(f"{now:%Y-%m-%d} {report.state} {report.release}: {said}", file=sys.stderr, flush=True)


def table(pairs: list[Pair]) -> str:
    """Return comparisons and curve as text."""
    lines = ["age, days | loss, % of the metric | 95 % interval"]
    lines += [
        f"{p.age_s / DAY_S:9.0f} | {100 * p.loss:23.2f} | {100 * p.low:.2f} to {100 * p.high:.2f}"
        for p in sorted(pairs, key=lambda p: p.age_s)
    ]
    curve = fit(pairs)
    if curve is not None:
        lines.append("fitted:")
        for days in SHOWN_DAYS:
            found = curve.loss(days * DAY_S)
            lines.append(f"{days:9d} | {100 * found.mean:23.2f} | {100 * found.low:.2f} to {100 * found.high:.2f}")
    return "\n".join(lines)


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ageing", description=__doc__)
    parser.add_argument("data", type=Path, help="the folder with ratings.parquet and movies.parquet")
    parser.add_argument("--folder", type=Path, help="where the project is laid out and kept")
    parser.add_argument("--from", dest="begin", default="2013-08-01", help="day of the first release")
    parser.add_argument("--weeks", type=int, default=18, help="weeks that the ranker learns from")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with _folder(options.folder) as root:
        if not (root / "movies.py").exists():
            lay_out(options.data, root)
        pairs = measure(root, datetime.fromisoformat(options.begin).replace(tzinfo=UTC), weeks=options.weeks)
    if options.json:
        print(json.dumps([{"age_days": p.age_s / DAY_S, "loss": p.loss, "low": p.low, "high": p.high} for p in pairs]))
        return
    print(table(pairs))


if __name__ == "__main__":
    main()
