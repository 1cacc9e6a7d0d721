"""The processes that run user code for this one: made for each piece of work, or kept while the code is the same."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from penstock.core.errors import StepError
from penstock.core.records import Record
from penstock.core.settings import Settings
from penstock.engine import engines
from penstock.engine.protocol import Engine, Result, Task
from penstock.serving.processes.staying import Order


class Crew(Protocol):
    """Who does what this process must not do itself."""

    @property
    def stays(self) -> bool:
        """Whether its processes stay between pieces of work."""
        ...

    def engine(self, name: str, settings: Settings, workers: int | None) -> Engine:
        """Return a started engine; the caller closes it.

        Raises:
            InputError: There is no engine of that name, or what it needs is not installed.
        """
        ...

    def ask(self, module: str, order: Record, *, root: Path, code: str) -> bytes:
        """Return what a module of the serving processes replies to an order.

        Args:
            module: Its dotted name.
            order: Its order.
            root: The project, in which it works.
            code: The code snapshot that it imports, "" where that is not known.

        Raises:
            StepError: It ended without a word.
        """
        ...


@dataclass(frozen=True, slots=True)
class Fresh:
    """A process for each piece of work: nothing of one is left for the next."""

    stays: bool = False

    def engine(self, name: str, settings: Settings, workers: int | None) -> Engine:
        """Return a started engine; the caller closes it."""
        return engines.make(name, settings, workers)

    def ask(self, module: str, order: Record, *, root: Path, code: str) -> bytes:
        """Return what a module replies to an order, in a process of its own."""
        del code
        # -P: the working directory must not shadow the snapshot. -B: the snapshot gets no compiled files.
        done = subprocess.run(
            [sys.executable, "-P", "-B", "-m", module, msgspec.json.encode(order).decode()],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=False,
        )
        if done.returncode != 0:
            raise _silent(module, done.returncode)
        return done.stdout


@dataclass(slots=True)
class Kept:
    """Processes that stay between pieces of work, so that user code is imported once; for one thread."""

    stays: bool = True
    _engines: dict[tuple[str, int | None], "_Staying"] = field(default_factory=dict)
    _asked: tuple[str, "subprocess.Popen[bytes]"] | None = None

    def engine(self, name: str, settings: Settings, workers: int | None) -> Engine:
        """Return an engine that was started before, where one is idle; closing it keeps its processes."""
        kept = self._engines.get((name, workers))
        if kept is None or kept.is_closed:
            kept = self._engines[name, workers] = _Staying(lambda: engines.make(name, settings, workers))
        return kept

    def ask(self, module: str, order: Record, *, root: Path, code: str) -> bytes:
        """Return what a module replies to an order, in the process that holds this code."""
        if not code:
            return Fresh().ask(module, order, root=root, code=code)
        process = self._holding(code, root)
        line = msgspec.json.encode(Order(module=module, order=msgspec.Raw(msgspec.json.encode(order)))) + b"\n"
        if process.stdin is None or process.stdout is None:
            raise ValueError("a process without ends")
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(line)
            process.stdin.flush()
        reply = process.stdout.readline()
        if not reply.endswith(b"\n"):
            self._dismiss()
            raise _silent(module, process.wait())
        return reply

    def close(self) -> None:
        """End all processes."""
        for kept in self._engines.values():
            kept.end()
        self._engines.clear()
        self._dismiss()

    def _holding(self, code: str, root: Path) -> "subprocess.Popen[bytes]":
        if self._asked is not None and self._asked[0] == code and self._asked[1].poll() is None:
            return self._asked[1]
        self._dismiss()
        words = [sys.executable, "-P", "-B", "-m", "penstock.serving.processes.staying", str(os.getpid())]
        process = subprocess.Popen(words, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._asked = (code, process)
        return process

    def _dismiss(self) -> None:
        if self._asked is None:
            return
        process, self._asked = self._asked[1], None
        process.kill()
        process.communicate()


@contextlib.contextmanager
def kept_crew() -> Iterator[Kept]:
    """Keep processes until the end of the block."""
    crew = Kept()
    try:
        yield crew
    finally:
        crew.close()


class _Staying:
    """An engine whose processes outlast the run that closes it, unless work is unfinished or the code is another."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engine = make()
        self._code = ""
        self._open: set[str] = set()
        self.is_closed = False

    @property
    def slots(self) -> int:
        """How many tasks can run at once."""
        return self._engine.slots

    def submit(self, task: Task) -> None:
        """Queue a task."""
        # Python keeps the modules it has imported: with other code, processes of the last run would do the old thing.
        if self._code not in {"", task.place.code_dir} and not self._open:
            self._engine.close()
            self._engine = self._make()
        self._code = task.place.code_dir
        self._open.add(task.id)
        self._engine.submit(task)

    def results(self, timeout_s: float) -> Sequence[Result]:
        """Wait up to `timeout_s` for tasks to end."""
        ended = self._engine.results(timeout_s)
        self._open -= {result.id for result in ended}
        return ended

    def cancel(self, task_id: str) -> None:
        """End a task and everything it started."""
        self._engine.cancel(task_id)

    def close(self) -> None:
        """Keep the processes for the next run; end them where a task was left behind."""
        if self._open:
            self.end()

    def end(self) -> None:
        """End every process."""
        self.is_closed = True
        self._engine.close()


def _silent(module: str, code: int) -> StepError:
    return StepError(f"The process of {module!r} ended with {code}.", hint="what it said stands above")
