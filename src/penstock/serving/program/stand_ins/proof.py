"""The proof that an equivalent answers as the model does, on rows of the pipeline and made up, alone and at once."""

import warnings
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from penstock.releases.manifest import StandIn as Proven
from penstock.serving.program.stand_ins.binding import ORIGINAL
from penstock.serving.program.stand_ins.candidates import Candidate, Equivalent, made_up, reason
from penstock.serving.program.stand_ins.equality import Tolerance, distance, rounded_up
from penstock.serving.program.stand_ins.inputs import FORMS, TENSOR, Rows, in_form
from penstock.serving.program.stand_ins.model import Compute
from penstock.serving.program.stand_ins.timing import speedup
from penstock.serving.program.stand_ins.way import NotPossibleError
from penstock.store import codecs
from penstock.store.blobs import Blobs

# What other forms than arrays of doubles are proven on: their values are the same, only their reading differs.
_FORM_ROWS = 200
_BATCH = 1000
_BUDGET_S = 0.5


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Rows of the pipeline, rows made up from their values, and the sample that goes into the release."""

    real: Rows
    made_up: Rows
    sample: Rows | None

    @property
    def rows(self) -> Rows:
        return np.concatenate([self.real, self.made_up])


def proven_for(candidate: Candidate, blobs: Blobs) -> Proven:
    """Return the first equivalent that answers as the model does, and its proof; kind "original" when there is none."""
    # A model trained on frames warns when it is asked with an array; here that is on purpose.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evidence = _evidence(candidate) if candidate.equivalent is not None else None
        while evidence is not None and candidate.equivalent is not None:
            found = _tried(candidate.model, candidate.equivalent, evidence, blobs)
            if isinstance(found, Proven):
                return msgspec.structs.replace(found, refused=dict(candidate.refused))
            candidate.refused[candidate.equivalent.way.kind] = found
            candidate.advance()
    return Proven(kind=ORIGINAL, refused=dict(candidate.refused))


def gains(candidate: Candidate, proven: Proven) -> dict[str, float]:
    """Return how many times faster the equivalent is here, on one row and on a thousand.

    Of this machine and this moment: kept beside the release, never in it.
    """
    assert candidate.equivalent is not None  # noqa: S101 -- it is what was proven
    rows = candidate.rows()
    inputs = candidate.equivalent.built.inputs
    many = np.tile(rows, (-(-_BATCH // len(rows)), 1))[:_BATCH]
    one, all_of_them = (in_form(part, inputs.first, inputs.names) for part in (rows[:1], many))
    ask, compute = getattr(candidate.model, proven.methods[0]), candidate.equivalent.built.methods[proven.methods[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "one_row": round(speedup(lambda: ask(one), lambda: compute(rows[:1]), budget_s=_BUDGET_S), 1),
            "thousand_rows": round(speedup(lambda: ask(all_of_them), lambda: compute(many), budget_s=_BUDGET_S), 1),
        }


def _tried(model: Any, equivalent: Equivalent, evidence: _Evidence, blobs: Blobs) -> Proven | str:
    """Return the proof, or why there is none."""
    try:
        return _proven(model, equivalent, evidence, blobs)
    except NotPossibleError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 -- libraries raise what they like; without a proof the model serves as it is
        return reason(error)


def _evidence(candidate: Candidate) -> _Evidence:
    real = candidate.rows()
    if not len(real):
        return _Evidence(real, real, None)
    mixed, sample = made_up(real)
    is_usable = all(_answers_all(candidate, rows) for rows in (mixed, sample))
    return _Evidence(real, np.concatenate([mixed, sample]), sample) if is_usable else _Evidence(real, real[:0], None)


def _answers_all(candidate: Candidate, rows: Rows) -> bool:
    assert candidate.equivalent is not None  # noqa: S101 -- rows are made up for those that have one
    built = candidate.equivalent.built
    try:
        for method in built.methods:
            getattr(candidate.model, method)(in_form(rows, built.inputs.first, built.inputs.names))
    except Exception:  # noqa: BLE001 -- a model may refuse rows that no data ever held; then none are made up
        return False
    return True


def _proven(model: Any, equivalent: Equivalent, evidence: _Evidence, blobs: Blobs) -> Proven:
    if not len(evidence.real):
        raise NotPossibleError("there are no rows of the pipeline to prove it on")
    built, tolerance, rows = equivalent.built, equivalent.way.tolerance, evidence.rows
    apart, answered = 0.0, np.ones(len(rows), bool)
    given = in_form(rows, built.inputs.first, built.inputs.names)
    for name, compute in built.methods.items():
        farthest, own = _compared(getattr(model, name)(given), rows, compute, name=name, tolerance=tolerance)
        apart, answered = max(apart, farthest), answered & own
    real = int(answered[: len(evidence.real)].sum())
    if not real:
        raise NotPossibleError("it leaves every row of the pipeline to the original")
    return Proven(
        kind=equivalent.way.kind,
        artifact=equivalent.artifact,
        methods=tuple(built.methods),
        forms=_proven_forms(model, equivalent, evidence),
        relative=tolerance.relative,
        absolute=tolerance.absolute,
        difference=rounded_up(apart),
        rows=real,
        made_up=int(answered[len(evidence.real) :].sum()),
        sample=None if evidence.sample is None else codecs.save(evidence.sample, blobs),
    )


def _compared(
    expected: Any, rows: Rows, compute: Compute, *, name: str, tolerance: Tolerance
) -> tuple[float, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return the largest difference, and which rows the equivalent answered itself: one by one, then all at once.

    Raises:
        NotPossibleError: An answer is not the same.
    """
    own, farthest = np.ones(len(rows), bool), 0.0
    for number in range(len(rows)):
        found = compute(rows[number : number + 1])
        if found is None:
            own[number] = False
            continue
        farthest = max(farthest, _apart(expected[number : number + 1], found, name, tolerance))
    if own.any():
        found = compute(np.ascontiguousarray(rows[own]))
        if found is not None:
            farthest = max(farthest, _apart(expected[own], found, name, tolerance))
    return farthest, own


def _apart(expected: Any, found: Any, name: str, tolerance: Tolerance) -> float:
    apart = distance(expected, found, tolerance)
    if apart is None:
        raise NotPossibleError(f"{name} does not answer the same within the tolerance")
    return apart


def _proven_forms(model: Any, equivalent: Equivalent, evidence: _Evidence) -> tuple[str, ...]:
    """Return the forms of rows in which both are asked the same and answer the same; arrays of doubles first."""
    known = [form for form in (*FORMS, TENSOR) if form in equivalent.built.inputs.forms]
    found = [form for form in known if _holds(model, equivalent, evidence, form)]
    if equivalent.built.inputs.first not in found:
        raise NotPossibleError(f"rows as {equivalent.built.inputs.first} are not what it answers")
    return tuple(found)


def _holds(model: Any, equivalent: Equivalent, evidence: _Evidence, form: str) -> bool:
    built, rows = equivalent.built, evidence.rows
    rows = rows[:: max(1, len(rows) // _FORM_ROWS)]
    try:
        given = in_form(rows, form, built.inputs.names)
        read = built.inputs.read(given)
        if read is None:
            return False
        for name, compute in built.methods.items():
            _compared(getattr(model, name)(given), read, compute, name=name, tolerance=equivalent.way.tolerance)
    except Exception:  # noqa: BLE001 -- whatever the original makes of this form, it is the one that goes on answering it
        return False
    return True
