"""Tasks that make evidence: user's checks, summaries of evaluations, built-in checks. Run in run processes."""

from collections.abc import Callable
from typing import Any

import polars as pl

from penstock.checks import built_in as checks
from penstock.checks.asserts import run_check
from penstock.checks.columns import require_declared as require_columns
from penstock.checks.evaluation import Evaluation
from penstock.core.records import Artifact, CheckResult
from penstock.core.states import AttemptState
from penstock.engine.arguments import arguments_of, function_of
from penstock.engine.protocol import Result, Task
from penstock.pipeline.graph import texts
from penstock.pipeline.params import bind_params
from penstock.store import codecs
from penstock.store.blobs import Blobs


def check(task: Task) -> Result:
    """Run a user's check."""
    function = function_of(task)
    arguments = {**arguments_of(task), **bind_params(function, task.params)}
    found = run_check(function, arguments, name=task.node.name)
    return Result(id=task.id, state=AttemptState.SUCCEEDED, checks=(found,))


def summarise(task: Task) -> Result:
    """Turn evaluation rows into means, slices and lifts, and judge them."""
    evaluation: Evaluation = arguments_of(task)["evaluation"]
    found = [
        checks.finite_metrics(evaluation),
        checks.not_worse_than_baselines(evaluation),
        checks.not_worse_than_champion(evaluation),
        checks.slices_not_worse(evaluation),
        checks.worst_slices(evaluation),
    ]
    is_finite = found[0].passed
    facts = {"metrics": evaluation.to_metrics(), "table": evaluation.table()} if is_finite else {}
    return Result(id=task.id, state=AttemptState.SUCCEEDED, checks=tuple(found), facts=facts)


def require_declared(task: Task, rows: Artifact, blobs: Blobs) -> None:
    """Refuse evaluation rows without a column that the evaluation declares: of the first model, not after the last.

    Raises:
        DataError: Names the column, and those there are.
    """
    options = task.node.options
    declared = (*texts(options.get("metric")), *texts(options.get("slices")), *texts(options.get("key")))
    frame = codecs.load(rows, blobs, form="lazy")
    if isinstance(frame, pl.LazyFrame):
        require_columns(declared, frame.collect_schema().names(), whose="its rows")


def built_in(task: Task) -> Result:
    """Run the built-in check the task names."""
    return Result(id=task.id, state=AttemptState.SUCCEEDED, checks=_BUILT_IN[task.extra["check"]](task))


def _no_empty_split(task: Task) -> tuple[CheckResult, ...]:
    frames = {name: value for name, value in arguments_of(task).items() if isinstance(value, pl.LazyFrame)}
    rows = {name: int(frame.select(pl.len()).collect().item()) for name, frame in frames.items()}
    return (checks.no_empty_split(task.extra["step"], rows),)


def _leakage(task: Task) -> tuple[CheckResult, ...]:
    frames: dict[str, Any] = arguments_of(task)
    train, test = frames["train"], frames["test"]
    if not isinstance(train, pl.LazyFrame) or not isinstance(test, pl.LazyFrame):
        return ()
    shared = set(train.collect_schema().names()) & set(test.collect_schema().names())
    found = [checks.time_leakage(train, test, time) for time in task.extra["times"] if time in shared]
    found += [checks.key_leakage(train, test, tuple(key)) for key in task.extra["keys"] if key and set(key) <= shared]
    return tuple(found)


_BUILT_IN: dict[str, Callable[[Task], tuple[CheckResult, ...]]] = {
    "no_empty_split": _no_empty_split,
    "leakage": _leakage,
}
