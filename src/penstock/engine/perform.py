"""Performs one task inside a run process: the only module of the engine that calls user code.

A task goes in and a result comes out, whatever the user's code does short of killing the process.
"""

import contextlib
import functools
import os
import resource
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from penstock.checks.answers import finite_answers
from penstock.core import faults
from penstock.core.errors import DamagedError, PenstockError, StepError, StoreError
from penstock.core.plain import built_in, json_ready
from penstock.core.process import peak_bytes, reset_peak
from penstock.core.records import Failure, Usage
from penstock.core.states import AttemptState
from penstock.engine import evidence, intake
from penstock.engine.arguments import DamagedInputError, arguments_of, function_of, value_of
from penstock.engine.logs import read_tail
from penstock.engine.protocol import Result, Task
from penstock.engine.rows import answer_rows
from penstock.engine.sampling import sample_requests, sample_rows
from penstock.pipeline.params import bind_params
from penstock.store import codecs
from penstock.store.blobs import Blobs


def perform(task: Task, log: Path) -> Result:
    """Run `task` to its end and say what came of it; what it prints goes to the file `log` and into the result."""
    started, cpu = time.monotonic(), _cpu_s()
    reset_peak()
    faults.point("attempt_before_start")
    with _printing_to(log):
        result = _guarded(task)
    usage = Usage(wall_s=time.monotonic() - started, cpu_s=_cpu_s() - cpu, peak_bytes=peak_bytes())
    return Result(
        id=result.id,
        state=result.state,
        outputs=result.outputs,
        parts=result.parts,
        dataset=result.dataset,
        checks=result.checks,
        facts=result.facts,
        failure=result.failure,
        usage=usage,
        log=read_tail(log),
    )


def _guarded(task: Task) -> Result:
    try:
        return _KINDS[task.kind](task)
    except KeyboardInterrupt:
        return Result(id=task.id, state=AttemptState.CANCELLED, failure=Failure(kind="cancelled", message="Cancelled."))
    except Exception as error:  # noqa: BLE001 - the step boundary: whatever user code raises becomes a result
        facts = {"damaged": error.digest} if isinstance(error, DamagedInputError) else {}
        return Result(id=task.id, state=AttemptState.FAILED, failure=failure_of(task, error), facts=facts)


def _call(task: Task) -> Result:
    function = function_of(task)
    arguments = arguments_of(task)
    faults.point("attempt_in_user_code")
    value = function(**arguments, **bind_params(function, task.params))
    faults.point("attempt_before_write")
    blobs = Blobs(Path(task.place.home) / "blobs")
    outputs = {name: codecs.save(item, blobs) for name, item in _named_outputs(task, value).items()}
    if task.node.role == "evaluate":
        evidence.require_declared(task, outputs[task.node.name], blobs)
    return Result(id=task.id, state=AttemptState.SUCCEEDED, outputs=outputs)


def _named_outputs(task: Task, value: object) -> dict[str, object]:
    names = task.node.outputs
    if len(names) == 1:
        return {names[0]: value}
    if not isinstance(value, tuple) or len(value) != len(names):
        found = f"{len(value)} values" if isinstance(value, tuple) else type(value).__name__
        raise StepError(
            f"{_named(task)} declares outputs {names!r} but returned {found}.",
            hint=f"return a tuple of {len(names)} values in that order",
        )
    return dict(zip(names, value, strict=True))


def _answer(task: Task) -> Result:
    """Call a serve function as the pipeline would, on the user's examples or on requests sampled from the data."""
    count = task.extra["sources"]
    function = function_of(task)
    arguments = {given.argument: value_of(given, task) for given in task.given[:count]}
    call = functools.partial(function, **arguments)
    rows = sample_rows(task, task.given[count:])
    if rows is not None:
        return answer_rows(task, call, rows)
    requests = task.extra["examples"] or sample_requests(task, task.given[count:])
    found = [call(**fields) for fields in requests]
    facts = {"requests": [json_ready(fields) for fields in requests], "answers": [json_ready(one) for one in found]}
    return Result(
        id=task.id,
        state=AttemptState.SUCCEEDED,
        facts=facts,
        checks=(finite_answers([built_in(one) for one in found]),),
    )


_KINDS: dict[str, Callable[[Task], Result]] = {
    "call": _call,
    "answer": _answer,
    "intake": intake.take_in,
    "peek": intake.peek,
    "freeze": intake.freeze,
    "split": intake.split,
    "check": evidence.check,
    "summarise": evidence.summarise,
    "built_in": evidence.built_in,
}


def failure_of(task: Task, error: Exception) -> Failure:
    """Describe what user code raised: the user's own frames, where the files really are, and how to go on."""
    what = _named(task) + (f" for {task.part!r}" if task.part else "")
    if isinstance(error, PenstockError):
        is_named = error.message.startswith(f"{_named(task)} ")
        said = error.message.removeprefix(_named(task)) if is_named else f": {error.message}"
        return Failure(kind=_kind(error), message=f"{what}{said}", hint=error.hint)
    kind = "memory" if isinstance(error, MemoryError) else "exception"
    part = f" --part {shlex.quote(task.part)}" if task.part else ""
    return Failure(
        kind=kind,
        message=f"{what} raised {type(error).__name__}: {str(error)[:2000]}",
        traceback=user_traceback(task, error),
        hint=f"debug it alone with the same inputs: penstock debug {task.node.name}{part}{_way_out(task)}",
    )


def _named(task: Task) -> str:
    return f"{task.node.role.capitalize()} {task.node.name!r}"


def _way_out(task: Task) -> str:
    # Otherwise a change after which the live release cannot be evaluated would block every later run.
    if not any(given.argument == "model" and given.released for given in task.given):
        return ""
    return "; if the live release cannot be judged by this code, go on without it: penstock run --without-champion"


def _kind(error: PenstockError) -> str:
    match error:
        case DamagedError():
            return "damaged"
        case StoreError():
            return "store"
        case _:
            return "refused"


def user_traceback(task: Task, error: Exception) -> str:
    """Format the traceback without Penstock's own frames, with paths of the project rather than of its snapshot."""
    ours = str(Path(__file__).resolve().parents[1])
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    text = "".join(
        ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    ) + "".join(traceback.format_exception_only(error))
    return text.replace(task.place.code_dir + os.sep, task.place.root + os.sep)


@contextlib.contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for saved, fd in zip(kept, (1, 2), strict=True):
            os.dup2(saved, fd)
            os.close(saved)
        os.close(target)


def _cpu_s() -> float:
    usage, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime + children.ru_utime + children.ru_stime
