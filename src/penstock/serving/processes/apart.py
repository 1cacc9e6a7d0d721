"""A server in a process of its own, told by its pipes: for a load test or a drill, away from what users are answered.

Run as `python -P -m penstock.serving.processes.apart ORDER`. It says where it answers in a line of JSON, answers "pids"
with the workers that are ready, and stops when its input ends, so it never outlives who started it.
"""

import sys
from pathlib import Path

import msgspec

from penstock.core.errors import PenstockError
from penstock.core.records import Record
from penstock.core.refs import ReleaseRef, parse_ref
from penstock.core.settings import ServePolicy
from penstock.serving.observe.events import log_events
from penstock.serving.processes.background import start
from penstock.serving.processes.supervisor import LiveRelease, ServeOptions


class ApartOrder(Record, frozen=True, kw_only=True):
    """What to serve.

    Attributes:
        home: A store of its own; only its blobs and code may be those of another one.
        release: "movies@3".
        manifest: Digest of the manifest's blob.
        policy: What the engineer says about serving.
        explore: Share of questions that the fallback answers to learn, 0 to 1.
    """

    home: str
    release: str
    manifest: str
    workers: int = 1
    policy: ServePolicy = ServePolicy()
    explore: float = 0.0


class ApartReply(Record, frozen=True, kw_only=True):
    """What it says first: where it answers, or the error that stood in the way."""

    url: str = ""
    error: tuple[str, str, str] | None = None


def main(arguments: list[str]) -> int:
    """Serve until the input ends."""
    log_events(is_terminal=False)
    order = msgspec.json.decode(arguments[0], type=ApartOrder)
    ref = parse_ref(order.release)
    if not isinstance(ref, ReleaseRef):
        raise TypeError(f"{order.release!r} is not a release")
    live = LiveRelease(ref=ref, manifest=order.manifest)
    options = ServeOptions(
        pipeline=ref.pipeline,
        home=Path(order.home),
        current_release=lambda: live,
        port=0,
        workers=order.workers,
        policy=order.policy,
        explore=order.explore,
    )
    try:
        server = start(options)
    except PenstockError as error:
        _say(ApartReply(error=(error.code, error.message, error.hint)))
        return error.exit_code
    with server:
        _say(ApartReply(url=server.url))
        for line in sys.stdin:
            if line.strip() == "pids":
                _say(server.worker_pids)
    return 0


def _say(what: object) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
