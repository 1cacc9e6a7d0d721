"""A server outlives its workers: those that are killed, stand still, cannot load, or crash after a swap."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.releases.manifest import Example, decode_manifest, encode_manifest
from penstock.serving.limits import Limits
from penstock.serving.observe import metrics
from penstock.serving.observe.totals import read_totals
from penstock.serving.processes.background import Server, start
from penstock.serving.processes.spares import Spares
from penstock.serving.processes.supervisor import LiveRelease
from penstock.serving.processes.workers import Ground
from penstock.store.blobs import Blobs
from serving_load import Load, Shelf, is_alive, options_for, release_of, wait_until
from serving_release import CODE, make_release

CRASHING = CODE.replace('    return "VERSION"', "    os.abort()")


def named(events: list[Any], name: str) -> list[Any]:
    return [event for event in events if event["event"] == name]


def spare_of(server: Server) -> int:
    """Return the pid of the process that waits, once there is one."""
    wait_until(lambda: len(server.spare_pids) == 1, "a spare waits")
    return server.spare_pids[0]


def test_a_killed_worker_is_replaced_by_the_process_that_waited(tmp_path: Path) -> None:
    """SIGKILL under load: the other worker answers on, the spare takes the place, and another spare is kept."""
    shelf = Shelf(make_release(tmp_path, 1))
    with start(options_for(tmp_path, shelf, workers=2)) as server, Load(server.url).running() as load:
        spare = spare_of(server)
        load.wait_for_more()
        victim, other = server.worker_pids
        os.kill(victim, signal.SIGKILL)
        load.wait_for_more()
        wait_until(lambda: spare in server.worker_pids, "the spare answers")
        assert set(server.worker_pids) == {spare, other}
        assert spare_of(server) != spare
    assert len(load.failures) <= 4, "only what was in flight may fail"


def test_a_spare_leaves_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """Neither workers nor spares outlive a supervisor that had no time to end them."""
    release = make_release(tmp_path, 1)
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path), release.manifest], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = next(line for line in process.stdout if line.startswith("pids"))
        pids = [int(pid) for pid in told.split()[1:]]
        assert len(pids) == 3
        assert all(is_alive(pid) for pid in pids)
        process.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in pids), "all of them are gone")


SERVE = """
import sys, threading
from pathlib import Path
from penstock.core.refs import ReleaseRef
from penstock.releases.manifest import Example, decode_manifest, encode_manifest
from penstock.serving.limits import Limits
from penstock.serving.processes.background import start
from penstock.serving.processes.supervisor import LiveRelease, ServeOptions

release = LiveRelease(ref=ReleaseRef("movies", 1), manifest=sys.argv[2])
server = start(ServeOptions(
    pipeline="movies", home=Path(sys.argv[1]), current_release=lambda: release, port=0, workers=2,
    limits=Limits(linger_s=0.2),
))
while not server.spare_pids:
    threading.Event().wait(0.01)
print("pids", *server.worker_pids, *server.spare_pids, flush=True)
threading.Event().wait()
"""


def test_a_spare_that_dies_is_replaced(tmp_path: Path) -> None:
    """A spare is never counted on when it is gone."""
    with start(options_for(tmp_path, Shelf(make_release(tmp_path, 1)))) as server:
        spare = spare_of(server)
        os.kill(spare, signal.SIGKILL)
        wait_until(lambda: server.spare_pids not in ([], [spare]), "another spare waits")


def kept_one(spares: Spares) -> list[int]:
    """Keep one spare until it has imported what it can; return its pid."""

    def is_warm() -> bool:
        spares.keep(1)
        return len(spares.pids) == 1

    wait_until(is_warm, "a spare waits")
    return spares.pids


def test_spares_are_made_anew_when_something_was_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries imported before an installation are not mixed with those after it."""
    installed = tmp_path / "site-packages"
    installed.mkdir()
    monkeypatch.syspath_prepend(installed)
    with socket.socket() as listener:
        spares = Spares(Ground(listen_fd=listener.fileno()))
        try:
            (before,) = kept_one(spares)
            assert kept_one(spares) == [before]
            (installed / "new_library.py").write_text("")
            assert kept_one(spares) != [before]
            assert not is_alive(before)
        finally:
            spares.end()
        assert spares.pids == []


