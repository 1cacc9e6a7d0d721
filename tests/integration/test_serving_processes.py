"""Workers come, go and die under load; no acknowledged prediction is lost."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import DamagedError, StepError
from penstock.core.records import Artifact
from penstock.releases.manifest import decode_manifest
from penstock.serving.predictions.reading import read_predictions
from penstock.serving.processes.background import start
from penstock.serving.processes.supervisor import LiveRelease
from penstock.store.blobs import Blobs
from serving_load import Load, Shelf, is_alive, options_for, release_of, wait_until
from serving_release import CODE, make_artifact_release, make_release

BROKEN = "raise RuntimeError('this release is broken')\n" + CODE


def test_killed_workers_lose_no_acknowledged_prediction(tmp_path: Path) -> None:
    """SIGKILL under load: others answer, the dead are replaced, only requests in flight fail, no record is lost."""
    shelf = Shelf(make_release(tmp_path, 1))
    kills = 4
    with start(options_for(tmp_path, shelf, workers=2)) as server, Load(server.url).running() as load:
        for _ in range(kills):
            answered = len(load.ids)
            wait_until(lambda a=answered: len(load.ids) > a + 50, "requests are answered")  # type: ignore[misc]  # the default binds the loop's value
            victim = server.worker_pids[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda v=victim: v not in server.worker_pids, "the death is noticed")  # type: ignore[misc]  # the default binds the loop's value
            wait_until(lambda: len(server.worker_pids) == 2, "the dead worker is replaced")
    assert len(load.failures) <= kills * 4
    stored = [p.id for p in read_predictions(tmp_path, "movies")]
    assert len(stored) == len(set(stored))
    assert set(load.ids) <= set(stored)


def test_a_release_that_does_not_load_leaves_the_old_one_serving(tmp_path: Path) -> None:
    """It is refused once, with the user's error; a later good release is taken."""
    shelf = Shelf(make_release(tmp_path, 1))
    with capture_logs() as events, start(options_for(tmp_path, shelf)) as server:
        with Load(server.url).running(2) as load:
            shelf.release = make_release(tmp_path, 2, BROKEN)
            wait_until(lambda: any(e["event"] == "release_refused" for e in events), "the release is refused")
            answered = len(load.ids)
            wait_until(lambda: len(load.ids) > answered + 20, "the old release goes on")
            shelf.release = make_release(tmp_path, 3)
            load.wait_for_release("movies@3")
        assert load.failures == []
        assert set(load.releases) == {"movies@1", "movies@3"}
    refused = [e for e in events if e["event"] == "release_refused"]
    assert len(refused) == 1
    assert (refused[0]["release"], refused[0]["kept"]) == ("movies@2", "movies@1")
    assert "this release is broken" in refused[0]["message"]
    assert "app_code.py" in refused[0]["message"]


def damage_weights(home: Path, release: LiveRelease) -> Artifact:
    """Flip one byte of the artifact behind `weights`."""
    blobs = Blobs(home / "blobs")
    artifact = decode_manifest(blobs.read(release.manifest)).serving["lookup"]["titles"]
    path = blobs.path(artifact.digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    return artifact


def test_one_flipped_byte_refuses_the_release_and_keeps_the_old(tmp_path: Path) -> None:
    """A damaged artifact is never served; the loaded version goes on; a first start says why it cannot."""
    shelf = Shelf(make_artifact_release(tmp_path, 1))
    with capture_logs() as events, start(options_for(tmp_path, shelf)) as server:
        damaged = make_artifact_release(tmp_path, 2)
        artifact = damage_weights(tmp_path, damaged)
        shelf.release = damaged
        wait_until(lambda: any(e["event"] == "release_refused" for e in events), "the release is refused")
        assert next(e["code"] for e in events if e["event"] == "release_refused") == "damaged"
        assert release_of(server) == "movies@1"
        reply = httpx.post(server.url + "/movies/lookup", json={"movie_id": 2})
        assert reply.json()["answer"] == "v1"
    with pytest.raises(DamagedError, match=artifact.digest[:12]):
        start(options_for(tmp_path, shelf))


def test_a_first_release_that_does_not_load_is_an_error(tmp_path: Path) -> None:
    """`serve` does not stay up without anything to serve."""
    with pytest.raises(StepError, match="this release is broken"):
        start(options_for(tmp_path, Shelf(make_release(tmp_path, 1, BROKEN))))


SERVE = """
import sys
from pathlib import Path
from penstock.core.refs import ReleaseRef
from penstock.serving.limits import Limits
from penstock.serving.processes.supervisor import LiveRelease, ServeOptions, serve

release = LiveRelease(ref=ReleaseRef("movies", 1), manifest=sys.argv[2])
serve(ServeOptions(
    pipeline="movies", home=Path(sys.argv[1]), current_release=lambda: release, port=0,
    limits=Limits(linger_s=0.2), on_ready=lambda url, _grpc: print(url, flush=True),
))
heavy = {"polars", "uvicorn", "pyarrow", "app_code"} & set(sys.modules)
print("heavy", sorted(heavy), flush=True)
"""


@contextlib.contextmanager
def serving_process(home: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    release = make_release(home, 1)
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(home), release.manifest], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, next(line.strip() for line in process.stdout if line.startswith("http"))
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_answers_what_is_under_way_and_exits_0(tmp_path: Path, number: signal.Signals) -> None:
    """A request in flight gets its answer, the workers are gone, and the supervisor held nothing heavy."""
    with serving_process(tmp_path) as (process, url):
        pid = httpx.post(url + "/movies/whoami", json={}).json()["answer"]
        found: list[int] = []
        mark = tmp_path / "mark"

        def ask() -> None:
            fields = {"n": 5, "wait_s": 1.0, "mark": str(mark)}
            found.append(httpx.post(url + "/movies/slow", json=fields, timeout=20).json()["answer"])

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(mark.exists, "the request is under way")
        process.send_signal(number)
        asking.join()
        assert process.wait(20) == 0
        assert found == [5]
        assert process.stdout is not None
        assert "heavy []" in process.stdout.read()
        assert not is_alive(pid)


def test_workers_leave_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """No worker outlives its supervisor, and what it answered is kept."""
    with serving_process(tmp_path) as (process, url):
        body = httpx.post(url + "/movies/whoami", json={}).json()
        process.kill()
        process.wait()
        wait_until(lambda: not is_alive(body["answer"]), "the worker is gone")
    assert [p.id for p in read_predictions(tmp_path, "movies")] == [body["prediction_id"]]
