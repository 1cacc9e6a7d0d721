"""Codecs: forms of frames, equal bytes for equal values, and honest refusals."""

import datetime as dt
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import polars.testing.parametric as plst
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from penstock.core.errors import ArtifactError, DamagedError, UnsupportedError
from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs import blobs_of, load, save


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    return Blobs(tmp_path_factory.mktemp("store") / "blobs")


FRAME = pl.DataFrame({"a": [1, None, 3], "s": ["x", None, "é"], "c": pl.Series(["u", "v", None], dtype=pl.Categorical)})


@pytest.mark.parametrize(
    "value", [FRAME, FRAME.lazy(), FRAME.to_arrow(), FRAME.to_pandas()], ids=lambda v: type(v).__module__
)
def test_a_frame_is_given_in_the_form_asked_for(blobs: Blobs, value: Any) -> None:
    artifact = save(value, blobs)
    assert artifact.rows == 3
    assert [name for name, _ in artifact.meta["columns"]] == ["a", "s", "c"]
    lazy, polars = load(artifact, blobs, form="lazy"), load(artifact, blobs, form="polars")
    assert isinstance(lazy, pl.LazyFrame)
    assert isinstance(polars, pl.DataFrame)
    assert lazy.collect()["s"].to_list() == polars["s"].to_list() == ["x", None, "é"]
    assert isinstance(load(artifact, blobs, form="pandas"), pd.DataFrame)
    assert isinstance(load(artifact, blobs, form="arrow"), pa.Table)
    batches: Any = load(artifact, blobs, form="batches")
    assert sum(batch.num_rows for batch in batches) == 3


def test_a_loaded_frame_is_mapped_not_copied(blobs: Blobs) -> None:
    artifact = save(pl.DataFrame({"a": np.arange(1_000_000.0)}), blobs)
    before = pa.total_allocated_bytes()
    frame = load(artifact, blobs)
    assert isinstance(frame, pl.DataFrame)
    assert pa.total_allocated_bytes() - before < 100_000
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert artifact.digest[2:] in maps


def test_equal_frames_give_equal_bytes_however_they_are_laid_out(blobs: Blobs) -> None:
    digest = save(FRAME, blobs).digest
    padded = pl.concat([FRAME, FRAME, FRAME], rechunk=False)
    assert save(padded.slice(3, 3), blobs).digest == digest
    assert save(pl.concat([FRAME[:1], FRAME[1:]], rechunk=False), blobs).digest == digest
    cleared = FRAME.with_columns(pl.when(pl.col("a") != 2).then(pl.col("a") * 1))
    assert save(cleared, blobs).digest == digest


def test_values_under_nulls_do_not_count(blobs: Blobs) -> None:
    mask = pa.py_buffer(b"\x05")
    digests = set()
    for hidden in (7, 8):
        data = pa.py_buffer(np.array([1, hidden, 3]).tobytes())
        digests.add(save(pa.table({"a": pa.Array.from_buffers(pa.int64(), 3, [mask, data])}), blobs).digest)
    digests.add(save(pa.table({"a": pa.array([1, None, 3])}), blobs).digest)
    assert len(digests) == 1


def test_a_stream_gives_the_bytes_of_the_whole(blobs: Blobs) -> None:
    frame = pl.DataFrame({"a": range(3_000_000)})
    pieces = save((frame[start : start + 700_001] for start in range(0, 3_000_000, 700_001)), blobs)
    again = save((piece for piece in [frame]), blobs)
    assert pieces.digest == again.digest
    assert pieces.rows == 3_000_000


@pytest.mark.parametrize("items", [["a", None], ["a", float("nan")], [1, None], [True, None]])
def test_a_pandas_column_of_objects_keeps_its_sort_of_missing(blobs: Blobs, items: list[object]) -> None:
    frame = pd.DataFrame({"a": pd.Series(items, dtype=object)})
    back: Any = load(save(frame, blobs), blobs)
    assert list(map(repr, back["a"])) == list(map(repr, items))
    assert back["a"].dtype == object


def test_a_frame_of_another_library_is_another_artifact(blobs: Blobs) -> None:
    assert save(FRAME, blobs).digest != save(FRAME.lazy(), blobs).digest


def test_a_mapped_array_may_be_changed_without_changing_the_file(blobs: Blobs) -> None:
    artifact = save(np.zeros(100_000), blobs)
    array: Any = load(artifact, blobs)
    array[0] = 1.0
    assert load(artifact, blobs, verify="full")[0] == 0.0  # type: ignore[index]  # an array


@dataclass
class Holder:
    value: int


class Stranger:
    pass


class Elsewhere:
    def save(self, path: Path) -> None:
        path.with_suffix(".npz").write_bytes(b"x")

    @classmethod
    def load(cls, path: Path) -> "Elsewhere":
        path.read_bytes()
        return cls()


def _more() -> Holder:
    holder = Holder(1)
    holder.other = 2  # type: ignore[attr-defined]  # the point of the test
    return holder


def _local() -> object:
    @dataclass
    class Local:
        value: int

    return Local(1)


