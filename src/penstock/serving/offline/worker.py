"""A worker of a batch or a stream: holds a release's code and models, and answers pieces of rows with them.

Run by the parent as `python -P -m penstock.serving.offline.worker FD OPTIONS`. Leaves when the parent does.
"""

import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import polars as pl

from penstock.core.errors import PenstockError, StoreError
from penstock.core.process import die_with_parent
from penstock.releases.manifest import decode_manifest
from penstock.serving.limits import Limits
from penstock.serving.offline.pieces import LinesPiece
from penstock.serving.offline.reading import read_piece, wanted_types
from penstock.serving.offline.scoring import MESSAGE_ID, score
from penstock.serving.offline.tasks import Done, Task, WorkerOptions, as_lines, note_of, write_part
from penstock.serving.program.load import ServeFunction, load_program
from penstock.store.blobs import Blobs
from penstock.store.lake import Lake

# A caller's bound on rows is there to keep a server's memory; here the size of a piece does that.
_LIMITS = Limits(rows=2**31)


def main(arguments: list[str]) -> int:
    """Answer tasks until there are no more."""
    channel = Connection(int(arguments[0]))
    options = msgspec.json.decode(arguments[1], type=WorkerOptions)
    die_with_parent(options.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever pressed Ctrl-C reached the parent too
    os.dup2(2, 1)  # what user code prints must not be mixed into answers
    try:
        function = _load(options)
    except PenstockError as error:
        _tell(channel, Done(number=-1, error=(error.code, error.message, error.hint)))
        return 3
    except Exception as error:  # noqa: BLE001  # the worker's edge: whatever the user's code did, the parent must hear of it
        message = f"{traceback.format_exc()}The release cannot be loaded: {type(error).__qualname__}: {error}."
        _tell(channel, Done(number=-1, error=("step", message, "")))
        return 3
    _tell(channel, Done(number=-1))
    lake = Lake(Path(options.home) / "lake")
    while True:
        try:
            task = msgspec.msgpack.decode(channel.recv_bytes(), type=Task)
        except EOFError:
            return 0
        _tell(channel, _perform(task, function, options, lake))


def _load(options: WorkerOptions) -> ServeFunction:
    home = Path(options.home)
    blobs = Blobs(home / "blobs")
    program = load_program(decode_manifest(blobs.read(options.manifest)), blobs, home / "code", limits=_LIMITS)
    return program.function(options.asking.function)


def _perform(task: Task, function: ServeFunction, options: WorkerOptions, lake: Lake) -> Done:
    try:
        chunk = read_piece(task.piece, lake, wanted_types(function.fields))
        scored = score(chunk, function, options.asking)
        if isinstance(task.piece, LinesPiece):
            scored.frame.insert_column(0, pl.Series(MESSAGE_ID, task.piece.ids, dtype=pl.String))
        note = note_of(scored)
        if task.target is None:
            return Done(number=task.number, note=note, lines=as_lines(scored.frame, scored.json_columns))
        write_part(scored.frame, Path(task.target), task.form, note)
    except PenstockError as error:
        return Done(number=task.number, error=(error.code, error.message, error.hint))
    except OSError as error:
        failure = StoreError(f"Writing the answers failed: {error}.", hint="free space, then start again: it goes on")
        return Done(number=task.number, error=(failure.code, failure.message, failure.hint))
    return Done(number=task.number, note=note)


def _tell(channel: Connection, done: Done) -> None:
    channel.send_bytes(msgspec.msgpack.encode(done))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
