"""A serving worker: the one process that holds a release's code and models and answers with them.

Run by the supervisor as `python -P -m penstock.serving.processes.worker ENDS`. It waits to be told what to load, says
how it gets on, and leaves when it is told to, or when the supervisor is gone.
"""

import asyncio
import ctypes
import gc
import importlib
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog
import uvloop

from penstock.core.errors import PenstockError
from penstock.core.installed import is_installed
from penstock.core.settings import ServePolicy
from penstock.releases.environment import environment_differences
from penstock.releases.manifest import decode_manifest
from penstock.serving.observe.events import log_events
from penstock.serving.plane.split import Split
from penstock.serving.processes.answering import Answering
from penstock.serving.processes.workers import Status, WorkerEnds, WorkerOptions
from penstock.serving.program.load import load_program
from penstock.serving.program.stand_ins.comparison import Comparison
from penstock.store.blobs import Blobs

_PR_SET_PDEATHSIG = 1
_MOST_LIBRARIES = 500
_OTHER_FILES = 500
_events = structlog.get_logger("penstock.serving")


def main(arguments: list[str]) -> int:
    """Serve until told to stop; return the exit code."""
    ends = msgspec.json.decode(arguments[0], type=WorkerEnds)
    lifeline = _follow_parent(ends)
    log_events(is_terminal=ends.is_terminal)
    _import_libraries(ends.libraries)
    gc.collect()
    gc.freeze()
    _tell(ends, Status(state="spare"))
    orders = os.fdopen(ends.order_fd, "rb")
    options = _wait_for_order(orders)
    if options is None:
        return 0
    lifeline.drain_s = options.limits.drain_s
    _allow_connections(options.limits.connections)
    try:
        answering, ready = _load(options, ends)
        # What is loaded stays: the collector need not walk the model on every full collection.
        gc.collect()
        gc.freeze()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(answering, ready, ends, orders))
    except PenstockError as error:
        _tell(ends, Status(state="refused", code=error.code, message=error.message, hint=error.hint))
        return 3
    except Exception as error:  # noqa: BLE001  # the worker's edge: whatever the user's code did, the supervisor must hear of it
        message = f"The release cannot be loaded: {type(error).__qualname__}: {error}.\n{traceback.format_exc()}"
        _tell(ends, Status(state="refused", code="step", message=message))
        return 3
    # A function that never returns must not keep the process: its thread is left behind on purpose.
    sys.stderr.flush()
    os._exit(0)


def _wait_for_order(orders: BinaryIO) -> WorkerOptions | None:
    """Return what to load; None when the supervisor is gone."""
    line = orders.readline()
    return msgspec.json.decode(line, type=WorkerOptions) if line.endswith(b"\n") else None


def _import_libraries(names: tuple[str, ...]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  # a library may raise anything; the release says so itself if it needs it
            _events.debug("library_not_imported", name=name, error=type(error).__qualname__)


def _installed_modules(before: set[str]) -> tuple[str, ...]:
    """Return what was imported since `before` from folders of installed packages: packages and their parts."""
    found = set()
    for name in sys.modules.keys() - before:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if name.count(".") <= 1 and is_installed(origin):
            found.add(name)
    return tuple(sorted(found)[:_MOST_LIBRARIES])


def _allow_connections(count: int) -> None:
    """Let this process hold `count` connections, as far as the system allows; most systems start with 1,024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _load(options: WorkerOptions, ends: WorkerEnds) -> tuple[Answering, Status]:
    if options.manifest is None:
        return Answering(None, ServePolicy(), options, ends), Status(state="ready")
    _tell(ends, Status(state="loading", stage=f"loading {options.release}"))
    before = set(sys.modules)
    home = Path(options.home)
    blobs = Blobs(home / "blobs")
    manifest = decode_manifest(blobs.read(options.manifest))
    program = load_program(manifest, blobs, home / "code", limits=options.limits)
    answering = Answering(program, manifest.policy.serve, options, ends)
    answering.compare_with(Comparison(program, manifest, manifest.policy.serve.compare))
    _tell(ends, Status(state="loading", stage=f"answering the examples of {options.release}"))
    answering.warm_up()
    deadlines = [function.deadline_s or 0.0 for function in program.functions.values()]
    ready = Status(
        state="ready",
        differing=tuple(environment_differences(manifest)),
        longest_s=max(deadlines, default=0.0),
        libraries=tuple(sorted({*ends.libraries, *_installed_modules(before)}))[:_MOST_LIBRARIES],
    )
    return answering, ready


async def _serve(answering: Answering, ready: Status, ends: WorkerEnds, orders: BinaryIO) -> None:
    leave, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, leave.set)
    threading.Thread(target=_follow_orders, args=(orders, loop, answering), name="orders", daemon=True).start()
    await answering.serve(socket.socket(fileno=ends.listen_fd), leave, lambda: _tell(ends, ready))


def _follow_orders(orders: BinaryIO, loop: asyncio.AbstractEventLoop, answering: Answering) -> None:
    for line in orders:  # it ends when the supervisor has closed its end, or is gone
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(answering.share, msgspec.json.decode(line, type=Split | None))


def _tell(ends: WorkerEnds, status: Status) -> None:
    os.write(ends.status_fd, msgspec.json.encode(status) + b"\n")


class _Lifeline:
    """How long this process may go on when the supervisor is gone."""

    drain_s = 0.0


def _follow_parent(ends: WorkerEnds) -> _Lifeline:
    """Leave when the supervisor does, however it died; ignore Ctrl-C, which reaches the whole terminal group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        # Only Linux can ask the kernel for this; the thread below does it elsewhere, when Python code runs.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    lifeline = _Lifeline()
    threading.Thread(target=_watch_lifeline, args=(ends, lifeline), name="lifeline", daemon=True).start()
    return lifeline


def _watch_lifeline(ends: WorkerEnds, lifeline: _Lifeline) -> None:
    os.read(ends.lifeline_fd, 1)  # nothing is ever written: it returns when the supervisor's end is closed
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(lifeline.drain_s)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
