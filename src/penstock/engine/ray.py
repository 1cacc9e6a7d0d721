"""The engine on a Ray cluster: one actor per slot, each watching over one run process of the local engine.

So limits, causes of death and captured output are the same everywhere; Ray decides where, and notices lost machines.
Blobs and lake must be reachable from every node (a shared file system, or one machine). Extra: `ray`.
"""

import collections
import contextlib
import os
from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.core.errors import InputError
from penstock.core.records import Failure
from penstock.core.states import AttemptState
from penstock.engine.local import LocalEngine
from penstock.engine.logs import log_path, read_tail
from penstock.engine.protocol import Result, Task

_ENCODER = msgspec.msgpack.Encoder()
_RESULT = msgspec.msgpack.Decoder(Result)


class Slot:
    """What runs inside a Ray actor: one supervised run process."""

    def __init__(self) -> None:
        self._engine = LocalEngine(1)

    def run(self, data: bytes) -> bytes:
        """Perform one task, given and answered as msgpack."""
        self._engine.submit(msgspec.msgpack.decode(data, type=Task))
        while not (ended := self._engine.results(60.0)):
            pass
        return _ENCODER.encode(ended[0])

    def pid(self) -> int:
        """Return the actor's process id, for tests that kill it."""
        return os.getpid()


class RayEngine:
    """Runs tasks on a Ray cluster.

    Args:
        workers: Most tasks at once.
        address: Address of a cluster; None uses the one this program is connected to already, or starts one on this
            machine and ends it on `close`.

    Raises:
        InputError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, workers: int, address: str | None = None) -> None:
        self._ray, self._is_ours = connect(workers, address)
        self._workers = workers
        self._slot_class = self._ray.remote(Slot).options(num_cpus=1, max_restarts=0)
        self._free: list[Any] = []
        self._made = 0
        self._busy: dict[Any, tuple[Task, Any]] = {}
        self._queue: collections.deque[Task] = collections.deque()
        self._ended: list[Result] = []

    @property
    def slots(self) -> int:
        """How many tasks can run at once."""
        return self._workers

    def submit(self, task: Task) -> None:
        """Queue a task; it starts as soon as a slot is free."""
        self._queue.append(task)
        self._feed()

    def results(self, timeout_s: float) -> Sequence[Result]:
        """Wait up to `timeout_s` for tasks to end."""
        if self._busy and not self._ended:
            ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=timeout_s)
            for ref in ready:
                self._receive(ref)
        self._feed()
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, task_id: str) -> None:
        """End a task: its actor is killed, and the run process dies with it."""
        for task in [t for t in self._queue if t.id == task_id]:
            self._queue.remove(task)
            self._ended.append(_cancelled(task))
        for ref, (task, slot) in list(self._busy.items()):
            if task.id == task_id:
                del self._busy[ref]
                self._ray.kill(slot)
                self._made -= 1
                self._ended.append(_cancelled(task))
                log_path(task).unlink(missing_ok=True)

    def close(self) -> None:
        """End every slot, and the cluster when it was started here."""
        for slot in [*self._free, *(slot for _, slot in self._busy.values())]:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(slot)
        for task, _ in self._busy.values():
            log_path(task).unlink(missing_ok=True)
        self._free.clear()
        self._busy.clear()
        self._queue.clear()
        self._made = 0
        if self._is_ours and self._ray.is_initialized():
            self._ray.shutdown()

    def _feed(self) -> None:
        while self._queue and (self._free or self._made < self._workers):
            slot = self._free.pop() if self._free else self._new_slot()
            task = self._queue.popleft()
            self._busy[slot.run.remote(_ENCODER.encode(task))] = (task, slot)

    def _new_slot(self) -> Any:
        self._made += 1
        return self._slot_class.remote()

    def _receive(self, ref: Any) -> None:
        task, slot = self._busy.pop(ref)
        try:
            result = _RESULT.decode(self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            self._made -= 1
            message = f"{task.node.role.capitalize()} {task.node.name!r} lost its Ray worker: {type(error).__name__}."
            failure = Failure(kind="lost", message=message)
            log = log_path(task)
            self._ended.append(Result(id=task.id, state=AttemptState.LOST, failure=failure, log=read_tail(log)))
            log.unlink(missing_ok=True)
            return
        self._free.append(slot)
        self._ended.append(result)


def _cancelled(task: Task) -> Result:
    failure = Failure(kind="cancelled", message=f"{task.node.role.capitalize()} {task.node.name!r} was cancelled.")
    return Result(id=task.id, state=AttemptState.CANCELLED, failure=failure)


def connect(workers: int, address: str | None) -> tuple[Any, bool]:
    """Connect this program to a cluster, as `RayEngine` does.

    Args:
        workers: Tasks at once for which one that is started here has room.
        address: Address of a cluster; None uses the one this program is connected to already, or starts one.

    Returns:
        The library, and whether the cluster was started here and is therefore ours to end.

    Raises:
        InputError: Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("The engine 'ray' needs Ray.", hint="pip install 'penstock[ray]'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "namespace": "penstock"}
    if address is None:
        options |= {"num_cpus": workers, "include_dashboard": False}
    else:
        options["address"] = address
    if ray.is_initialized():
        return ray, False
    try:
        ray.init(**options)
    except ConnectionError as error:
        raise InputError(f"No Ray cluster answers at {address!r}.", hint="start one: ray start --head") from error
    return ray, address is None