def test_a_spare_has_imported_the_libraries_that_the_release_needed(tmp_path: Path) -> None:
    """What takes longest to import is there already when a worker must be replaced."""
    shelf = Shelf(make_release(tmp_path, 1, "import lightgbm\n" + CODE))
    with start(options_for(tmp_path, shelf)) as server:
        spare = spare_of(server)
        wait_until(lambda: "lib_lightgbm" in Path(f"/proc/{spare}/maps").read_text(), "the spare has the library")


def test_a_worker_that_stands_still_is_replaced_and_named(tmp_path: Path) -> None:
    """A function that never returns holds up one worker for a while; its caller hears of it; others are answered."""
    shelf = Shelf(make_release(tmp_path, 1))
    limits = Limits(linger_s=0.3, hang_s=1.0)
    failed: list[str] = []

    def ask_for_ever(url: str) -> None:
        fields = {"n": 1, "wait_s": 3600.0, "mark": str(tmp_path / "mark")}
        try:
            httpx.post(url + "/movies/slow", json=fields, timeout=60)
        except httpx.HTTPError as error:
            failed.append(type(error).__name__)

    with (
        capture_logs() as events,
        start(options_for(tmp_path, shelf, workers=2, limits=limits)) as server,
        Load(server.url).running() as load,
    ):
        workers = set(server.worker_pids)
        asking = threading.Thread(target=ask_for_ever, args=(server.url,))
        asking.start()
        asking.join()
        wait_until(lambda: len(set(server.worker_pids) - workers) == 1, "the worker is replaced")
        load.wait_for_more()
        hung = named(events, "worker_hung")
        assert [event["pid"] for event in hung] == list(workers - set(server.worker_pids))
        assert hung[0]["release"] == "movies@1"
        assert hung[0]["silent_s"] >= 1.0
        assert read_totals(server.counters).happened.hung == 1
    assert len(failed) == 1
    assert len(load.failures) <= 4, "only what was in flight may fail"


HANGS_LATER = "import pathlib, time\nif pathlib.Path('MARK').exists():\n    time.sleep(3600)\n"


def test_a_load_that_never_ends_is_tried_again(tmp_path: Path) -> None:
    """A worker that takes the place of a dead one and hangs while loading does not hold the place for ever."""
    mark = tmp_path / "mark"
    shelf = Shelf(make_release(tmp_path, 1, HANGS_LATER.replace("MARK", str(mark)) + CODE))
    limits = Limits(linger_s=0.3, load_s=8.0)
    with capture_logs() as events, start(options_for(tmp_path, shelf, limits=limits)) as server:
        mark.touch()
        victim = server.worker_pids[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: named(events, "worker_load_timed_out"), "the load is given up")
        mark.unlink()
        wait_until(lambda: server.worker_pids, "a worker answers again")
        assert release_of(server) == "movies@1"


def test_a_release_whose_load_never_ends_is_refused(tmp_path: Path) -> None:
    """The old release goes on, and the event says how far the new one came."""
    mark = tmp_path / "mark"
    mark.touch()
    shelf = Shelf(make_release(tmp_path, 1))
    limits = Limits(linger_s=0.3, load_s=8.0)
    with capture_logs() as events, start(options_for(tmp_path, shelf, limits=limits)) as server:
        shelf.release = make_release(tmp_path, 2, HANGS_LATER.replace("MARK", str(mark)) + CODE)
        wait_until(lambda: named(events, "release_refused"), "the release is refused")
        assert release_of(server) == "movies@1"
    message = named(events, "release_refused")[0]["message"]
    assert "Loading movies@2 took over 8 s" in message
    assert "loading movies@2" in message


