"""A difference names everything that changed between two releases, and shows no more rows than asked for."""

import math
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from released_parts import CODE, make_manifest, quality_rows

from penstock.core.errors import DamagedError
from penstock.core.records import CheckResult, Interval
from penstock.core.settings import Policy, StepPolicy
from penstock.pipeline.graph import CodeFile
from penstock.releases.compare import Difference, compare
from penstock.releases.manifest import Example, Manifest
from penstock.releases.rows import PredictionChange
from penstock.store import codecs
from penstock.store.blobs import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def manifest(blobs: Blobs) -> Manifest:
    return make_manifest(blobs)


def diff(before: Manifest, after: Manifest, blobs: Blobs, **options: Any) -> Difference:
    return compare(("movies@1", before), ("movies@2", after), blobs, **options)


def rows_of(before: pl.DataFrame, after: pl.DataFrame, blobs: Blobs, **options: Any) -> PredictionChange:
    """Return the change of the evaluation rows; `options` are those of the evaluation."""
    shown = options.pop("shown", 20)
    pair = []
    for rows in (before, after):
        made = make_manifest(blobs, rows=rows)
        nodes = tuple(
            msgspec.structs.replace(n, options={**n.options, **options}) if n.name == "quality" else n
            for n in made.graph.nodes
        )
        pair.append(msgspec.structs.replace(made, graph=msgspec.structs.replace(made.graph, nodes=nodes)))
    found = diff(pair[0], pair[1], blobs, shown=shown).predictions
    return next(p for p in found if p.subject == "quality of model")


def test_a_release_does_not_differ_from_itself(manifest: Manifest, blobs: Blobs) -> None:
    """Nothing is said where nothing changed."""
    found = diff(manifest, manifest, blobs)
    assert found.is_empty
    assert [(p.subject, p.common, p.changed) for p in found.predictions] == [
        ("find", 1, 0),
        ("quality of model", 10, 0),
    ]


def test_code_is_shown_as_a_unified_diff(manifest: Manifest, blobs: Blobs) -> None:
    """Of each file that changed, came or went."""
    after = make_manifest(blobs, code=CODE.replace('["times"]', '["times"] * 2'))
    more = CodeFile(path="features.py", digest=blobs.put(b"x = 1\n"))
    after = msgspec.structs.replace(after, graph=msgspec.structs.replace(after.graph, files=(more, *after.graph.files)))
    found = diff(manifest, after, blobs).code
    assert [(c.path, c.change) for c in found] == [("features.py", "added"), ("released_code.py", "changed")]
    assert found[0].diff == "--- a/features.py\n+++ b/features.py\n@@ -0,0 +1 @@\n+x = 1\n"
    assert (
        '+    return titles.filter(titles["movie_id"] == movie_id)["title"][0] * model["times"] * 2\n' in found[1].diff
    )
    assert [c.change for c in diff(after, manifest, blobs).code] == ["removed", "changed"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (b"\xff\x00", b"\xff\x01", "f.bin differs and is not UTF-8 text: 2 bytes before, 2 after\n"),
        (b"a" * 2**20, b"b", "f.bin differs: 1,048,576 bytes before, 1 after\n"),
        (b"a", b"a\n", "--- a/f.bin\n+++ b/f.bin\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"),
        (b"a\x0cb\n", b"a\x0cc\n", "--- a/f.bin\n+++ b/f.bin\n@@ -1 +1 @@\n-a\x0cb\n+a\x0cc\n"),
    ],
)
def test_files_that_are_no_plain_text(
    before: bytes, after: bytes, expected: str, manifest: Manifest, blobs: Blobs
) -> None:
    """A file of the snapshot may be anything; its diff is short and true."""
    pair = [
        msgspec.structs.replace(
            manifest,
            graph=msgspec.structs.replace(manifest.graph, files=(CodeFile(path="f.bin", digest=blobs.put(data)),)),
        )
        for data in (before, after)
    ]
    assert [c.diff for c in diff(pair[0], pair[1], blobs).code] == [expected]


