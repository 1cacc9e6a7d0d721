"""Built-in checks: pure functions of values, each a result with its evidence.

Here are the checks of evaluations and data versions; those of answers (`answers`) and of leakage between train and
test (`leakage`) are offered under this one door.
"""

from collections.abc import Mapping, Sequence

import msgspec

from penstock.checks.answers import finite_answers, same_answers
from penstock.checks.columns import floats, plain
from penstock.checks.evaluation import Evaluation, Lift
from penstock.checks.leakage import key_leakage, row_leakage, target_leakage, time_leakage
from penstock.checks.results import built_in
from penstock.checks.show import show_float
from penstock.checks.statistics import holm, spread
from penstock.checks.worst_slices import DECLARED, Limits
from penstock.core.errors import DataError
from penstock.core.records import CheckResult

__all__ = [
    "finite_answers",
    "finite_metrics",
    "key_leakage",
    "no_empty_split",
    "not_worse_than_baselines",
    "not_worse_than_champion",
    "row_leakage",
    "same_answers",
    "schema_kept",
    "slices_not_worse",
    "target_leakage",
    "time_leakage",
    "worst_slices",
]

_ALPHA = 0.05
_LIMITS = Limits()


def no_empty_split(step: str, outputs: Mapping[str, int]) -> CheckResult:
    """Check that no output of a step is a frame without rows.

    Args:
        step: Name of the step.
        outputs: Rows by name of output.
    """
    empty = [name for name, rows in outputs.items() if rows == 0]
    if empty:
        message = f"{_listed(empty)} of step {step!r} {'has' if len(empty) == 1 else 'have'} no rows"
    else:
        message = f"every output of step {step!r} has rows"
    return built_in("no_empty_split", message, passed=not empty, evidence={"step": step, "rows": dict(outputs)})


def finite_metrics(evaluation: Evaluation) -> CheckResult:
    """Check that every model has at least two evaluation rows, and that no metric is missing, NaN or infinite."""
    bad = evaluation.non_finite()
    rows = {model: evaluation.rows(model).height for model in evaluation.models}
    faults = [
        f"{metric} of {model!r} is missing, NaN or infinite in {count} of {rows[model]} rows"
        for (model, metric), count in bad.items()
    ]
    faults += [f"{model!r} has {_counted(count, 'evaluation row')}" for model, count in rows.items() if count < 2]
    evidence = {"rows": rows, "non_finite": [{"model": m, "metric": k, "rows": n} for (m, k), n in bad.items()]}
    message = "; ".join(faults) or f"all values of {', '.join(evaluation.metrics)} are finite"
    return built_in("finite_metrics", message, passed=not faults, evidence=evidence)


def not_worse_than_champion(evaluation: Evaluation, *, tolerance: float = 0.0) -> CheckResult:
    """Check that the candidate is not shown worse than the live release, on the same examples.

    Worse is shown when the whole 95 % interval of the paired difference lies below zero (beyond the tolerance), so a
    candidate as good as the champion is refused in 2.5 % of cases.

    Args:
        evaluation: The evaluation with the champion's rows.
        tolerance: A loss in the main metric that is accepted, in the metric's unit.
    """
    name = "not_worse_than_champion"
    champion = evaluation.champion
    if champion is None:
        return built_in(name, "there is no champion to compare with", passed=True, evidence={"champion": None})
    return _compared(name, evaluation, (champion,), tolerance)


def not_worse_than_baselines(evaluation: Evaluation, *, tolerance: float = 0.0) -> CheckResult:
    """Check that the candidate is not shown worse than any declared baseline, on the same examples.

    Args:
        evaluation: The evaluation with the baselines' rows.
        tolerance: A loss in the main metric that is accepted, in the metric's unit.
    """
    name = "not_worse_than_baselines"
    baselines = evaluation.roles.baselines
    if not baselines:
        return built_in(name, "no baseline is declared", passed=True, evidence={"baselines": []})
    return _compared(name, evaluation, baselines, tolerance)


def slices_not_worse(evaluation: Evaluation, *, limits: Limits = DECLARED) -> CheckResult:
    """Check that the candidate is not shown worse than the champion in any declared slice, by a loss that counts.

    One-sided paired tests of "worse by more than the smallest loss that counts", corrected by Holm for the number of
    slices: if nowhere more than that is lost, some slice blocks the candidate in at most `limits.alpha` of cases,
    however many slices there are. Two trainings of one pipeline never lose nothing in each of many slices.

    Args:
        evaluation: The evaluation with the champion's rows.
        limits: Accepted rate of false blocks over all slices together, fewest examples of a slice, and the smallest
            loss that counts, in standard deviations of the metric over all examples of the champion.
    """
    name = "slices_not_worse"
    champion = evaluation.champion
    if champion is None or not evaluation.slice_columns:
        message = "there is no champion to compare with" if champion is None else "no slice is declared"
        return built_in(name, message, passed=True, evidence={"slices": 0})
    try:
        margin = limits.min_effect * spread(floats(evaluation.rows(champion)[evaluation.metric]))
        lifts = evaluation.slice_lifts(evaluation.candidate, over=champion, margin=margin)
    except DataError as error:
        return built_in(name, str(error), passed=False, evidence={"champion": champion})
    judged = lifts.filter(lifts["n"] >= limits.min_n)
    adjusted = holm(judged["p_worse"].to_numpy())
    rows = [
        {**plain(row), "p_adjusted": p} for row, p in zip(judged.iter_rows(named=True), adjusted.tolist(), strict=True)
    ]
    worse = sorted((row for row in rows if row["p_adjusted"] < limits.alpha), key=lambda row: row["p_adjusted"])
    evidence = {"judged": len(rows), "too_small": lifts.height - len(rows), "margin": margin, "worse": worse}
    evidence |= msgspec.to_builtins(limits)
    told = [
        f"{row['column']}={row['value']} by {show_float(abs(row['mean']))} (n={row['n']}, "
        f"adjusted p {show_float(row['p_adjusted'])})"
        for row in worse
    ]
    least = f"by more than {show_float(margin)}" if margin else ""
    message = f"none of {_counted(len(rows), 'slice')} is shown worse than the champion's {least}".rstrip()
    if worse:
        message = f"{evaluation.metric} is worse than the champion's for {'; '.join(told[:5])}"
        message += f" and {len(told) - 5} more" if len(told) > 5 else ""
    return built_in(name, message, passed=not worse, evidence=evidence)