def _endless() -> list[object]:
    endless: list[object] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Stranger, "Stranger' cannot be kept: nothing knows how"),
        (lambda: np.array([object()]), "would need pickle"),
        (lambda: np.ma.array([1]), "subclasses of ndarray"),
        (lambda: pd.DataFrame({"a": [1, "x"]}), "cannot be kept"),
        (lambda: pd.DataFrame({"a": [object()]}), "Arrow cannot hold it"),
        (lambda: pd.DataFrame({"a": pd.Series(["x", None, float("nan")], dtype=object)}), "other types or values"),
        (lambda: pl.DataFrame({"a": pl.Series([1], dtype=pl.Int128)}), "no counterpart"),
        (lambda: pl.DataFrame({"a": [object()]}), "cannot be kept"),
        (lambda: pl.Series([["a"]], dtype=pl.List(pl.Categorical)).to_frame("c"), "nests a Categorical"),
        (lambda: iter(()), "it yielded nothing"),
        (lambda: iter([1, 2]), "not a table"),
        (_more, "holds \\['other'\\] beside its fields"),
        (_local, "cannot be found by another process"),
        (_endless, "refers to itself"),
        (Elsewhere, "wrote \\['content.npz'\\]"),
        (lambda: {"model": Stranger()}, "nothing knows how"),
        (lambda: dt.time(1, tzinfo=_Zone()), "time zone is a"),
    ],
)
def test_what_cannot_be_kept_exactly_is_refused_with_a_hint(blobs: Blobs, make: Any, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words) as caught:
        save(make(), blobs)
    assert caught.value.hint


class _Zone(dt.tzinfo):
    """A zone of a user's own, which has no name to find it by."""

    def utcoffset(self, when: dt.datetime | None, /) -> dt.timedelta | None:
        del when
        return None

    dst = utcoffset

    def tzname(self, when: dt.datetime | None, /) -> str:
        return f"zone at {when}"


def test_batches_of_other_columns_are_refused(blobs: Blobs) -> None:
    with pytest.raises(UnsupportedError, match="other columns than the first"):
        save(iter([pl.DataFrame({"a": [1]}), pl.DataFrame({"b": [1]})]), blobs)


def test_an_estimator_with_code_of_its_own_is_refused(blobs: Blobs) -> None:
    from sklearn.preprocessing import FunctionTransformer  # noqa: PLC0415 -- heavy, and needed here only

    with pytest.raises(UnsupportedError, match="not on the allow-list"):
        save(FunctionTransformer(func=subprocess.check_output), blobs)


def test_a_class_that_lost_a_field_says_so(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = save(Holder(1), blobs)

    @dataclass
    class Renamed:
        amount: int

    monkeypatch.setattr(sys.modules[__name__], "Holder", Renamed)
    with pytest.raises(UnsupportedError, match="it has no field 'value'"):
        load(artifact, blobs)


def test_an_unknown_codec_and_a_broken_listing_are_refused(blobs: Blobs) -> None:
    digest = blobs.put(b"no listing")
    with pytest.raises(ArtifactError, match="codec 'pickle', which is not known"):
        load(Artifact(digest=digest, codec="pickle", type="x", size_bytes=1), blobs)
    with pytest.raises(DamagedError, match="is not a listing"):
        load(Artifact(digest=digest, codec="plain", type="x", size_bytes=1), blobs)
    with pytest.raises(DamagedError, match="is not a readable Arrow file"):
        load(Artifact(digest=digest, codec="arrow", type="x", size_bytes=1), blobs)


def test_every_blob_of_a_tree_is_named_once(blobs: Blobs) -> None:
    array = np.arange(3)
    artifact = save({"one": array, "same": array, "deep": [Holder(1), {"frame": FRAME}]}, blobs)
    needed = blobs_of(artifact, blobs)
    assert needed[0] == artifact.digest
    assert len(needed) == len(set(needed)) == 3


def test_saving_frames_and_plain_values_loads_no_other_library() -> None:
    code = (
        "import sys, pathlib, tempfile; from penstock.store.blobs import Blobs; from penstock.store.codecs import *;"
        "b = Blobs(pathlib.Path(tempfile.mkdtemp()) / 'blobs'); load(save({'a': [1]}, b), b);"
        "print(sorted({'pandas','sklearn','skops','torch','lightgbm','scipy','onnx','implicit'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.dates()
    | st.datetimes() | st.decimals(allow_nan=False) | st.uuids() | st.complex_numbers(allow_nan=False)
    | st.timedeltas() | st.text(st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.just("$"), inner)
    | st.dictionaries(st.integers() | st.tuples(st.text()), inner),
    max_leaves=20,
)  # fmt: skip
RELAXED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(value=PLAIN)
def test_any_plain_value_comes_back_with_its_types(blobs: Blobs, value: object) -> None:
    assert repr(load(save(value, blobs), blobs)) == repr(value)


@RELAXED
@given(value=st.floats())
def test_any_float_comes_back_to_the_sign_of_zero(blobs: Blobs, value: float) -> None:
    assert repr(load(save([value], blobs), blobs)) == repr([value])


@RELAXED
@given(frame=plst.dataframes(excluded_dtypes=[pl.Categorical, pl.Int128, pl.UInt128], allow_null=True))
def test_any_frame_comes_back_equal(blobs: Blobs, frame: pl.DataFrame) -> None:
    back = load(save(frame, blobs), blobs, verify="full")
    assert isinstance(back, pl.DataFrame)
    assert back.schema == frame.schema
    assert back.equals(frame)