def test_data_parameters_policy_environment_artifacts_and_checks(manifest: Manifest, blobs: Blobs) -> None:
    """Each named value before and after; None where there was none."""
    titles = msgspec.structs.replace(
        manifest.datasets["titles"],
        version=4,
        digest="e" * 64,
        schema=(("movie_id", "Int64"), ("year", "Int32")),
        contract={"movie_id": {"min": 0}},
    )
    after = msgspec.structs.replace(
        manifest,
        now="2026-02-01T00:00:00+00:00",
        datasets={"titles": titles},
        params={"model": {"factors": 128, "rate": 1}, "popular": {"days": None}},
        policy=Policy(slo={"p99_ms": 40.0}, steps={"model": StepPolicy(memory="4GB")}),
        environment={"python": "3.12.1", "packages": {"polars": "1.31.0"}},
        checks=(CheckResult(name="is_good", passed=False, message="lift is -1"),),
        artifacts=manifest.artifacts | {"model/model": manifest.artifacts["popular/popular"]},
    )
    found = diff(manifest, after, blobs)
    values = {
        part: {c.name: (c.before, c.after) for c in getattr(found, part)}
        for part in ("data", "params", "policy", "environment", "checks", "artifacts")
    }
    assert values["data"] == {
        "now": (manifest.now, after.now),
        "titles": ("titles@3 (dddddddddddd)", "titles@4 (eeeeeeeeeeee)"),
        "titles.movie_id.min": (1, 0),
        "titles.title": ("String", None),
        "titles.year": (None, "Int32"),
    }
    assert values["params"] == {"model.factors": (64, 128), "model.rate": (1.0, 1), "popular.days": (None, None)}
    assert values["policy"]["slo.p99_ms"] == (50.0, 40.0)
    assert values["policy"]["steps.model.memory"] == (None, "4GB")
    assert values["environment"] == {
        "python": ("3.11.7", "3.12.1"),
        "polars": ("1.30.0", "1.31.0"),
        "scikit-learn": ("1.5.2", None),
    }
    assert values["checks"] == {"is_good": ("passed", "failed: lift is -1")}
    assert list(values["artifacts"]) == ["model/model"]
    assert not found.is_empty


def test_metrics_that_came_went_or_moved(manifest: Manifest, blobs: Blobs) -> None:
    """Both means with their intervals; the champion's of the day are left out."""
    quality = manifest.evaluations["quality"]
    low, high = Interval(mean=0.4, low=0.3, high=0.5, n=10), Interval(mean=0.6, low=0.5, high=0.7, n=10)
    pair = [
        msgspec.structs.replace(manifest, evaluations={"quality": msgspec.structs.replace(quality, means=means)})
        for means in (
            {"model": {"ndcg": low, "recall": low}, "champion": {"ndcg": low}},
            {"model": {"ndcg": high}, "popular": {"ndcg": low}},
        )
    ]
    found = diff(pair[0], pair[1], blobs).metrics
    assert [(m.model, m.metric, m.before, m.after) for m in found] == [
        ("model", "ndcg", low, high),
        ("model", "recall", low, None),
        ("popular", "ndcg", None, low),
    ]
    assert not diff(pair[0], pair[1], blobs).is_empty


def test_answers_are_compared_on_the_requests_both_were_asked(manifest: Manifest, blobs: Blobs) -> None:
    """The request is the key."""

    def answering(**answers: str) -> Manifest:
        asked = tuple(Example(fields={"movie_id": int(k[1:])}, answer=v) for k, v in answers.items())
        return msgspec.structs.replace(manifest, examples={"find": asked})

    found = diff(answering(m1="a", m2="b", m3="c"), answering(m4="z", m3="C", m1="a"), blobs).predictions[0]
    assert (found.subject, found.common, found.changed) == ("find", 2, 1)
    assert found.examples == ({"key": {"movie_id": 3}, "before": "c", "after": "C"},)
    none = diff(answering(m1="a"), answering(m2="a"), blobs).predictions[0]
    assert (none.common, none.note) == (0, "the two were not asked the same requests")