def worst_slices(evaluation: Evaluation, *, limits: Limits = _LIMITS) -> CheckResult:
    """Check that there is no slice, by any column or pair of columns, in which the champion is surely better.

    All columns that describe the examples are searched, declared as slices or not. If the candidate is nowhere worse,
    some slice blocks it in at most `limits.alpha` of cases, however many slices there are. Slices in which a baseline
    is surely better are told and block nothing: a simple rule may well be the best one for some few.

    Args:
        evaluation: The evaluation with the rows of those it is compared with.
        limits: Accepted rate of false blocks, fewest examples of a slice, smallest loss that counts.
    """
    name = "worst_slices"
    champion = evaluation.champion
    others = [*([] if champion is None else [champion]), *evaluation.roles.baselines]
    if not others:
        return built_in(name, "there is nothing to compare with", passed=True, evidence={"judged": 0})
    try:
        found = {other: evaluation.worst_slices(evaluation.candidate, over=other, limits=limits) for other in others}
    except DataError as error:
        return built_in(name, str(error), passed=False, evidence={"against": others})
    worse = [
        {"over": other, "slice": one.name, **msgspec.to_builtins(one)} for other in others for one in found[other].found
    ]
    judged, too_small = (max(getattr(one, what) for one in found.values()) for what in ("judged", "too_small"))
    evidence = {"judged": judged, "too_small": too_small, "worse": worse, **msgspec.to_builtins(limits)}
    blocking = [row for row in worse if row["over"] == champion]
    told = [
        f"{row['slice']} by {show_float(abs(row['mean']))} (n={row['n']}, adjusted p {show_float(row['p_adjusted'])})"
        for row in blocking or worse
    ]
    listed = "; ".join(told[:5]) + (f" and {len(told) - 5} more" if len(told) > 5 else "")
    message = f"none of {_counted(judged, 'slice')} found automatically is shown worse"
    if blocking:
        message = f"{evaluation.metric} is worse than the champion's for {listed}"
    elif worse:
        message = f"a baseline is better, which blocks nothing, for {listed}"
    return built_in(name, message, passed=not blocking, evidence=evidence)


def schema_kept(expected: Sequence[tuple[str, str]], found: Sequence[tuple[str, str]], *, dataset: str) -> CheckResult:
    """Check that a dataset still has the columns and types agreed; new columns are allowed and named.

    Args:
        expected: (column, dtype) as agreed at the first intake or released.
        found: (column, dtype) of this version.
        dataset: What to call it, as "ratings@7".
    """
    before, now = dict(expected), dict(found)
    missing = [column for column in before if column not in now]
    changed = [f"{c!r} was {before[c]}, is {now[c]}" for c in before if c in now and before[c] != now[c]]
    added = [column for column in now if column not in before]
    faults = [f"column {column!r} is gone" for column in missing] + changed
    message = f"{dataset}: {'; '.join(faults)}" if faults else f"{dataset} has the {len(before)} columns agreed"
    if added:
        message += f" (new: {_listed(added[:5])}{' and more' if len(added) > 5 else ''})"
    evidence = {"dataset": dataset, "missing": missing, "changed": changed, "added": added}
    return built_in("schema_kept", message, passed=not faults, evidence=evidence)


def _compared(name: str, evaluation: Evaluation, others: Sequence[str], tolerance: float) -> CheckResult:
    told: list[str] = []
    lifts: list[dict[str, object]] = []
    shown_worse = False
    for other in others:
        try:
            lift = evaluation.lift(evaluation.candidate, over=other)
        except DataError as error:
            return built_in(name, str(error), passed=False, evidence={"against": other})
        low, high = (lift.low, lift.high) if evaluation.higher_is_better else (-lift.high, -lift.low)
        verdict = "worse" if high < -tolerance else "better" if low > 0 else "equal"
        # Worst news first: a message may be cut, a verdict may not.
        told.insert(0 if verdict == "worse" else len(told), _comparison(evaluation, lift, verdict))
        shown_worse = shown_worse or verdict == "worse"
        numbers = {"mean": lift.mean, "low": lift.low, "high": lift.high, "n": lift.n, "base": lift.base}
        lifts.append({"over": other, "verdict": verdict, **plain(numbers)})
    evidence = {"metric": evaluation.metric, "tolerance": tolerance, "lifts": lifts}
    return built_in(name, "; ".join(told), passed=not shown_worse, evidence=evidence)


def _comparison(evaluation: Evaluation, lift: Lift, verdict: str) -> str:
    ours, theirs = show_float(lift.base + lift.mean), show_float(lift.base)
    whose = "the champion's" if lift.over == evaluation.champion else f"{lift.over!r}, which has"
    interval = f"(95 % CI of the difference {show_float(lift.low)} to {show_float(lift.high)})"
    if verdict == "equal":
        return f"{evaluation.metric} {ours} is not shown different from {whose} {theirs} {interval}"
    is_below = (verdict == "worse") == evaluation.higher_is_better
    return f"{evaluation.metric} {ours} is {'below' if is_below else 'above'} {whose} {theirs} {interval}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
