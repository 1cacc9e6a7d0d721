"""Runs a user's check: plain asserts whose messages show the values, as pytest shows them.

A check fails by an assert, by returning False, or by breaking; nothing but a clean end passes.
"""

import ast
import traceback
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import FrameType, TracebackType

import msgspec

from penstock.checks import recorder as recording
from penstock.checks.recorder import Recorder
from penstock.checks.rewrite import assert_at, rewrite, source_of
from penstock.checks.show import is_telling, plain_number, show
from penstock.core.records import CheckResult


def run_check(
    function: Callable[..., object], arguments: Mapping[str, object], *, name: str | None = None
) -> CheckResult:
    """Run a check and return what it found.

    A check passes when it ends without an error and returns None, True, or a mapping of plain JSON, which
    becomes evidence (its `passed` and `message`, if present, are taken as such). A `CheckResult` is taken over.
    It fails when an assert fails or it returns False. It fails with `evidence["kind"] == "error"` when it raises
    anything else or returns anything else: a broken check never passes.

    Args:
        function: The user's function.
        arguments: Values by parameter name.
        name: Name of the check; that of the function if not given.

    Returns:
        The result; `evidence` has `asserts` (how many ran in the check's own body) and `compared` (the numbers
        of the last comparison of each assert), or of a failure `kind` ("assert", "returned", "error"),
        `assert`, `line`, `values` and `traceback` (the user's frames only).

    Example:
        >>> def enough(scores):
        ...     assert len(scores) > 3
        >>> run_check(enough, {"scores": [0.5, 0.25]}).passed
        False
    """
    name = name or str(getattr(function, "__name__", "check"))
    runnable, recorder = rewrite(function)
    try:
        returned = runnable(**arguments)
    except AssertionError as error:
        return _failed_assert(name, error, recorder)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the edge to user code: every way to break must fail the check
        return _broken(name, error)
    return _judge(name, returned, recorder)


def _judge(name: str, returned: object, recorder: Recorder) -> CheckResult:
    evidence: dict[str, object] = {"asserts": recorder.count, "compared": recorder.compared()}
    if isinstance(returned, CheckResult):
        return msgspec.structs.replace(returned, name=name, built_in=False)
    if isinstance(returned, Mapping):
        return _from_mapping(name, returned, evidence)
    truth = plain_number(returned)
    if returned is None or truth is True:
        return CheckResult(name=name, passed=True, message=_held(recorder.count), evidence=evidence)
    if truth is False:
        evidence["kind"] = "returned"
        return CheckResult(name=name, passed=False, message="the check returned False", evidence=evidence)
    if hasattr(returned, "close"):  # a coroutine or generator: its body never ran
        returned.close()
    message = (
        f"the check returned {show(returned)} ({type(returned).__name__}); "
        "a check returns nothing, a bool, or a dict of plain values"
    )
    return CheckResult(name=name, passed=False, message=message, evidence={"kind": "error"})


def _from_mapping(name: str, returned: Mapping[str, object], evidence: dict[str, object]) -> CheckResult:
    try:
        told = msgspec.to_builtins(dict(returned), str_keys=True)
    except TypeError as error:
        message = f"the evidence that the check returned is not plain JSON: {error}"
        return CheckResult(name=name, passed=False, message=message, evidence={"kind": "error"})
    passed = told.pop("passed", True)
    message = str(told.pop("message", "held" if passed is True else "the check returned passed=False"))
    if not isinstance(passed, bool):
        message = f"the check returned passed={show(passed)}, which is not a bool"
        return CheckResult(name=name, passed=False, message=message, evidence={"kind": "error"})
    if not passed:
        evidence["kind"] = "returned"
    return CheckResult(name=name, passed=passed, message=message, evidence={**told, **evidence})


def _held(count: int) -> str:
    return f"{count} {'assert' if count == 1 else 'asserts'} held"


def _failed_assert(name: str, error: AssertionError, recorder: Recorder) -> CheckResult:
    frames = _user_frames(error)
    found = recorder.evidence_of(error) or _explain_plain(error, frames)
    message = str(found.pop("message", "") or error)
    evidence = {"kind": "assert", **found, "traceback": _format(error, frames)}
    return CheckResult(name=name, passed=False, message=message, evidence=evidence)


def _explain_plain(error: AssertionError, frames: TracebackType | None) -> dict[str, object]:
    """Describe an assert that was not rewritten (a helper of the user's): its source and the names in it."""
    last = frames
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    statement = assert_at(last.tb_frame.f_code.co_filename, last.tb_lineno) if last else None
    if last is None or statement is None:
        return {"message": str(error) or "AssertionError without a message"}
    source = source_of(statement.test)
    values = _names_in(statement, last.tb_frame)
    text = f"assert {source}" + (f": {', '.join(values)}" if values else "")
    own = recording.show_message(error.args[0]) if error.args else ""
    message = f"{own} ({text})" if own else text
    return {"message": message, "assert": source, "line": last.tb_lineno, "values": values}


def _names_in(statement: ast.Assert, frame: FrameType) -> list[str]:
    names = dict.fromkeys(node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name))
    local = frame.f_locals
    return [f"{name} = {show(local[name])}" for name in names if name in local and is_telling(local[name])]


def _broken(name: str, error: BaseException) -> CheckResult:
    text = str(error)
    message = f"the check broke: {type(error).__name__}" + (f": {text}" if text else "")
    evidence = {"kind": "error", "error": type(error).__name__, "traceback": _format(error, _user_frames(error))}
    return CheckResult(name=name, passed=False, message=message, evidence=evidence)


def _user_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback without the frames of this package's own machinery at its start."""
    frames = error.__traceback__
    while frames is not None and PurePath(frames.tb_frame.f_code.co_filename) == PurePath(__file__):
        frames = frames.tb_next
    return frames


def _format(error: BaseException, frames: TracebackType | None) -> str:
    return "".join(traceback.format_exception(type(error), error, frames))