def test_rows_are_matched_by_key(blobs: Blobs) -> None:
    """In whatever order they come, and only those that both sides have."""
    after = pl.concat([quality_rows(ndcg=[1.0, *(i / 10 for i in range(1, 10))]).tail(9), quality_rows().head(1)])
    after = after.with_columns(user_id=pl.when(pl.col("user_id") == 9).then(99).otherwise("user_id"))
    changed = after.with_columns(ndcg=pl.when(pl.col("user_id") == 4).then(0.9).otherwise("ndcg"))
    found = rows_of(quality_rows(), changed, blobs)
    assert (found.common, found.changed, found.better, found.worse) == (9, 1, 1, 0)
    assert found.columns == {"ndcg": 1}
    assert found.examples == ({"key": {"user_id": 4}, "before": {"ndcg": 0.4}, "after": {"ndcg": 0.9}},)


def test_rows_without_a_key_are_matched_by_position_on_the_same_examples(blobs: Blobs) -> None:
    """The columns that describe the examples must agree; else nothing is claimed."""
    moved = quality_rows(ndcg=[0.5, *(i / 10 for i in range(1, 10))])
    found = rows_of(quality_rows(), moved, blobs, key=None)
    assert (found.common, found.changed) == (10, 1)
    assert found.examples == ({"key": {"row": 0}, "before": {"ndcg": 0.0}, "after": {"ndcg": 0.5}},)
    for other in (quality_rows().head(9), quality_rows(genre=["c"] * 10)):
        refused = rows_of(quality_rows(), other, blobs, key=None)
        assert (refused.common, refused.note) == (0, "they are of other examples, and no key says which are the same")


def test_a_lower_metric_may_be_the_better_one(blobs: Blobs) -> None:
    """Better and worse follow the declaration."""
    after = quality_rows(ndcg=[1.0, 0.0, *(i / 10 for i in range(2, 10))])
    found = rows_of(quality_rows(), after, blobs, higher_is_better=False)
    assert (found.better, found.worse) == (1, 1)


def test_the_largest_moves_are_shown_first_and_no_more_than_asked(blobs: Blobs) -> None:
    """Nothing else of a difference holds values of rows."""
    before = quality_rows(ndcg=[0.0] * 10, secret=[f"canary-{i}" for i in range(10)])
    after = before.with_columns(ndcg=pl.col("user_id") / 10)
    found = rows_of(before, after, blobs, shown=2)
    assert [e["key"] for e in found.examples] == [{"user_id": 9}, {"user_id": 8}]
    assert found.changed == 9
    whole = diff(make_manifest(blobs, rows=before), make_manifest(blobs, rows=after), blobs, shown=0)
    assert all(not p.examples for p in whole.predictions)
    assert b"canary" not in msgspec.json.encode(whole)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([math.nan, 1.0], [1.0, 1.0]),
        ([None, 1.0], [math.nan, 1.0]),
        ([[1, 2], [3]], [[2, 1], [3]]),
        ([[1.0, math.nan], [3.0]], [[1.0, 2.0], [3.0]]),
        ([["a"], None], [["a", "b"], None]),
        ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], [{"a": 1, "b": "z"}, {"a": 2, "b": "y"}]),
        (["a", "b"], ["c", "b"]),
        ([b"a", b"b"], [b"c", b"b"]),
    ],
    ids=["nan", "null", "list", "nan in list", "texts in list", "struct", "text", "bytes"],
)
def test_values_of_every_kind_are_told_apart(one: list[Any], other: list[Any], blobs: Blobs) -> None:
    """NaN is NaN and null is null; equal values are never shown as changed."""
    before, after = (pl.DataFrame({"user_id": [1, 2], "ndcg": [0.5, 0.5], "x": x}) for x in (one, other))
    extra = {"slices": ()}
    assert rows_of(before, before.with_columns(ndcg=pl.lit(0.6)), blobs, **extra).columns == {"ndcg": 2}
    found = rows_of(before, after, blobs, **extra)
    assert (found.changed, found.columns) == (1, {"x": 1})
    assert list(found.examples[0]["before"]) == ["x"]


