"""A process that asks: orders in on standard input, outcomes out, until the input ends.

Run as `python -P -m penstock.serving.load.generator`. `Generators` is how another process uses it, several at once
where one cannot keep the rate: each takes its share, and Poisson processes add up to one.
"""

import gc
import subprocess
import sys
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from penstock.core.errors import StepError
from penstock.serving.load.callers import Timetable
from penstock.serving.load.outcomes import LoadOrder, LoadReply, Outcomes, Phase, merged, packed

_LENGTH = 8


def main() -> int:
    """Do what orders say until there are no more."""
    gc.disable()  # what is made in a run is freed by counting; a collection would be a pause of the generator
    while (order := _read(sys.stdin.buffer)) is not None:
        reply = packed(Timetable(msgspec.msgpack.decode(order, type=LoadOrder)).run())
        _write(sys.stdout.buffer, msgspec.msgpack.encode(reply))
    return 0


class Generators:
    """Processes that ask; a context manager that ends them.

    Args:
        count: How many.
    """

    def __init__(self, count: int = 1) -> None:
        command = [sys.executable, "-P", "-m", "penstock.serving.load.generator"]
        # A session of their own: Ctrl-C is for the process that reads what they measured.
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
            for _ in range(count)
        ]

    def ask(self, order: LoadOrder) -> Outcomes:
        """Ask what an order says, together, and return what became of it.

        Raises:
            StepError: A generator ended.
        """
        count = len(self._processes)
        for number, process in enumerate(self._processes):
            share = msgspec.structs.replace(
                order,
                seed=order.seed * count + number,
                connections=-(-order.connections // count),
                phases=tuple(Phase(phase.rate_per_s / count, phase.seconds) for phase in order.phases),
            )
            _write(_pipe(process.stdin), msgspec.msgpack.encode(share))
        return merged([self._heard(process) for process in self._processes])

    @staticmethod
    def _heard(process: "subprocess.Popen[bytes]") -> LoadReply:
        reply = _read(_pipe(process.stdout))
        if reply is None:
            raise StepError(f"The load generator ended with code {process.wait()}.", hint="see what it said above")
        return msgspec.msgpack.decode(reply, type=LoadReply)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def _pipe(pipe: "object") -> BinaryIO:
    if pipe is None:
        raise ValueError("a process was started without pipes")
    return pipe  # type: ignore[return-value]  # both ends are opened as bytes


def _read(source: BinaryIO) -> bytes | None:
    length = source.read(_LENGTH)
    return source.read(int.from_bytes(length, "big")) if len(length) == _LENGTH else None


def _write(target: BinaryIO, data: bytes) -> None:
    target.write(len(data).to_bytes(_LENGTH, "big") + data)
    target.flush()


if __name__ == "__main__":
    sys.exit(main())
