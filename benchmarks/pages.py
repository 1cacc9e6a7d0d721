"""How long the pages take on the server with a million runs and many events in a ledger of SQLite."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import sqlalchemy as sa
from benchmarks.table import Row

from penstock.project import people
from penstock.project.workspace import Workspace, open_workspace
from penstock.store.ledger import events, schema
from penstock.web.edge import Pages
from penstock.worker.listening import answer_at

RUNS, EVENTS, TIMES = 1_000_000, 20_000, 15
FIRST_MS, LIST_MS, LARGEST_BYTES = 150, 200, 1_000_000
_EACH = 20_000
_STATES = ("succeeded",) * 18 + ("failed", "cancelled")
_FLOW = """
import polars as pl

from penstock import Pipeline

shop = Pipeline("shop")


@shop.dataset(key="person")
def buyers() -> pl.DataFrame:
    return pl.DataFrame({"person": range(60), "bought": [p % 3 for p in range(60)]})


@shop.model
def best(buyers: pl.DataFrame) -> int:
    return len(buyers)


@shop.serve(examples=[{"person": 1}])
def show(best: int, *, person: int) -> int:
    return best
"""


def rows() -> list[Row]:
    """Return the median time of each page, and the size of the largest."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "shop.py").write_text(_FLOW, encoding="utf-8")
        subprocess.run([sys.executable, "-m", "penstock", "run", "--quiet"], cwd=root, check=True, capture_output=True)
        with open_workspace(root) as workspace:
            _seed(workspace)
            return list(_asked(workspace))


def _asked(workspace: Workspace) -> Iterator[Row]:
    people.add_person(workspace, "ada", "admin", by="benchmark")
    listener = answer_at(Pages(lambda: workspace, frozenset({"127.0.0.1"})).app(), "127.0.0.1:0", name="pages")
    largest = 0
    try:
        made = people.sign_in(workspace, people.invite(workspace, "ada").token)
        cookie = {"cookie": f"penstock_session={'' if made is None else made.token}"}
        deep = f"/runs?before=r{RUNS // 2}"
        for what, path, limit in (
            ("first page", "/", FIRST_MS),
            ("a pipeline", "/pipelines/shop", FIRST_MS),
            ("newest runs", "/runs", LIST_MS),
            ("failed runs", "/runs?state=failed", LIST_MS),
            ("lost runs, of which there are none", "/runs?state=lost", LIST_MS),
            ("runs from the middle", deep, LIST_MS),
            ("audit", "/audit", LIST_MS),
        ):
            taken, size = _times(partial(_get, listener.url + path, cookie))
            largest = max(largest, size)
            yield Row(f"{what}, {RUNS:,} runs", taken * 1000, "ms", limit=limit)
        yield Row("largest page", largest / 1000, "kB", limit=LARGEST_BYTES / 1000)
    finally:
        listener.stop()


def _get(url: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.get(url, headers=headers, timeout=60).raise_for_status()


def _times(ask: Callable[[], httpx.Response]) -> tuple[float, int]:
    """Return the median seconds of asking, and the bytes of the answer; the first, which opens all, does not count."""
    size = len(ask().content)
    taken = []
    for _ in range(TIMES):
        start = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), size


def _seed(workspace: Workspace) -> None:
    """Add runs that ended, a minute after each other, the newest today."""
    with workspace.ledger.read() as conn:
        kept = conn.execute(sa.select(schema.runs)).mappings().one()
    now = workspace.clock.now()
    for begin in range(0, RUNS, _EACH):
        with workspace.ledger.write(durable=False) as conn:
            made = [
                {
                    **{str(name): value for name, value in kept.items() if name != "id"},
                    "state": _STATES[number % len(_STATES)],
                    "started_at": now - timedelta(minutes=RUNS - number),
                    "finished_at": now - timedelta(minutes=RUNS - number - 0.5),
                    "release": None,
                }
                for number in range(begin, begin + _EACH)
            ]
            conn.execute(sa.insert(schema.runs), made)
    with workspace.ledger.write(durable=False) as conn:
        for number in range(EVENTS):
            events.append(conn, actor="schedule", action="retrain.asked", target="shop", details={"number": number})
