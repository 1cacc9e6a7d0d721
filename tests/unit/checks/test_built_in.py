"""Built-in checks: each fails on the fault it is named for, passes without it, and says what it found."""

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest

from penstock.checks.answers import finite_answers, same_answers
from penstock.checks.built_in import (
    finite_metrics,
    no_empty_split,
    not_worse_than_baselines,
    not_worse_than_champion,
    schema_kept,
    slices_not_worse,
)
from penstock.checks.evaluation import Evaluation, Roles
from penstock.checks.leakage import key_leakage, row_leakage, target_leakage, time_leakage
from penstock.checks.worst_slices import Limits
from penstock.core.errors import InputError


def make(shift: float, *, n: int = 400, champion: bool = True, higher_is_better: bool = True) -> Evaluation:
    """Return an evaluation whose candidate differs from the others by `shift`."""
    rng = np.random.default_rng(3)
    base = rng.random(n)
    group = rng.choice(["a", "b", "c"], n)
    noise = rng.normal(0, 0.02, n)
    rows = {
        "ranker": pl.DataFrame({"group": group, "ndcg": base + shift + noise}),
        "popular": pl.DataFrame({"group": group, "ndcg": base}),
    }
    if champion:
        rows["live"] = rows["popular"]
    roles = Roles(candidate="ranker", baselines=("popular",), champion="live" if champion else None)
    return Evaluation(rows, roles=roles, metric="ndcg", slices=("group",), higher_is_better=higher_is_better)


def test_an_empty_split_fails() -> None:
    """The output without rows is named."""
    assert no_empty_split("split", {"train": 3, "test": 1}).passed
    result = no_empty_split("split", {"train": 3, "test": 0})
    assert (result.passed, result.built_in) == (False, True)
    assert result.message == "'test' of step 'split' has no rows"


def test_metrics_must_be_finite_and_more_than_one() -> None:
    """NaN and a single row both fail, naming metric, model and count."""
    assert finite_metrics(make(0.0)).passed
    frame = pl.DataFrame({"ndcg": [0.1, math.nan, math.inf]})
    result = finite_metrics(Evaluation({"ranker": frame}, roles=Roles(candidate="ranker")))
    assert result.message == "ndcg of 'ranker' is missing, NaN or infinite in 2 of 3 rows"
    lone = finite_metrics(Evaluation({"ranker": frame.head(1)}, roles=Roles(candidate="ranker")))
    assert lone.message == "'ranker' has 1 evaluation row"


def test_worse_than_the_champion_says_how_much() -> None:
    """Shown worse fails; not shown different and better pass, and say which of the two."""
    worse = not_worse_than_champion(make(-0.01))
    assert not worse.passed
    assert worse.message.startswith("ndcg 0.4")
    assert "is below the champion's 0.5" in worse.message
    assert "(95 % CI of the difference -0.01" in worse.message
    assert worse.evidence["lifts"][0]["verdict"] == "worse"
    assert "is not shown different from the champion's" in not_worse_than_champion(make(0.0005)).message
    better = not_worse_than_champion(make(0.01))
    assert better.passed
    assert "is above the champion's" in better.message
    assert not_worse_than_champion(make(-0.01), tolerance=0.02).passed
    assert not_worse_than_champion(make(0.0, champion=False)).message == "there is no champion to compare with"


def test_direction_is_honoured() -> None:
    """When lower is better, a higher value is what fails."""
    assert not_worse_than_champion(make(-0.01, higher_is_better=False)).passed
    worse = not_worse_than_champion(make(0.01, higher_is_better=False))
    assert not worse.passed
    assert "is above the champion's" in worse.message
    assert not slices_not_worse(make(0.05, higher_is_better=False)).passed


def test_losing_to_a_baseline_fails() -> None:
    """A model shown worse than a simple baseline is refused by name of the baseline."""
    result = not_worse_than_baselines(make(-0.02))
    assert not result.passed
    assert "below 'popular', which has 0.5" in result.message
    assert not_worse_than_baselines(make(0.02)).passed


def test_rows_that_cannot_be_compared_fail_and_do_not_pass() -> None:
    """A check that cannot be computed is a failed check with the reason."""
    quality = make(0.02)
    rows = {model: quality.rows(model) for model in quality.models}
    broken = Evaluation({**rows, "live": rows["live"].head(5)}, roles=quality.roles, slices=("group",))
    for check in (not_worse_than_champion, slices_not_worse):
        result = check(broken)
        assert not result.passed
        assert "400 rows against 5" in result.message


def test_a_slice_that_got_worse_blocks_though_the_mean_improved() -> None:
    """The slice is named with its loss; small slices are counted, not judged."""
    quality = make(0.05)
    rows = {model: quality.rows(model) for model in quality.models}
    lost = rows["ranker"].with_columns(ndcg=pl.col("ndcg") - (pl.col("group") == "b") * 0.1)
    mixed = Evaluation({**rows, "ranker": lost}, roles=quality.roles, metric="ndcg", slices=("group",))
    assert not_worse_than_champion(mixed).passed
    result = slices_not_worse(mixed)
    assert not result.passed
    assert result.message.startswith("ndcg is worse than the champion's for group=b by 0.05")
    assert slices_not_worse(quality).passed
    assert slices_not_worse(mixed, limits=Limits(min_n=1000)).evidence["too_small"] == 3