def test_columns_that_are_not_on_both_sides_are_left_out(blobs: Blobs) -> None:
    """Only common columns can be compared; names of ours cannot meet the user's."""
    before = quality_rows(row=range(10)).rename({"genre": "ndcg after"})
    after = quality_rows(row=range(10), extra=range(10)).rename({"genre": "differs 0"})
    found = rows_of(before, after.with_columns(row=pl.col("row") + 1), blobs, key=None, slices=())
    assert (found.common, found.columns) == (10, {"row": 10})
    assert rows_of(quality_rows().select("user_id"), quality_rows(), blobs).changed == 0


def test_a_column_may_change_its_type(blobs: Blobs) -> None:
    """Numbers are compared as numbers; anything else of another type has changed."""
    before = quality_rows()
    same = before.with_columns(pl.col("user_id").cast(pl.UInt64), pl.col("ndcg").cast(pl.Float32).cast(pl.Float64))
    assert rows_of(before.with_columns(n=pl.lit(1)), same.with_columns(n=pl.lit(1.0)), blobs).columns.get("n") is None
    text = before.with_columns(pl.col("ndcg").cast(pl.String))
    assert rows_of(before, text, blobs).columns == {"ndcg": 10}
    categories = before.with_columns(pl.col("genre").cast(pl.Categorical))
    assert rows_of(before, categories, blobs).changed == 0


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (quality_rows().drop("user_id"), "one side has no key column 'user_id'"),
        (quality_rows(user_id=[1] * 10), "its key ['user_id'] repeats on one side"),
        (quality_rows(user_id=[str(i) for i in range(10)]), "key column 'user_id' has another type on each side"),
    ],
)
def test_keys_that_match_nothing_are_said(rows: pl.DataFrame, note: str, blobs: Blobs) -> None:
    """A count of rows that rest on a false match would be worse than none."""
    found = rows_of(quality_rows(), rows, blobs)
    assert (found.common, found.changed, found.note) == (0, 0, note)


def test_a_null_key_is_a_key(blobs: Blobs) -> None:
    """Rows of unknown users are compared too."""
    before = quality_rows(user_id=[None, *range(1, 10)])
    found = rows_of(before, before.with_columns(ndcg=pl.col("ndcg") + 1), blobs)
    assert (found.common, found.changed) == (10, 10)


def test_rows_of_an_imported_release_are_not_there(manifest: Manifest, blobs: Blobs) -> None:
    """It comes without them; everything else is compared."""
    after = make_manifest(blobs, rows=quality_rows(ndcg=[0.0] * 10))
    blobs.delete(after.evaluations["quality"].rows["model"].digest)
    found = diff(manifest, after, blobs)
    assert found.predictions[1].note == "the rows are not in this store"
    gone = msgspec.structs.replace(manifest.graph, files=(CodeFile(path="a.py", digest="f" * 64),))
    without = msgspec.structs.replace(manifest, graph=gone)
    assert diff(manifest, without, blobs).code[0].diff == "a.py is not in this store\n"


def test_damaged_rows_are_an_error(manifest: Manifest, blobs: Blobs, tmp_path: Path) -> None:
    """Never a difference that rests on other bytes than those that were stored."""
    after = make_manifest(blobs, rows=quality_rows(ndcg=[0.0] * 10))
    path = blobs.path(after.evaluations["quality"].rows["model"].digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    with pytest.raises(DamagedError, match=path.name):
        diff(manifest, after, Blobs(tmp_path / "blobs"))


def test_rows_that_are_no_frame_are_not_compared(manifest: Manifest, blobs: Blobs) -> None:
    """An evaluation that kept something else has no rows here."""
    quality = msgspec.structs.replace(manifest.evaluations["quality"], rows={"model": codecs.save([1], blobs)})
    after = msgspec.structs.replace(manifest, evaluations={"quality": quality})
    assert diff(manifest, after, blobs).predictions[1].note
