"""A run process: reads tasks from its parent, performs them one at a time, writes results back.

Started as `python -P -m penstock.engine.worker FD PARENT`. It dies with its parent, whatever happens to either.
"""

import os
import signal
import sys
from multiprocessing.connection import Connection

import msgspec

from penstock.core.process import die_with_parent
from penstock.core.records import Failure
from penstock.core.states import AttemptState
from penstock.engine.logs import log_path
from penstock.engine.perform import perform
from penstock.engine.protocol import Result, Task


def main() -> None:
    """Serve tasks until the parent closes the connection."""
    die_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides what Ctrl-C means
    channel = Connection(int(sys.argv[1]))
    decoder = msgspec.msgpack.Decoder(Task)
    encoder = msgspec.msgpack.Encoder()
    while True:
        try:
            data = channel.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        task = decoder.decode(data)
        os.chdir(task.place.root)
        result = perform(task, log_path(task))
        try:
            channel.send_bytes(_encoded(result, task, encoder))
        except (BrokenPipeError, ConnectionResetError):
            return  # the supervisor is gone: nobody may commit this result


def _encoded(result: Result, task: Task, encoder: msgspec.msgpack.Encoder) -> bytes:
    """Return a result as bytes; one that has no such form, as the failure that says which part of it has none."""
    try:
        return encoder.encode(result)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        what = f"{task.node.role.capitalize()} {task.node.name!r}"
        part = next((name for name, value in _parts(result) if not _is_encodable(value, encoder)), "result")
        return encoder.encode(
            Result(
                id=result.id,
                state=AttemptState.FAILED,
                failure=Failure(
                    kind="exception",
                    message=f"{what}: its {part} cannot be passed on: {error}.",
                    hint="numbers of at most 64 bits, text, lists and tables can be",
                ),
                usage=result.usage,
                log=result.log,
            )
        )


def _parts(result: Result) -> list[tuple[str, object]]:
    return [*result.facts.items(), *((f"check {check.name!r}", check) for check in result.checks)]


def _is_encodable(value: object, encoder: msgspec.msgpack.Encoder) -> bool:
    try:
        encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
    return True


if __name__ == "__main__":
    main()