def test_training_rows_after_the_first_test_row_are_counted() -> None:
    """Times may be dates, datetimes or numbers; a missing time is not waved through."""
    day = dt.date(2024, 1, 1)
    frame = pl.DataFrame({"at": [day + dt.timedelta(days=number) for number in range(10)]})
    assert time_leakage(frame.head(5), frame.tail(5), "at").passed
    result = time_leakage(frame.head(7).lazy(), frame.tail(5), "at")
    said = "1 of 7 training rows have 'at' after that of the first test row (2024-01-06). Hint: split at one moment"
    assert result.message.startswith(said)
    gap = pl.concat([frame.head(5), pl.DataFrame({"at": [None]}, schema={"at": pl.Date})])
    assert not time_leakage(gap, frame.tail(5), "at").passed
    assert not time_leakage(frame, frame.clear(), "at").passed
    with pytest.raises(InputError, match=r"No column \['when'\]"):
        time_leakage(frame, frame, "when")


def test_shared_keys_and_rows_are_counted() -> None:
    """Keys in both, and rows equal in all shared columns, lists included."""
    train = pl.DataFrame({"id": [1, 2, 3], "kind": ["a", None, "c"], "tags": [["x"], [], ["y"]]})
    test = pl.DataFrame({"tags": [["y"], ["x"]], "id": [3, 4], "kind": ["c", None]})
    result = key_leakage(train, test, ("id",))
    assert result.message == "1 of 2 test rows have a key (id) that is also in train"
    assert key_leakage(train, test.filter(pl.col("id") > 3), ("id", "kind")).passed
    assert row_leakage(train, test).evidence["rows_shared"] == 1
    assert row_leakage(train, test.tail(1)).passed


def test_a_copy_of_the_target_is_found() -> None:
    """A straight line of the target is a copy; noise is not, and a constant column is harmless."""
    rng = np.random.default_rng(1)
    y = rng.random(100)
    rows = pl.DataFrame({"y": y, "scaled": 5 - 3 * y, "noisy": y + rng.random(100), "same": np.ones(100)})
    result = target_leakage(rows, "y")
    assert result.evidence["columns"] == ["scaled"]
    assert target_leakage(rows.drop("scaled"), "y").passed


def test_a_schema_that_lost_or_changed_a_column_fails() -> None:
    """Gone and changed columns fail; new ones are only named."""
    agreed = (("id", "Int64"), ("name", "String"))
    assert schema_kept(agreed, (*agreed, ("extra", "Int8")), dataset="t@2").message == (
        "t@2 has the 2 columns agreed (new: 'extra')"
    )
    result = schema_kept(agreed, (("id", "String"),), dataset="t@2")
    assert result.message == "t@2: column 'name' is gone; 'id' was Int64, is String"


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ([{"score": 0.5, "title": "A"}], "1 answer is the same"),
        ([{"score": 0.25, "title": "A"}], "answer 0: [0].score is 0.5 from the pipeline, 0.25 from serving"),
        ([{"score": 0.5, "title": "BB"}], "[0].title is text of 1 characters from the pipeline, text of 2 characters"),
        ([{"score": 0.5}], "[0] has fields ['score', 'title'] from the pipeline, ['score'] from serving"),
        ([], "the top has 1 entries from the pipeline, 0 from serving"),
        ([{"score": True, "title": "A"}], "[0].score is 0.5 from the pipeline, True from serving"),
    ],
)
def test_the_first_difference_of_two_answers_is_located(got: object, message: str) -> None:
    """The path and the numbers are shown, text only by its length."""
    result = same_answers([[{"score": 0.5, "title": "A"}]], [got])
    assert message in result.message
    assert result.passed == (message == "1 answer is the same")


def test_answers_may_differ_by_the_tolerance_only() -> None:
    """Numbers are equal exactly unless a tolerance is given; a missing answer always fails."""
    assert not same_answers([0.1 + 0.2], [0.3]).passed
    assert same_answers([0.1 + 0.2], [0.3], tolerance=1e-9).passed
    assert same_answers([1], [1.0]).passed
    assert same_answers([1, 2], [1]).message == "2 requests were sampled, 1 answered"


def test_non_finite_numbers_in_answers_are_located() -> None:
    """NaN anywhere inside an answer fails."""
    result = finite_answers([{"a": [1.0, 2]}, {"a": [1.0, math.nan]}])
    assert result.message == "1 of 2 answers hold NaN or an infinity; first in answer 1 at .a[1]"
    assert finite_answers([{"a": 1.0}, None, "nan"]).passed
