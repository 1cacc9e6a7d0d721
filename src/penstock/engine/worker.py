"""A run process: reads tasks from its parent, performs them one at a time, writes results back.

Started as `python -P -m penstock.engine.worker FD PARENT`. It dies with its parent, whatever happens to either.
"""

import os
import signal
import sys
from multiprocessing.connection import Connection

import msgspec

from penstock.core.process import die_with_parent
from penstock.engine.logs import log_path
from penstock.engine.perform import perform
from penstock.engine.protocol import Task


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
            channel.send_bytes(encoder.encode(result))
        except (BrokenPipeError, ConnectionResetError):
            return  # the supervisor is gone: nobody may commit this result


if __name__ == "__main__":
    main()
