"""What every engine must do; run it on your own.

Give each check an `EngineCase`; one engine may serve them all.
With pytest: `@pytest.mark.parametrize("check", CHECKS)`.
"""

# ruff: noqa: S101 - a battery asserts

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.core.process import is_running
from penstock.core.records import Artifact
from penstock.core.states import AttemptState
from penstock.engine.protocol import Engine, Given, Limits, Place, Result, Task
from penstock.pipeline.graph import Edge, Fingerprint, Node
from penstock.store import codecs
from penstock.store.blobs import Blobs

_PATIENCE_S = 120.0
_STEPS = '''"""The steps of the battery: everything user code may do to the process it runs in."""

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path


def add(left: int, right: int) -> int:
    print("adding")
    return left + right


def fail(value: int) -> int:
    print("before")
    return value // 0


def leave() -> None:
    os._exit(7)


def crash() -> None:
    ctypes.string_at(0)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def grow(mebibytes: int) -> int:
    kept = [os.urandom(2**20) for _ in range(mebibytes)]
    last(0)
    return len(kept)


def last(seconds: float) -> None:
    until = time.monotonic() + (seconds or 1e9)
    while time.monotonic() < until:
        pass


def hold(mark: str) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    half = Path(f"{mark}.half")
    half.write_text(f"{os.getpid()} {child.pid}")
    half.rename(mark)
    time.sleep(1000)


def meet(own: str, other: str) -> float:
    Path(own).touch()
    while not Path(other).exists():
        pass
    return sum(i * i for i in range(2_000_000)) * 0.0


def own_pid() -> int:
    return os.getpid()


def frame(rows: int) -> object:
    import polars as pl

    return pl.DataFrame({"x": range(rows), "y": [str(i) for i in range(rows)]})
'''


@dataclass(frozen=True, slots=True)
class EngineCase:
    """An engine under test.

    Attributes:
        engine: With two slots or more; used by one check after the other, and usable after each.
        make: Makes another one of its kind, with two slots; the check closes it.
        folder: An empty directory for a project that engine and check both reach.
    """

    engine: Engine
    make: Callable[[], Engine]
    folder: Path

    def task(self, step: str, *, limits: Limits | None = None, **given: Any) -> Task:
        """Return a task that calls a step of the battery; an `Artifact` is given as the value it holds."""
        code = self.folder / "code"
        if not (code / "battery_steps.py").exists():
            code.mkdir()
            (code / "battery_steps.py").write_text(_STEPS, encoding="utf-8")
        return Task(
            id=f"{step}-{os.urandom(8).hex()}",
            kind="call",
            pipeline="battery",
            node=_node(step, given),
            given=tuple(_given(argument, value) for argument, value in given.items()),
            place=Place(root=str(self.folder), home=str(self.folder / "home"), code_dir=str(code), import_root="."),
            limits=limits or Limits(),
        )

    def end(self, *tasks: Task) -> list[Result]:
        """Perform tasks and return their results in the same order."""
        for task in tasks:
            self.engine.submit(task)
        return self.wait(tasks)

    def wait(self, tasks: Iterable[Task]) -> list[Result]:
        """Wait for tasks; any result that is not theirs, or comes twice, fails the check."""
        wanted = [task.id for task in tasks]
        found: dict[str, Result] = {}
        deadline = time.monotonic() + _PATIENCE_S
        while len(found) < len(wanted):
            assert time.monotonic() < deadline, f"no result of {sorted(set(wanted) - set(found))}"
            for result in self.engine.results(0.5):
                assert result.id in wanted, f"a result that nobody waits for: {result}"
                assert result.id not in found, f"a result came twice: {result}"
                found[result.id] = result
        return [found[task_id] for task_id in wanted]

    def pids(self, name: str) -> list[int]:
        """Wait for a step that holds on and return its process and that of its child."""
        path = self.folder / name
        _until(path.exists, f"{name} never began")
        return [int(word) for word in path.read_text(encoding="utf-8").split()]