def test_a_release_that_crashes_on_its_first_requests_is_rolled_back(tmp_path: Path) -> None:
    """Workers of a new release die of themselves again and again: the one before answers, the new one stays out."""
    shelf = Shelf(make_release(tmp_path, 1))
    with (
        capture_logs() as events,
        start(options_for(tmp_path, shelf, workers=2)) as server,
        Load(server.url).running() as load,
    ):
        load.wait_for_more()
        shelf.release = make_release(tmp_path, 2, CRASHING)
        wait_until(lambda: named(events, "release_rolled_back"), "the release is given up")
        wait_until(lambda: release_of_or_none(server) == "movies@1", "the old release answers")
        load.wait_for_more()
        rolled = named(events, "release_rolled_back")
        assert [(event["release"], event["to"]) for event in rolled] == [("movies@2", "movies@1")]
        assert set(load.releases) == {"movies@1"}
        shelf.release = make_release(tmp_path, 3)
        load.wait_for_release("movies@3")
    assert len(named(events, "release_rolled_back")) == 1


def release_of_or_none(server: Server) -> str | None:
    try:
        return release_of(server)
    except httpx.HTTPError:
        return None


def test_counts_of_killed_and_replaced_workers_stay_in_the_sums(tmp_path: Path) -> None:
    """Questions counted by workers that are gone are still counted, after a kill and after a swap."""
    shelf = Shelf(make_release(tmp_path, 1))
    with start(options_for(tmp_path, shelf, workers=2)) as server:
        with Load(server.url).running() as load:
            load.wait_for_more()
            os.kill(server.worker_pids[0], signal.SIGKILL)
            load.wait_for_more()
            shelf.release = make_release(tmp_path, 2)
            load.wait_for_release("movies@2")
        wait_until(lambda: {r.worker.release for r in read_totals(server.counters).workers} == {"movies@2"}, "a swap")
        totals = read_totals(server.counters)
    counted = totals.values[metrics.REQUESTS.name, ("which", "json", "answered")][0]
    assert load.count <= counted <= load.count + len(load.failures)
    assert (totals.happened.restarts, totals.happened.swaps) == (1, 1)


def with_example(home: Path, release: LiveRelease, function: str, fields: dict[str, Any]) -> LiveRelease:
    """Return the release as if `fields` had been asked of it when it was made."""
    blobs = Blobs(home / "blobs")
    manifest = decode_manifest(blobs.read(release.manifest))
    examples = {function: (Example(fields=fields, answer=None),)}
    changed = msgspec.structs.replace(manifest, examples=examples)
    return LiveRelease(ref=release.ref, manifest=blobs.put(encode_manifest(changed)))


def test_a_release_that_crashes_on_an_example_is_refused_before_it_answers_anyone(tmp_path: Path) -> None:
    """The old release answers every request; the event says where the new one broke."""
    shelf = Shelf(make_release(tmp_path, 1))
    with capture_logs() as events, start(options_for(tmp_path, shelf)) as server, Load(server.url).running(2) as load:
        crashing = make_release(tmp_path, 2, CRASHING)
        shelf.release = with_example(tmp_path, crashing, "which", {"n": 1})
        wait_until(lambda: named(events, "release_refused"), "the release is refused")
        load.wait_for_more()
    assert load.failures == []
    assert set(load.releases) == {"movies@1"}
    refused = named(events, "release_refused")[0]
    assert refused["release"] == "movies@2"
    assert f"code {-signal.SIGABRT}" in refused["message"]
    assert "answering the examples of movies@2" in refused["message"]


EXITING = CODE.replace(
    "    raise ValueError(", "    if text == 'exit':\n        raise SystemExit(3)\n    raise ValueError("
)


def test_user_code_that_exits_does_not_end_the_worker(tmp_path: Path) -> None:
    """`sys.exit()` in a serve function is a failed request like any other; the worker answers on."""
    shelf = Shelf(make_release(tmp_path, 1, EXITING))
    with capture_logs() as events, start(options_for(tmp_path, shelf)) as server:
        before = server.worker_pids
        reply = httpx.post(server.url + "/movies/fragile", json={"text": "exit"})
        assert reply.status_code == 500
        assert reply.json()["error"]["code"] == "function_failed"
        assert httpx.post(server.url + "/movies/whoami", json={}).json()["answer"] == before[0]
        assert server.worker_pids == before
    assert named(events, "worker_died") == []
