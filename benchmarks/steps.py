"""What a step costs when everything is recorded: chains, re-runs, plans and fan-outs of trivial functions."""

import importlib.util
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.table import Row, in_turn

from penstock.pipeline.graph import Graph
from penstock.project.planning import plan_graph
from penstock.project.running import RunOptions, RunReport, run_graph
from penstock.project.targets import find_graph
from penstock.project.workspace import open_workspace

OPTIONS = RunOptions(params={})
HEAD = "from penstock import Pipeline\n\nbench = Pipeline('bench')\n\n\ndef add(x: int) -> int:\n    return x + 1\n"
FIRST = "\n\n@bench.step\ndef n0() -> int:\n    return 0\n"
FAN_OUT = """
import polars as pl

@bench.step
def rows() -> pl.DataFrame:
    return pl.DataFrame({"store": range(100), "x": range(100)})

@bench.step(each="store")
def one(rows: pl.DataFrame) -> int:
    return len(rows)
"""


def rows() -> list[Row]:
    return [*overhead(), *unchanged(), *planning(), fan_out()]


def chain(length: int) -> str:
    steps = [f"\n\n@bench.step\ndef n{i}(n{i - 1}: int) -> int:\n    return add(n{i - 1})\n" for i in range(1, length)]
    return HEAD + FIRST + "".join(steps)


def project(folder: Path, source: str) -> Path:
    folder.mkdir()
    (folder / "bench.py").write_text(source, encoding="utf-8")
    return folder


def graph_of(root: Path) -> Graph:
    with open_workspace(root) as workspace:
        return find_graph(workspace)


def run(root: Path) -> RunReport:
    with open_workspace(root) as workspace:
        report = run_graph(find_graph(workspace), workspace, OPTIONS)
    assert report.state == "succeeded", report
    return report


def run_anew(root: Path) -> float:
    """Return the seconds of a run that finds nothing kept; the graph is known already."""
    shutil.rmtree(root / ".penstock", ignore_errors=True)
    graph_of(root)
    start = time.perf_counter()
    run(root)
    return time.perf_counter() - start


def medians(*arms: Callable[[], float], times: int = 5) -> list[float]:
    taken = [[arm() for arm in arms] for _ in range(times)]
    return [statistics.median(seconds) for seconds in zip(*taken, strict=True)]


def call_directly(root: Path) -> Callable[[], object]:
    spec = importlib.util.spec_from_file_location("bench_direct", root / "bench.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    functions = [getattr(module, f"n{i}") for i in range(50)]

    def call() -> int:
        value: int = functions[0]()
        for function in functions[1:]:
            value = function(value)
        return value

    return call


def overhead() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        short, long = project(Path(folder) / "one", chain(1)), project(Path(folder) / "fifty", chain(50))
        one_s, fifty_s = medians(partial(run_anew, short), partial(run_anew, long))
        (direct_s,) = in_turn(call_directly(long))
        (worker_s,) = in_turn(
            lambda: subprocess.run([sys.executable, "-c", "import penstock.engine.worker"], check=True)
        )
    per_step_ms = 1000 * (fifty_s - one_s) / 49
    return [
        Row("overhead of a trivial step, 50 in a row, all recorded", per_step_ms, "ms", 1000 * direct_s / 50,
            "calling the functions", limit=5.0),
        Row("a run of one trivial step, new release included", 1000 * one_s, "ms", 1000 * worker_s,
            "starting a run process"),
    ]  # fmt: skip


def unchanged() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = project(Path(folder) / "fifty", chain(50) + "\n\nif __name__ == '__main__':\n    bench.run()\n")
        run(root)
        command = [sys.executable, "-m", "penstock", "run", "--quiet"]
        called_s, script_s, command_s, bare_s = in_turn(
            lambda: run(root),
            lambda: subprocess.run([sys.executable, "bench.py"], cwd=root, check=True),
            lambda: subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL),
            lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
        )
    return [
        Row("50 steps again, nothing changed: in a process that has run before", called_s, "s", limit=0.3),
        Row("50 steps again, nothing changed: a script that calls run()", script_s, "s", bare_s, "python -c pass", 0.3),
        Row("50 steps again, nothing changed: `penstock run --quiet`", command_s, "s", bare_s, "python -c pass", 0.3),
    ]


def planning() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = project(Path(folder) / "thousand", chain(1000))
        (bare_s,) = in_turn(
            lambda: subprocess.run([sys.executable, "-c", "import penstock, bench"], cwd=root, check=True), times=3
        )
        new_s, known_s = medians(partial(plan_after, root, forget=True), partial(plan_after, root, forget=False))
        run(root)
        kept_s = statistics.median(plan_after(root, forget=False) for _ in range(5))
    return [
        Row("plan of 1,000 nodes, the file never seen before", new_s, "s", bare_s, "importing the file", 0.5),
        Row("plan of 1,000 nodes, the file as it was, nothing kept", known_s, "s", bare_s, "importing the file", 0.5),
        Row("plan of 1,000 nodes, all of them kept", kept_s, "s", bare_s, "importing the file", 0.5),
    ]


def plan_after(root: Path, *, forget: bool) -> float:
    if forget:
        shutil.rmtree(root / ".penstock" / "cache", ignore_errors=True)
    start = time.perf_counter()
    with open_workspace(root) as workspace:
        plan_graph(find_graph(workspace), workspace, OPTIONS)
    return time.perf_counter() - start


def fan_out() -> Row:
    with tempfile.TemporaryDirectory() as folder:
        root = project(Path(folder) / "fan", HEAD + FAN_OUT)
        (fan_s,) = medians(partial(run_anew, root))
    return Row("fan-out of 100 trivial steps, the cut included", fan_s, "s", limit=1.5)