def _node(name: str, given: Iterable[str]) -> Node:
    return Node(
        name=name,
        role="step",
        function=f"battery_steps:{name}",
        file="battery_steps.py",
        line=1,
        edges=tuple(Edge(argument=argument, source=argument, node=argument, form="value") for argument in given),
        params=(),
        outputs=(name,),
        code=Fingerprint(digest="0" * 64),
    )


def _given(argument: str, value: Any) -> Given:
    artifact = value if isinstance(value, Artifact) else None
    return Given(argument=argument, form="value", value=None if artifact else value, artifact=artifact)


def _until(holds: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.01)


def gives_results(case: EngineCase) -> None:
    """What a step returns is kept, what it prints and uses is told."""
    (result,) = case.end(case.task("add", left=2, right=3))
    assert result.state is AttemptState.SUCCEEDED, result
    blobs = Blobs(case.folder / "home" / "blobs")
    assert codecs.load(result.outputs["add"], blobs) == 5
    assert result.log == "adding\n"
    assert result.usage.wall_s > 0
    assert result.usage.cpu_s > 0
    assert result.usage.peak_bytes > 0


def passes_artifacts_on(case: EngineCase) -> None:
    """An output of one task is an input of the next."""
    (first,) = case.end(case.task("add", left=1, right=1))
    (second,) = case.end(case.task("add", left=first.outputs["add"], right=1))
    assert codecs.load(second.outputs["add"], Blobs(case.folder / "home" / "blobs")) == 3


def makes_the_same_bytes_everywhere(case: EngineCase) -> None:
    """An output has the digest it has in this process."""
    numbers, text = case.end(case.task("frame", rows=1000), case.task("add", left="a", right="b"))
    assert text.outputs["add"] == codecs.save("ab", Blobs(case.folder / "here" / "blobs"))
    again = case.end(case.task("frame", rows=1000))[0]
    assert numbers.outputs["frame"].digest == again.outputs["frame"].digest


def shows_the_users_traceback(case: EngineCase) -> None:
    """An exception comes with the user's frames and nobody else's."""
    (result,) = case.end(case.task("fail", value=1))
    assert result.state is AttemptState.FAILED
    assert result.failure is not None
    assert result.failure.kind == "exception"
    assert "ZeroDivisionError" in result.failure.message
    assert "return value // 0" in result.failure.traceback
    assert "penstock" not in result.failure.traceback.replace(str(case.folder), "")
    assert result.log == "before\n"


def reports_each_death(case: EngineCase) -> None:
    """A process that leaves, crashes or is killed is told with its cause, and others take its place."""
    left, crashed, killed = case.end(case.task("leave"), case.task("crash"), case.task("killed"))
    assert [r.state for r in (left, crashed, killed)] == [AttemptState.KILLED] * 3
    assert _cause(left) == "exit"
    assert _cause(crashed) == "crash"
    assert _cause(killed) == "signal"
    assert "SIGSEGV" in _message(crashed)
    assert left.usage.peak_bytes > 0
    gives_results(case)


def survives_a_killed_process(case: EngineCase) -> None:
    """A run process killed from outside is reported as lost to a signal; what it had started is gone."""
    task = case.task("hold", mark="victim")
    case.engine.submit(task)
    process, child = case.pids("victim")
    os.kill(process, signal.SIGKILL)
    (result,) = case.wait([task])
    assert _cause(result) == "signal"
    _until(lambda: not is_running(child), "what the process had started stays behind")
    gives_results(case)


def replaces_a_process_that_died_idle(case: EngineCase) -> None:
    """A run process killed between two tasks costs neither of them."""
    (first,) = case.end(case.task("own_pid"))
    pid = codecs.load(first.outputs["own_pid"], Blobs(case.folder / "home" / "blobs"))
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    _until(lambda: not is_running(pid), "it does not die")
    results = case.end(*(case.task("add", left=number, right=0) for number in range(4)))
    assert [r.state for r in results] == [AttemptState.SUCCEEDED] * 4


def keeps_the_time_limit(case: EngineCase) -> None:
    """A task past its time is ended and named so; one within it is not."""
    limits = Limits(timeout_s=0.5)
    late, quick = case.end(case.task("last", limits=limits, seconds=0), case.task("add", left=1, right=1))
    assert late.state is AttemptState.TIMED_OUT
    assert "0.5 s" in _message(late)
    assert quick.state is AttemptState.SUCCEEDED


