"""A function of rows, from its declaration to its release: what callers send is known, and a batch changes nothing."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from project_folder import Project

SCORER = """
import numpy as np
import pandas as pd
import polars as pl
from sklearn.linear_model import LogisticRegression

from penstock import Pipeline

scorer = Pipeline("scorer")
FEATURES = ["length", "width"]

@scorer.dataset(key="id")
def flowers() -> pl.DataFrame:
    length = np.linspace(0, 4, 80)
    return pl.DataFrame({"id": range(80), "length": length, "width": length[::-1], "kind": (length > 2).astype(int)})

@scorer.step(outputs=("features", "kinds"))
def prepare(flowers: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return flowers.select(FEATURES).to_numpy(), flowers["kind"].to_numpy()

@scorer.model
def by_array(features: np.ndarray, kinds: np.ndarray) -> LogisticRegression:
    return LogisticRegression().fit(features, kinds)

@scorer.step
def by_frame(flowers: pl.DataFrame) -> LogisticRegression:
    return LogisticRegression().fit(flowers.select(FEATURES).to_numpy(), flowers["kind"].to_numpy())

@scorer.serve
def arrays(by_array: LogisticRegression, *, rows: np.ndarray) -> np.ndarray:
    return by_array.predict_proba(rows)[:, 1]

@scorer.serve(columns=FEATURES)
def frames(by_frame: LogisticRegression, *, rows: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({"probability": by_frame.predict_proba(rows.to_numpy())[:, 1]})

@scorer.serve(columns=FEATURES)
def pandas_rows(by_frame: LogisticRegression, *, rows: pd.DataFrame) -> list[int]:
    return by_frame.predict(rows.to_numpy()).tolist()
"""


def test_a_release_knows_the_rows_its_functions_take(tmp_path: Path) -> None:
    """S6, S1, Q57: columns and types come from what the model was given; rows alone and together agree."""
    project = Project(tmp_path, "scorer")
    project.write(SCORER)
    report = project.run()
    assert report.release == "scorer@1", report
    inputs = report.manifest.inputs
    columns = (("length", "Float64"), ("width", "Float64"))
    assert inputs == {"arrays": (("0", "Float64"), ("1", "Float64")), "frames": columns, "pandas_rows": columns}
    assert {len(examples) for examples in report.manifest.examples.values()} == {12}
    batches = [check for check in report.manifest.checks if check.name.endswith("same_in_batch")]
    assert len(batches) == 3, [check.name for check in report.manifest.checks]
    assert all(check.passed for check in batches)


def test_a_function_whose_answers_depend_on_the_batch_is_not_released(tmp_path: Path) -> None:
    """S1, Q57: scaling by the rows that happen to be asked together is found before a caller is."""
    project = Project(tmp_path, "scorer")
    project.write(SCORER.replace("predict_proba(rows)[:, 1]", "predict_proba(rows - rows.mean(axis=0))[:, 1]"))
    report = project.run()
    assert report.release is None
    failed = [check for check in report.outcome.checks if not check.passed]
    assert [check.name for check in failed] == [next(c.name for c in failed if c.name.endswith("same_in_batch"))]
    assert "asked alone and in a batch" in failed[0].message


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("columns=FEATURES)\ndef frames", 'columns=["length", "weight"])\ndef frames', "'weight'"),
        ("[:, 1]})", "[:1, 1]})", "one answer per row"),
    ],
)
def test_rows_that_cannot_be_asked_are_said_with_the_next_step(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    """S6: a misspelt column, or another number of answers than rows, is named with what to do."""
    project = Project(tmp_path, "scorer")
    assert before in SCORER
    project.write(SCORER.replace(before, after))
    report = project.run()
    assert report.release is None
    told = [f"{failure.message} {failure.hint}" for failure in report.outcome.failures.values()]
    assert any(said in text for text in told), told
