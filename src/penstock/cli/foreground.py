"""One node, called in the foreground of a terminal with the inputs a run would give it; keeps nothing.

`python -m penstock.cli.foreground TASK_FILE [CALLED_FILE]`: a failure shows the user's frames and, in a terminal,
opens the debugger where it happened; what came of the call is written to CALLED_FILE too. A process of its own, because
user code is never in the supervisor's.
"""

import pdb  # noqa: T100 - opening the debugger is what this is for
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from penstock.core.installed import is_installed
from penstock.core.records import Failure, Record
from penstock.engine.arguments import arguments_of, function_of
from penstock.engine.causes import died
from penstock.engine.perform import failure_of, user_traceback
from penstock.engine.protocol import Task
from penstock.pipeline.params import bind_params
from penstock.store.lake import Lake, since

_LONGEST = 2000


class Called(Record, frozen=True, kw_only=True):
    """What came of one call.

    Attributes:
        node: Name of the node.
        part: Key of a fan-out, or model of an evaluation; "" where there are none.
        place: File and line of the function, as "movies.py:40".
        arguments: Names of the inputs it was given.
        params: Value of each run parameter.
        state: "returned", "raised", or "ended" when its process did, without a result.
        returned: How the value shows itself, at most 2,000 characters; None where there is none.
        duration_s: Seconds the call took.
        failure: What it raised, or how its process ended.
    """

    node: str
    part: str
    place: str
    arguments: tuple[str, ...]
    params: dict[str, object]
    state: Literal["returned", "raised", "ended"]
    returned: str | None = None
    duration_s: float = 0.0
    failure: Failure | None = None


def main() -> int:
    """Perform the task in the file named by the first argument; return 1 if the user's code failed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started this leaves Ctrl-C to it
    task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Task)
    called, error = _call(task)
    for file in sys.argv[2:]:
        Path(file).write_bytes(msgspec.json.encode(called))
    if error is not None:
        return _examine(task, error)
    print(f"Returned {called.returned} after {called.duration_s:.2f} s. Nothing was kept.")
    return 0


def without_result(task: Task, returncode: int) -> Called:
    """Return what is known of a call whose process ended before it did."""
    failure = died(f"{task.node.role.capitalize()} {task.node.name!r}", returncode, 0, was_oom=False)
    return Called(
        node=task.node.name,
        part=task.part,
        place=f"{task.node.file}:{task.node.line}",
        arguments=tuple(given.argument for given in task.given),
        params=task.params,
        state="ended",
        failure=failure,
    )


def _call(task: Task) -> tuple[Called, Exception | None]:
    function = function_of(task)
    arguments = _dataset_words(task) if task.node.role == "dataset" else arguments_of(task)
    params = bind_params(function, task.params)
    place = f"{task.node.file}:{task.node.line}"
    shown = ", ".join([*arguments, *(f"{name}={value!r}" for name, value in params.items())])
    print(f"{place}  {task.node.name}({shown})", flush=True)
    began, returned, failure, raised = time.monotonic(), None, None, None
    try:
        returned = _shown(function(**arguments, **params))
    except Exception as error:  # noqa: BLE001 - the step boundary: what user code raises is what a person came to see
        raised, failure = error, failure_of(task, error)
    called = Called(
        node=task.node.name,
        part=task.part,
        place=place,
        arguments=tuple(arguments),
        params=task.params,
        state="returned" if failure is None else "raised",
        returned=returned,
        duration_s=time.monotonic() - began,
        failure=failure,
    )
    return called, raised


def _dataset_words(task: Task) -> dict[str, Any]:
    previous = Lake(Path(task.place.home) / "lake").table(task.pipeline, task.node.name).latest()
    words = {"since": since(previous), "now": datetime.fromisoformat(task.extra["now"])}
    return {edge.argument: words[edge.source] for edge in task.node.edges if edge.source in words}


def _examine(task: Task, error: Exception) -> int:
    print(user_traceback(task, error), file=sys.stderr, flush=True)
    if sys.stdin.isatty() and sys.stdout.isatty():
        print("The debugger stands where it failed: p NAME shows a value, u goes to the caller, q leaves.")
        pdb.post_mortem(_users(error.__traceback__, task.place.root) or error.__traceback__)
    return 1


def _users(found: TracebackType | None, root: str) -> TracebackType | None:
    """Return the traceback from the user's first frame to their last: what lies below is a library's."""
    own: list[TracebackType] = []
    while found is not None:
        path = found.tb_frame.f_code.co_filename
        if path.startswith(root) and not is_installed(path):
            own.append(found)
        found = found.tb_next
    if own:
        own[-1].tb_next = None
    return own[0] if own else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


if __name__ == "__main__":
    sys.exit(main())
