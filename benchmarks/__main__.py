"""Runs the benchmarks and prints one table: `python -m benchmarks [startup] [steps] [slices] ... [--json]`."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import experiments, frames, intake, keys, pages, profiles, rollouts, slices, startup, steps
from benchmarks.drift.__main__ import main as drift
from benchmarks.table import Row, as_data, as_text, machine

ROOMS: dict[str, Callable[[], list[Row]]] = {
    "startup": startup.rows,
    "steps": steps.rows,
    "frames": frames.rows,
    "slices": slices.rows,
    "experiments": experiments.rows,
    "keys": keys.rows,
    "rollouts": rollouts.rows,
    "pages": pages.rows,
}


def take_in(rows: int, batches: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = intake.make_batches(rows, batches)
        intake.intake(Path(folder), made)
        del made
        intake.upsert(Path(folder), rows)
        intake.as_of(Path(folder), rows)


def main() -> None:
    apart = {"drift": drift, "profiles": profiles.main}
    if len(sys.argv) > 1 and sys.argv[1] in apart:
        apart[sys.argv[1]](sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "rooms",
        nargs="*",
        default=[*ROOMS, "intake"],
        help="startup, steps, frames, slices, experiments, keys, rollouts, pages, intake; all by default",
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON; intake prints a table of its own")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows taken in; 10,000,000 is what is promised for")
    parser.add_argument("--batches", type=int, default=100)
    options = parser.parse_args()
    described = machine()
    found = [row for room, measure in ROOMS.items() if room in options.rooms for row in measure()]
    if options.json:
        print(json.dumps({"machine": described, "rows": as_data(found)}, indent=2))
        return
    print(f"{described}\n")
    if found:
        print(as_text(found))
    if "intake" in options.rooms:
        print(f"\nIntake of {options.rows:,} rows x 20 columns in {options.batches} batches:")
        take_in(options.rows, options.batches)


if __name__ == "__main__":
    main()
