"""Counters of workers: shared, kept beyond a worker's death, and read by Prometheus' own parser."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from penstock.serving.observe import metrics
from penstock.serving.observe.counters import Counters, Worker, read_counters
from penstock.serving.observe.exposition import exposition
from penstock.serving.observe.metrics import PROTOCOLS, STATUSES
from penstock.serving.observe.totals import ServerCounters, read_totals


def make_worker(slot: int = 0, release: str = "movies@1", functions: tuple[str, ...] = ("recommend",)) -> Worker:
    return Worker(slot=slot, pid=os.getpid(), pipeline="movies", release=release, functions=functions)


def samples(folder: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every sample of the exposition as Prometheus' own parser reads it."""
    families = text_string_to_metric_families(exposition(folder).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_what_workers_count_is_summed_and_parsed_by_prometheus(tmp_path: Path) -> None:
    """Two workers' questions come out as one number, with labels, buckets in order and their sum."""
    server = ServerCounters(tmp_path)
    with Counters(server.new_file(0), make_worker(0)) as first, Counters(server.new_file(1), make_worker(1)) as second:
        first.served("recommend", "json", "answered", 40_000, 1)
        second.served("recommend", "json", "answered", 60_000, 3)
        second.served("recommend", "json", "fallback", 20_000_000_000, 1)
        second.fell_back("recommend", "late")
        second.batch("recommend", 3)
        found = samples(server.folder)
    labels = (("function", "recommend"), ("protocol", "json"))
    assert found["penstock_requests_total", (*labels, ("status", "answered"))] == 2
    assert found["penstock_requests_total", (*labels, ("status", "fallback"))] == 1
    assert found["penstock_rows_total", labels] == 5
    assert found["penstock_fallbacks_total", (("function", "recommend"), ("reason", "late"))] == 1

    def bucket(bound: str) -> float:
        return found["penstock_request_seconds_bucket", tuple(sorted((*labels, ("le", bound))))]

    assert [bucket(b) for b in ("5e-05", "0.0001", "10", "30", "+Inf")] == [1, 2, 2, 3, 3]
    assert found["penstock_request_seconds_count", labels] == 3
    assert found["penstock_request_seconds_sum", labels] == pytest.approx(20.0001)
    assert found["penstock_batch_rows_bucket", (("function", "recommend"), ("le", "4"))] == 1
    assert found["penstock_release_info", (("pipeline", "movies"), ("release", "movies@1"))] == 2
    assert found["process_resident_memory_bytes", (("worker", "1"),)] > 2**20


def test_what_a_dead_worker_counted_is_kept(tmp_path: Path) -> None:
    """Folding neither loses nor doubles a count; gauges of the dead are forgotten; the file goes."""
    server = ServerCounters(tmp_path)
    path = server.new_file(0)
    with Counters(path, make_worker()) as counters:
        counters.served("recommend", "oip", "answered", 1_000_000, 1)
        counters.put(metrics.WAITING, 7)
        before = samples(server.folder)
    server.fold(path)
    server.note(restarts=1, hung=1)
    after = samples(server.folder)
    assert not path.exists()
    counted = {key: value for key, value in before.items() if "oip" in str(key)}
    assert counted
    assert counted.items() <= after.items()
    assert (before["penstock_waiting", ()], after["penstock_waiting", ()]) == (7, 0)
    assert after["penstock_worker_restarts_total", ()] == 1
    assert after["penstock_worker_hangs_total", ()] == 1


COUNT = """
import os, signal, sys
from pathlib import Path
from penstock.serving.observe.counters import Counters, Worker

counters = Counters(Path(sys.argv[1]), Worker(slot=0, pid=os.getpid(), pipeline="movies", functions=("recommend",)))
for _ in range(1000):
    counters.served("recommend", "json", "answered", 1000, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_worker_loses_no_count(tmp_path: Path) -> None:
    """The thousandth question counted before SIGKILL is there."""
    server = ServerCounters(tmp_path)
    path = server.new_file(0)
    subprocess.run([sys.executable, "-c", COUNT, str(path)], check=False)
    labels = (("function", "recommend"), ("protocol", "json"), ("status", "answered"))
    assert samples(server.folder)["penstock_requests_total", labels] == 1000
    server.fold(path)
    assert samples(server.folder)["penstock_requests_total", labels] == 1000


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.text(), st.integers(0, 2**62), st.integers(0, 10**6)), max_size=20))
def test_no_label_of_a_caller_makes_a_series(asked: list[tuple[str, str, str, int, int]]) -> None:
    """Whatever is counted, the series are those known at the start, and nothing raises."""
    with Counters(None, make_worker()) as counters:
        size = len(counters._numbers)
        for function, protocol, status, latency_ns, rows in asked:
            counters.served(function, protocol, status, latency_ns, rows)
            counters.batch(function, rows)
            counters.refused(rows)
            counters.fell_back(function, status)
        assert len(counters._numbers) == size
        start = counters._places[metrics.REQUESTS.name, ("recommend", PROTOCOLS[0], STATUSES[0])]
        end = counters._places[metrics.SECONDS.name, ("recommend", PROTOCOLS[0])]
        assert sum(counters._numbers[start:end]) == len(asked)


def test_releases_with_other_functions_are_summed_side_by_side(tmp_path: Path) -> None:
    """During a swap the files of the old and the new release have other places; each is read by its own."""
    server = ServerCounters(tmp_path)
    old = Counters(server.new_file(0), make_worker(release="movies@1"))
    new = Counters(server.new_file(0), make_worker(release="movies@2", functions=("a_new_one", "recommend")))
    with old, new:
        for counters in (old, new):
            counters.served("recommend", "json", "answered", 1000, 1)
        new.served("a_new_one", "json", "answered", 1000, 1)
        found = samples(server.folder)
    common = (("protocol", "json"), ("status", "answered"))
    assert found["penstock_requests_total", (("function", "recommend"), *common)] == 2
    assert found["penstock_requests_total", (("function", "a_new_one"), *common)] == 1


def test_a_worker_without_a_disk_still_counts_for_itself(tmp_path: Path) -> None:
    """No folder to write in: one event, and counting goes on in memory."""
    with capture_logs() as events, Counters(tmp_path / "gone" / "w0.counters", make_worker()) as counters:
        counters.served("recommend", "json", "answered", 1000, 1)
    assert [event["event"] for event in events] == ["counters_not_shared"]


def test_a_half_written_or_missing_file_is_no_counters(tmp_path: Path) -> None:
    """A reader takes whole files only."""
    whole = tmp_path / "w0.counters"
    with Counters(whole, make_worker()):
        assert read_counters(whole) is not None
    broken = tmp_path / "w1.counters"
    broken.write_bytes(whole.read_bytes()[:-3])
    assert read_counters(broken) is None
    assert read_counters(tmp_path / "w2.counters") is None


def test_folders_of_killed_servers_are_removed(tmp_path: Path) -> None:
    """A new server removes what a dead one left, and not what a living one uses."""
    living = ServerCounters(tmp_path)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = tmp_path / "tmp" / f"serving-{ended.stdout.decode().strip()}-00ff00ff"
    left.mkdir()
    other = ServerCounters(tmp_path)
    assert not left.exists()
    assert living.folder.is_dir()
    other.close()
    assert not other.folder.exists()


def test_totals_never_go_backwards_while_workers_come_and_go(tmp_path: Path) -> None:
    """A reader beside a supervisor that folds sees sums that only grow."""
    server = ServerCounters(tmp_path)
    reader = subprocess.Popen(
        [sys.executable, "-c", READ, str(server.folder)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        for slot in range(200):
            path = server.new_file(slot)
            with Counters(path, make_worker(slot)) as counters:
                counters.served("recommend", "json", "answered", 1000, 1)
            server.fold(path)
        said, _ = reader.communicate("stop\n", timeout=60)
    assert said == "grew only\n"
    totals = read_totals(server.folder)
    assert totals.values[metrics.REQUESTS.name, ("recommend", "json", "answered")] == (200.0,)


READ = """
import select, sys
from pathlib import Path
from penstock.serving.observe.totals import read_totals

print("reading", flush=True)
last, wrong = 0.0, []
while not select.select([sys.stdin], [], [], 0)[0]:
    now = read_totals(Path(sys.argv[1])).values.get(
        ("penstock_requests_total", ("recommend", "json", "answered")), (0.0,))[0]
    if now < last:
        wrong.append((last, now))
    last = now
print(wrong or "grew only")
"""
