"""Serving compared: `python -m benchmarks.serving install|run|table --peers DIR`. See docs/reference/benchmarks.md."""

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks.serving import report
from benchmarks.serving.environments import install, python_of
from benchmarks.serving.loads import has_generator
from benchmarks.serving.processes import prefer
from benchmarks.serving.projects import make_projects
from benchmarks.serving.rounds import Plan, Run, Turn, read, selected
from benchmarks.serving.servers import ceiling, ours, ours_on_both_cores, peers

MODELS = ("linear", "trees")
ROWS = ("16", "64", "batch")
PEERS = {
    "linear": {"*": ROWS, "v2": ("16",), "v2 binary": ("batch",)},
    "trees": {"*": ("16", "batch"), "v2": ("16",), "v2 binary": ("batch",)},
}
OURS = {
    "typed rows": ("16", "64", "steady", "batch"),
    "typed fields": ("16", "64"),
    "OIP": ("16", "64", "batch"),
    "invocations": ("16",),
    "OIP binary": ("batch",),
    "Arrow": ("batch",),
}
PLAIN = {"linear": ("16", "64", "steady", "batch"), "trees": ("16",)}
GENERATOR, BOTH = 1, (0, 1)


def turns(model: str) -> list[Turn]:
    """Return one round of a model: everyone once, ours with each way to be asked."""
    found = [Turn(server=ceiling(), loads={"*": ("16", "64", "steady")})] if model == "linear" else []
    found += [Turn(server=server, loads=PEERS[model]) for server in peers(model)]
    found.append(Turn(server=ours(model, compiled=True), loads=OURS))
    found.append(Turn(server=ours(model, compiled=False), loads={"typed rows": PLAIN[model]}))
    if model == "linear":
        both = {"typed fields": ("16", "64")}
        found += [Turn(server=ours_on_both_cores(model, workers), loads=both, cores=BOTH) for workers in (1, 2)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("what", choices=["install", "run", "table"])
    parser.add_argument("servers", nargs="*", help="names or their beginnings; all by default")
    parser.add_argument("--peers", type=Path, default=Path.home() / ".cache" / "penstock-serving-peers")
    parser.add_argument("--scratch", type=Path, default=Path(f"/tmp/penstock-serving-{os.getuid()}"))  # noqa: S108  # a benchmark's own
    parser.add_argument("--out", type=Path, help="samples, one JSON object a line; added to when it exists")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_intermixed_args()
    if options.what == "install":
        failed = install(options.peers)
        print("\n".join(f"{name}: {reason}" for name, reason in failed.items()) or f"all peers are in {options.peers}")
        return bool(failed)
    out = options.out or options.scratch / f"samples-{int(time.time())}.jsonl"
    models = tuple(options.models.split(","))
    if options.what == "run":
        if not has_generator():
            sys.exit("This benchmark needs wrk: apt-get install wrk")
        prefer(os.getpid())
        os.sched_setaffinity(0, {GENERATOR})
        make_projects(options.scratch, models, python_of(options.peers, "penstock"))
        plan = Plan(scratch=options.scratch, peers=options.peers, seconds=options.seconds, rounds=options.rounds)
        Run(plan, out).rounds(selected([turn for model in models for turn in turns(model)], options.servers))
    print(report.table(read(out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
