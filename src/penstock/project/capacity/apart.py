"""A release served apart: by the real supervisor, with a log, counters and tables of its own that end with it.

What it is made of (blobs, code) is the project's; what is asked and answered is kept in a folder that goes afterwards,
so neither predictions nor monitors of the project ever see it.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import polars as pl

from penstock.core.errors import InputError, StepError
from penstock.project.asking import refused
from penstock.project.workspace import Workspace, read_manifest, released_code
from penstock.serving.http.requests import LOOPBACK_NAMES
from penstock.serving.predictions.reading import predictions_frame
from penstock.serving.processes.apart import ApartOrder, ApartReply
from penstock.store.ledger.releases import Release

_STOP_S = 60.0
_LOOK_S = 0.01
_CPU = "penstock_cpu_seconds_total "


class ServerApart:
    """A server that was started for this alone, or any other one on this machine.

    Args:
        url: Where it answers.
        process: The process of the server; None for one that somebody else started.
        home: Its own store; None where it is somebody else's.
        pipeline: Whose predictions it keeps.
    """

    def __init__(self, url: str, process: "subprocess.Popen[str] | None", home: Path | None, pipeline: str) -> None:
        self.url = url
        self._process = process
        self._home = home
        self._pipeline = pipeline

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        found = httpx.URL(self.url)
        return found.host, found.port or 80

    def cpu_s(self) -> float | None:
        """Return the processor time that its workers have used; None where it does not say."""
        try:
            text = httpx.get(f"{self.url}/metrics", timeout=10).text
        except httpx.HTTPError:
            return None
        found = next((line for line in text.splitlines() if line.startswith(_CPU)), None)
        return None if found is None else float(found.removeprefix(_CPU))

    def worker_pids(self) -> list[int]:
        """Return the workers that answer now.

        Raises:
            StepError: The server has ended.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise StepError("Only a server that was started here says which processes answer.")
        try:
            process.stdin.write("pids\n")
            process.stdin.flush()
            return msgspec.json.decode(process.stdout.readline(), type=list[int])
        except (BrokenPipeError, msgspec.DecodeError) as error:
            raise StepError("The server has ended.", hint="see its events above") from error

    def wait_for_workers(self, count: int, *, without: int | None = None, timeout_s: float) -> float | None:
        """Return the monotonic time at which `count` workers answer, none of them `without`; None if too late."""
        end_s = time.perf_counter() + timeout_s
        while (now_s := time.perf_counter()) < end_s:
            pids = self.worker_pids()
            if without not in pids and len(pids) >= count:
                return now_s
            time.sleep(_LOOK_S)
        return None

    def stop(self) -> None:
        """Answer what is under way, and end."""
        process = self._process
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kept(self) -> pl.LazyFrame:
        """Return the predictions that it kept; those of a stopped server are whole."""
        if self._home is None:
            raise ValueError("what another server kept is not for this one to read")
        return predictions_frame(self._home, self._pipeline, with_load=True)

    def kept_ids(self) -> set[str]:
        """Return the ids of all predictions that it kept."""
        frame = self.kept().select("prediction_id").collect()
        return {str(made).partition("-")[0] for made in frame["prediction_id"]}

    def events(self) -> str:
        """Return what it said about itself."""
        if self._home is None:
            return ""
        return (self._home / "server.log").read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def served_apart(
    release: Release, workspace: Workspace, *, workers: int = 1, fault: str | None = None
) -> Iterator[ServerApart]:
    """Serve a release on a free loopback port until the block ends.

    Args:
        release: Which.
        workspace: The project.
        workers: Processes that answer.
        fault: A named fault that its processes are to meet, as `core.faults` reads it.

    Raises:
        PenstockError: The release cannot be loaded.
    """
    manifest = read_manifest(release.manifest_digest, workspace)
    released_code(manifest, workspace)
    with _own_home(workspace) as home, (home / "server.log").open("wb") as said:
        order = ApartOrder(
            home=os.fspath(home),
            release=str(release.ref),
            manifest=release.manifest_digest,
            workers=workers,
            policy=manifest.policy.serve,
            explore=workspace.settings.policy(release.pipeline).explore,
        )
        command = [sys.executable, "-P", "-m", "penstock.serving.processes.apart", msgspec.json.encode(order).decode()]
        environment = {**os.environ, **({} if fault is None else {"PENSTOCK_FAULT": fault})}
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environment,
            cwd=workspace.settings.root,
            start_new_session=True,  # Ctrl-C is for the command, which then stops the server in order
        ) as process:
            server = ServerApart(_url(process, home), process, home, release.pipeline)
            try:
                yield server
            finally:
                server.stop()


def server_at(url: str, release: Release) -> ServerApart:
    """Return a server that somebody else started on this machine.

    Raises:
        InputError: It is on another machine, does not answer, or serves another release.
    """
    host = httpx.URL(url).host if url.startswith("http://") else ""
    if host not in LOOPBACK_NAMES:
        raise InputError(
            f"--url {url!r} is not a server on this machine.",
            hint="load tests are for loopback addresses alone, as http://127.0.0.1:8000",
        )
    try:
        served = httpx.get(f"{url.rstrip('/')}/readyz", timeout=10).json().get("release")
    except (httpx.HTTPError, ValueError) as error:
        message = f"Nothing answers as a server of Penstock does at {url!r}: {str(error) or type(error).__name__}."
        raise InputError(message, hint="start one: penstock serve") from error
    if served != str(release.ref):
        raise InputError(f"{url!r} serves {served}, not {release.ref}.", hint=f"say penstock load {served} --url {url}")
    return ServerApart(url.rstrip("/"), None, None, release.pipeline)


@contextlib.contextmanager
def _own_home(workspace: Workspace) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="load-", dir=workspace.home / "tmp"))
    try:
        for shared in ("blobs", "code"):
            (home / shared).symlink_to((workspace.home / shared).resolve(), target_is_directory=True)
        yield home
    finally:
        shutil.rmtree(home)


def _url(process: "subprocess.Popen[str]", home: Path) -> str:
    line = "" if process.stdout is None else process.stdout.readline()
    if not line:
        said = (home / "server.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise StepError(f"The server ended with code {process.wait()}. {' '.join(said)}")
    reply = msgspec.json.decode(line, type=ApartReply)
    if reply.error is not None:
        raise refused(*reply.error)
    return reply.url
