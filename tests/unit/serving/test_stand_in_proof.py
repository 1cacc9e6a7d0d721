"""The proof: a wrong equivalent is refused, whatever is wrong with it, and the same model gives the same proof."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parents[2]))
from penstock.core.errors import DamagedError
from penstock.core.records import Artifact
from penstock.releases.manifest import StandIn as Proven
from penstock.serving.program.stand_ins.binding import stand_in
from penstock.serving.program.stand_ins.candidates import candidate_of
from penstock.serving.program.stand_ins.equality import DOUBLE, Tolerance, distance, first_difference, rounded_up
from penstock.serving.program.stand_ins.folding import Fold
from penstock.serving.program.stand_ins.inputs import FORMS, Inputs, Rows
from penstock.serving.program.stand_ins.model import Compute, StandIn, original_of, switch_of
from penstock.serving.program.stand_ins.proof import gains, proven_for
from penstock.serving.program.stand_ins.way import Built
from penstock.store import codecs
from penstock.store.blobs import Blobs
from stand_in_models import normal_rows, watched

ROWS = normal_rows()
TWO = ROWS[:, 0] + ROWS[:, 1] > 6


@dataclass(frozen=True, slots=True)
class Wrong:
    """A way whose equivalent computes whatever it is told to."""

    methods: dict[str, Compute]
    kind: str = "wrong"
    tolerance: Tolerance = DOUBLE

    def suits(self, model: object) -> bool:
        return model is not None

    def make(self, model: Any, blobs: Blobs) -> Artifact | None:
        del model, blobs
        return None

    def build(self, model: Any, artifact: Artifact | None, blobs: Blobs) -> Built:
        del model, artifact, blobs
        return Built(Inputs(ROWS.shape[1], (), frozenset(FORMS)), self.methods)


def _pipeline() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, TWO)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


MODEL = _pipeline()


def _wrong_once(rows: Rows) -> Any:
    found = MODEL.predict_proba(rows)
    return found + 1e-3 * (np.abs(rows[:, :1] - ROWS[17, 0]) < 1e-9)


def _wrong_together(rows: Rows) -> Any:
    return MODEL.predict_proba(rows) if len(rows) == 1 else MODEL.predict_proba(rows)[::-1]


def _wrong_alone(rows: Rows) -> Any:
    return MODEL.predict_proba(rows) + (1e-5 if len(rows) == 1 else 0)


def _raising(rows: Rows) -> Any:
    raise RuntimeError("cannot at 0x7f3a2b4c5d6e")


WRONG: dict[str, tuple[Compute, str, str]] = {
    "one row of hundreds": (_wrong_once, "predict_proba", "does not answer the same"),
    "several rows in another order": (_wrong_together, "predict_proba", "does not answer the same"),
    "a single row by a little": (_wrong_alone, "predict_proba", "does not answer the same"),
    "another shape": (lambda rows: MODEL.predict_proba(rows)[:, 1], "predict_proba", "does not answer the same"),
    "another type of number": (
        lambda rows: MODEL.predict_proba(rows).astype(np.float32),
        "predict_proba",
        "not answer",
    ),
    "a list": (lambda rows: MODEL.predict_proba(rows).tolist(), "predict_proba", "does not answer the same"),
    "labels of another type": (lambda rows: MODEL.predict(rows).astype(int), "predict", "does not answer the same"),
    "no row at all": (lambda _rows: None, "predict", "leaves every row"),
    "an error": (_raising, "predict", "RuntimeError: cannot at 0x"),
    "gaps": (lambda rows: MODEL.predict_proba(rows) * np.nan, "predict_proba", "does not answer the same"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_equivalent_is_refused(name: str, blobs: Blobs) -> None:
    """Whatever is wrong with it: the original serves, and the release says why."""
    compute, method, why = WRONG[name]
    proven = proven_for(watched(MODEL, ROWS, blobs, Wrong({method: compute})), blobs)
    assert proven.kind == "original"
    assert why in proven.refused["wrong"]
    assert "7f3a2b4c5d6e" not in proven.refused["wrong"]


def test_after_a_wrong_equivalent_the_next_is_tried(blobs: Blobs) -> None:
    """The order of preference goes on until one is proven."""
    proven = proven_for(watched(MODEL, ROWS, blobs, Wrong({"predict": _raising}), Fold()), blobs)
    assert (proven.kind, list(proven.refused)) == ("folded", ["wrong"])


def test_nothing_is_proven_without_rows(blobs: Blobs) -> None:
    """Rows made up from nothing prove nothing."""
    candidate = candidate_of(MODEL, blobs)
    assert candidate is not None
    proven = proven_for(candidate, blobs)
    assert proven.kind == "original"
    assert proven.refused["folded"] == "there are no rows of the pipeline to prove it on"


def test_the_proof_says_what_it_stands_on(blobs: Blobs) -> None:
    """How many rows, which methods and forms, the tolerance, and how far apart the answers were at most."""
    proven = proven_for(watched(MODEL, ROWS, blobs), blobs)
    assert (proven.rows, proven.made_up, proven.relative, proven.absolute) == (300, 332, 1e-6, 1e-9)
    assert proven.methods == ("predict_proba", "predict", "decision_function")
    assert proven.forms == ("float64", "integers", "list", "pandas", "polars")
    assert proven.difference == 1e-12


def test_the_same_model_gives_the_same_proof(tmp_path: Path) -> None:
    """No time and no chance enters it, so that a release made again has the same hash."""
    proofs = []
    for name in ("one", "other"):
        blobs = Blobs(tmp_path / name / "blobs")
        proofs.append(proven_for(watched(_pipeline(), ROWS, blobs), blobs))
    assert msgspec.json.encode(proofs[0]) == msgspec.json.encode(proofs[1])


def test_the_sample_holds_no_value_of_the_rows(blobs: Blobs) -> None:
    """It goes wherever the release goes, and evaluation rows stay at home."""
    proven = proven_for(watched(MODEL, ROWS, blobs), blobs)
    assert proven.sample is not None
    sample: Any = codecs.load(proven.sample, blobs)
    assert sample.shape == (32, 5)
    assert not np.isin(sample, ROWS).any()


def test_gains_are_measured_against_the_model(blobs: Blobs) -> None:
    """On one row and on a thousand: both are ratios of times above zero."""
    candidate = watched(MODEL, ROWS, blobs)
    measured = gains(candidate, proven_for(candidate, blobs))
    assert set(measured) == {"one_row", "thousand_rows"}
    assert all(gain > 0 for gain in measured.values())


def test_what_is_kept_is_bound(blobs: Blobs) -> None:
    """A worker makes the equivalent from verified bytes, tries it, and answers with it."""
    proven = proven_for(watched(MODEL, ROWS, blobs), blobs)
    bound = stand_in(MODEL, proven, blobs)
    assert issubclass(type(bound), StandIn)
    assert switch_of(bound).most >= 1
    np.testing.assert_allclose(bound.predict_proba(ROWS), MODEL.predict_proba(ROWS), rtol=1e-6)


@pytest.mark.parametrize("what", ["artifact", "sample"])
def test_a_damaged_equivalent_is_not_bound(what: str, blobs: Blobs) -> None:
    """Q26: one byte that differs is found before it answers anything."""
    proven = proven_for(watched(MODEL, ROWS, blobs), blobs)
    path = blobs.path(getattr(proven, what).digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DamagedError, match="now has digest"):
        stand_in(MODEL, proven, Blobs(blobs.root))


def test_an_equivalent_that_no_longer_holds_is_not_bound(blobs: Blobs, capsys: pytest.CaptureFixture[str]) -> None:
    """Another library or processor where it is served: the original answers, and an event says so."""
    proven = proven_for(watched(MODEL, ROWS, blobs), blobs)
    other = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(ROWS, TWO)
    assert stand_in(other, proven, blobs) is other
    assert "stand_in_not_used" in capsys.readouterr().out


def test_a_kind_from_a_newer_version_is_not_bound(blobs: Blobs) -> None:
    """The original is always there."""
    assert stand_in(MODEL, Proven(kind="quantum"), blobs) is MODEL
    assert stand_in(MODEL, Proven(kind="original"), blobs) is MODEL


def test_a_changed_model_answers_itself(blobs: Blobs) -> None:
    """Training again, or setting anything, ends the standing in."""
    model = _pipeline()
    bound = stand_in(model, proven_for(watched(model, ROWS, blobs), blobs), blobs)
    predict = bound.predict_proba  # kept elsewhere before the change
    bound.fit(ROWS, ~TWO)
    assert predict(ROWS[:3]).tolist() == model.predict_proba(ROWS[:3]).tolist()
    line = LinearRegression().fit(ROWS, ROWS[:, 0])
    other = stand_in(line, proven_for(watched(line, ROWS, blobs), blobs), blobs)
    other.coef_ = line.coef_ * 2
    assert other.predict(ROWS[:3]).tolist() == line.predict(ROWS[:3]).tolist()


def test_everything_else_is_the_models_own(blobs: Blobs) -> None:
    """Attributes, steps, length, class, text, copies: as if nothing stood in."""
    bound = stand_in(MODEL, proven_for(watched(MODEL, ROWS, blobs), blobs), blobs)
    assert original_of(bound) is MODEL
    assert isinstance(bound, type(MODEL))
    assert (len(bound), repr(bound), bool(bound)) == (2, repr(MODEL), True)
    assert bound[-1] is MODEL[-1]
    assert bound.named_steps is MODEL.named_steps or list(bound.named_steps) == list(MODEL.named_steps)
    assert bound.predict_log_proba(ROWS[:2]).tolist() == MODEL.predict_log_proba(ROWS[:2]).tolist()
    assert bound.predict_proba(X=ROWS[:2]).tolist() == MODEL.predict_proba(ROWS[:2]).tolist()
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = bound.nothing_such
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        bound.predict_proba()


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ([1.0, "a"], [1.0 + 1e-12, "a"], None),
        ([1.0], [1.1], "answer[0] is another number"),
        ({"a": 1}, {"a": 2}, "answer.a differs"),
        ({"a": 1}, {"b": 1}, "answer has other fields"),
        ([1], [1, 2], "answer has 1 entries, then 2"),
        (1, 1.0, "answer is int of the original, float of the equivalent"),
        (True, False, "answer differs"),
        (float("nan"), float("nan"), None),
        (float("inf"), 1e308, "answer is another number"),
        ("secret", "other", "answer differs"),
    ],
)
def test_answers_are_compared_value_by_value(one: object, other: object, says: str | None) -> None:
    """Floats within the tolerance, all else exactly; texts are not repeated."""
    assert first_difference(one, other, DOUBLE) == says


def test_a_difference_is_told_as_a_power_of_ten() -> None:
    """What differs between two machines by a digit is the same in both releases."""
    assert [rounded_up(x) for x in (0.0, 3e-16, 2e-12, 4e-7, 1e-7)] == [1e-12, 1e-12, 1e-11, 1e-6, 1e-7]
    assert distance(np.array([1.0, np.nan]), np.array([1.0 + 1e-9, np.nan]), DOUBLE) == pytest.approx(1e-9, rel=1e-3)
    assert distance(np.array([1.0]), np.array([1.00001]), DOUBLE) is None
    assert distance(np.array(["a"]), np.array(["b"]), DOUBLE) is None