def keeps_the_memory_limit(case: EngineCase) -> None:
    """A task past its memory is ended; the peak is told."""
    (result,) = case.end(case.task("grow", limits=Limits(memory_bytes=300 * 2**20), mebibytes=400))
    assert result.state is AttemptState.KILLED
    assert _cause(result) == "memory"
    assert result.usage.peak_bytes > 250 * 2**20


def cancels_what_runs(case: EngineCase) -> None:
    """A cancelled task ends with all it started, and its result says so."""
    task = case.task("hold", mark="cancelled")
    case.engine.submit(task)
    pids = case.pids("cancelled")
    case.engine.cancel(task.id)
    (result,) = case.wait([task])
    assert result.state is AttemptState.CANCELLED
    assert _cause(result) == "cancelled"
    _until(lambda: not any(map(is_running, pids)), "a cancelled task goes on")
    gives_results(case)


def cancels_what_waits(case: EngineCase) -> None:
    """A task cancelled before its turn never starts."""
    running = [case.task("hold", mark=f"slot-{slot}") for slot in range(case.engine.slots)]
    waiting = case.task("hold", mark="waiting")
    for task in [*running, waiting]:
        case.engine.submit(task)
    for slot in range(case.engine.slots):
        case.pids(f"slot-{slot}")
    for task in [waiting, *running]:
        case.engine.cancel(task.id)
    assert {r.state for r in case.wait([*running, waiting])} == {AttemptState.CANCELLED}
    assert not (case.folder / "waiting").exists()


def performs_many_tasks(case: EngineCase) -> None:
    """Every one of many tasks comes back once, with its own result."""
    tasks = [case.task("add", left=number, right=0) for number in range(40)]
    blobs = Blobs(case.folder / "home" / "blobs")
    assert [codecs.load(r.outputs["add"], blobs) for r in case.end(*tasks)] == list(range(40))


def works_at_the_same_time(case: EngineCase) -> None:
    """Two tasks that wait for each other while they compute both end: each has a process of its own."""
    one = case.task("meet", own="one", other="two")
    two = case.task("meet", own="two", other="one")
    results = case.end(one, two)
    assert [r.state for r in results] == [AttemptState.SUCCEEDED] * 2
    assert all(r.usage.cpu_s > 0 for r in results)


def waits_no_longer_than_asked(case: EngineCase) -> None:
    """Without anything to report the answer is empty, soon."""
    task = case.task("hold", mark="long")
    assert not case.engine.results(0.0)
    case.engine.submit(task)
    assert not case.engine.results(0.01)
    case.pids("long")
    case.engine.cancel(task.id)
    case.wait([task])


def leaves_nothing_behind(case: EngineCase) -> None:
    """Closing ends every process, what those started, and what they logged; doing it twice does no harm."""
    engine = case.make()
    other = EngineCase(engine, case.make, case.folder)
    engine.submit(other.task("hold", mark="left-1"))
    engine.submit(other.task("hold", mark="left-2"))
    pids = [*other.pids("left-1"), *other.pids("left-2")]
    engine.close()
    engine.close()
    _until(lambda: not any(map(is_running, pids)), "a process outlives its engine")
    assert list((case.folder / "home" / "tmp" / "logs").glob("hold-*")) == []


def _cause(result: Result) -> str:
    assert result.failure is not None, result
    return result.failure.kind


def _message(result: Result) -> str:
    assert result.failure is not None, result
    return result.failure.message


CHECKS: tuple[Callable[[EngineCase], None], ...] = (
    gives_results,
    passes_artifacts_on,
    makes_the_same_bytes_everywhere,
    shows_the_users_traceback,
    reports_each_death,
    survives_a_killed_process,
    replaces_a_process_that_died_idle,
    keeps_the_time_limit,
    keeps_the_memory_limit,
    cancels_what_runs,
    cancels_what_waits,
    performs_many_tasks,
    works_at_the_same_time,
    waits_no_longer_than_asked,
    leaves_nothing_behind,
)
"""Every promise of the protocol, one check each."""
