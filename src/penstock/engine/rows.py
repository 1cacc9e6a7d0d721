"""Asks a function of rows as a run does: each sampled row alone, then all together, which must not differ."""

from collections.abc import Callable
from typing import Any

from penstock.checks.answers import finite_answers, same_answers
from penstock.core.errors import StepError
from penstock.core.plain import built_in, json_ready
from penstock.core.records import CheckResult
from penstock.core.states import AttemptState
from penstock.engine.protocol import Result, Task
from penstock.engine.sampling import SampledRows

# Sums in another order differ in the last places: a matrix product of many rows is blocked otherwise than of one.
TOLERANCE = 1e-9


def answer_rows(task: Task, call: Callable[..., object], rows: SampledRows) -> Result:
    """Return the answers to single rows, and the checks that they are finite and the same in one batch.

    Raises:
        StepError: The function gave something else than one answer per row.
    """
    count = len(rows.requests)
    alone = [_only(_listed(task, call(**{rows.field: rows.part(place, 1)}))) for place in range(count)]
    together = _listed(task, call(**{rows.field: rows.part(0, count)}))
    if len(together) != count:
        raise _unequal(task, len(together), count)
    return Result(
        id=task.id,
        state=AttemptState.SUCCEEDED,
        facts={
            "requests": [{rows.field: [row]} for row in rows.requests],
            "answers": [[json_ready(one)] for one in alone],
            "columns": [list(column) for column in rows.columns],
        },
        checks=(finite_answers(alone), _same_in_batch(alone, together)),
    )


def _same_in_batch(alone: list[Any], together: list[Any]) -> CheckResult:
    found = same_answers(json_ready(alone), json_ready(together), tolerance=TOLERANCE)
    message = found.message if found.passed else f"asked alone and in a batch, {found.message}"
    return CheckResult(
        name="same_in_batch", passed=found.passed, built_in=True, message=message, evidence=found.evidence
    )


def _listed(task: Task, found: object) -> list[Any]:
    if isinstance(found, dict):  # columns: one list per name
        columns = {name: built_in(column) for name, column in found.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    plain = built_in(found)
    if not isinstance(plain, list | tuple):
        raise StepError(
            f"Serve {_name(task)!r} takes rows and returned {type(found).__name__}, which has no entry per row.",
            hint="return a list, an array, a series or a frame with one entry per row",
        )
    return list(plain)


def _only(answers: list[Any]) -> Any:
    return answers[0] if len(answers) == 1 else answers


def _unequal(task: Task, got: int, rows: int) -> StepError:
    return StepError(f"Serve {_name(task)!r} returned {got} answers to {rows} rows.", hint="return one answer per row")


def _name(task: Task) -> str:
    return task.node.name.partition(":")[2]
