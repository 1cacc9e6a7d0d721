"""A serving worker: the one process that holds a release's code and models and answers with them.

Run by the supervisor as `python -P -m penstock.serving.processes.worker OPTIONS`. Tells it once whether it is ready or
why it refuses; leaves when it is told to, or when the supervisor is gone.
"""

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path

import msgspec
import structlog
import uvloop

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.releases.environment import environment_differences
from penstock.releases.manifest import decode_manifest
from penstock.serving.http.app import App
from penstock.serving.http.connections import Connections
from penstock.serving.http.requests import Heads
from penstock.serving.limits import Limits
from penstock.serving.predictions.log import PredictionLog
from penstock.serving.processes.workers import Status, WorkerOptions
from penstock.serving.program.load import Program, load_program
from penstock.store.blobs import Blobs

_PR_SET_PDEATHSIG = 1
_events = structlog.get_logger("penstock.serving")


def main(arguments: list[str]) -> int:
    """Serve until told to stop; return the exit code."""
    options = msgspec.json.decode(arguments[0], type=WorkerOptions)
    _follow_parent(options)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        program, differing = _load(options)
    except PenstockError as error:
        _tell(options, Status(state="refused", code=error.code, message=error.message, hint=error.hint))
        return 3
    except Exception as error:  # noqa: BLE001  # the worker's edge: whatever the user's code did, the supervisor must hear of it
        message = f"The release cannot be loaded: {type(error).__qualname__}: {error}.\n{traceback.format_exc()}"
        _tell(options, Status(state="refused", code="step", message=message))
        return 3
    # What is loaded stays: the collector need not walk the model on every full collection.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(program, differing, options))
    # A function that never returns must not keep the process: its thread is left behind on purpose.
    sys.stderr.flush()
    os._exit(0)


def _load(options: WorkerOptions) -> tuple[Program | None, tuple[str, ...]]:
    if options.manifest is None:
        return None, ()
    home = Path(options.home)
    blobs = Blobs(home / "blobs")
    manifest = decode_manifest(blobs.read(options.manifest))
    program = load_program(manifest, blobs, home / "code", limits=options.limits)
    return program, tuple(environment_differences(manifest))


async def _serve(program: Program | None, differing: tuple[str, ...], options: WorkerOptions) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    clock = Clock()
    log = PredictionLog(Path(options.home), options.pipeline, worker=f"w{options.slot}-{os.getpid()}", clock=clock)
    limits: Limits = options.limits
    heads = Heads(frozenset(options.names), limits)
    app = App(program, options.release or "", log=log, heads=heads, limits=limits, clock=clock)
    connections = Connections(app, limits)
    try:
        await connections.open(socket.socket(fileno=options.listen_fd))
        _tell(options, Status(state="ready", differing=differing))
        await told.wait()
        await connections.drain()
    finally:
        app.close()
        log.close()


def _tell(options: WorkerOptions, status: Status) -> None:
    os.write(options.status_fd, msgspec.json.encode(status) + b"\n")


def _follow_parent(options: WorkerOptions) -> None:
    """Leave when the supervisor does, however it died; ignore Ctrl-C, which reaches the whole terminal group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # Only Linux can ask the kernel for this; the thread below does it elsewhere, when Python code runs.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    threading.Thread(target=_watch_lifeline, args=(options,), name="lifeline", daemon=True).start()


def _watch_lifeline(options: WorkerOptions) -> None:
    os.read(options.lifeline_fd, 1)  # nothing is ever written: it returns when the supervisor's end is closed
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(options.limits.drain_s)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
