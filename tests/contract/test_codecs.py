"""Every codec keeps every promise of the battery."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import codec_arrays as arrays
import codec_estimators as estimators
import codec_factors as factors
import codec_frames as frames
import codec_networks as networks
import codec_plain as plain
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from penstock.testing.codecs import check_codec

# Implicit warns about BLAS threads and about the matrices it makes itself.
pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured", "ignore:Method expects CSR input")


def same_frame(back: Any, made: Any) -> bool:
    if isinstance(made, pl.LazyFrame):
        back, made = back.collect(), made.collect()
    if isinstance(made, pl.DataFrame) and back.schema != made.schema:
        return False
    return type(back) is type(made) and bool(back.equals(made))


def same_stream(back: Any, made: Any) -> bool:
    expected = pl.concat(list(made))
    return bool(expected.equals(pl.DataFrame(pl.from_arrow(pa.Table.from_batches(list(back))))))


def same_array(back: Any, made: Any) -> bool:
    same = np.array_equal(back, made, equal_nan=made.dtype.kind in "fcM")
    order = getattr(back, "flags", made.flags).f_contiguous == made.flags.f_contiguous
    return same and type(back) is type(made) and back.dtype == made.dtype and order


def same_arrays(back: Any, made: Any) -> bool:
    return list(back) == list(made) and all(np.array_equal(back[name], made[name]) for name in made)


def same_sparse(back: Any, made: Any) -> bool:
    return type(back) is type(made) and back.shape == made.shape and (back != made).nnz == 0


def same_parameters(back: Any, made: Any) -> bool:
    return type(back) is type(made) and repr(back.get_params()) == repr(made.get_params())


def same_predictions(back: Any, made: Any) -> bool:
    x = np.random.default_rng(1).random((50, 4))
    ask = "predict_proba" if hasattr(made, "predict_proba") else "predict"
    return type(back) is type(made) and np.array_equal(getattr(back, ask)(x), getattr(made, ask)(x))


def same_vectors(back: Any, made: Any) -> bool:
    return bool((back.transform(["bb ccc"]) != made.transform(["bb ccc"])).nnz == 0)


def same_module(back: Any, made: Any) -> bool:
    x = torch.ones(2, 3)
    return back.training == made.training and torch.equal(back(x), made(x))


def same_tensor(back: Any, made: Any) -> bool:
    return bool(back.dtype == made.dtype) and torch.equal(back, made)


def same_recommendations(back: Any, made: Any) -> bool:
    rows = factors.interactions()
    pairs = zip(back.recommend(3, rows[3]), made.recommend(3, rows[3]), strict=True)
    return type(back) is type(made) and all(np.array_equal(one, other) for one, other in pairs)


def same_popularity(back: Any, made: Any) -> bool:
    return (
        type(back) is type(made)
        and back.counts.equals(made.counts)
        and np.array_equal(back.matrix, made.matrix)
        and (back.title, back.nested) == (made.title, made.nested)
    )


def same_plain(back: Any, made: Any) -> bool:
    return repr(back) == repr(made) if "set" not in made else _typed(back) == _typed(made)


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return [(_typed(key), _typed(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, value))
    return type(value), repr(value)


def same_words(back: Any, made: Any) -> bool:
    return type(back) is type(made) and back.words == made.words


def same_mixture(back: Any, made: Any) -> bool:
    return (
        same_predictions(back["model"], made["model"])
        and np.array_equal(back["weights"], made["weights"])
        and back["nested"][0] == made["nested"][0]
        and same_predictions(back["nested"][1][0], made["nested"][1][0])
    )


CASES: list[tuple[str, Callable[[], object], Callable[[Any, Any], bool]]] = [
    *[("arrow", make, same_frame) for make in (
        frames.polars_frame, frames.polars_lazy, frames.polars_series, frames.polars_empty,
        frames.polars_without_columns, frames.polars_wide, frames.pandas_frame, frames.pandas_series,
        frames.pandas_many_levels, frames.arrow_table, frames.arrow_batch,
    )],
    ("arrow", frames.stream_of_frames, same_stream),
    *[("numpy", make, same_array) for make in (
        arrays.array_of_floats, arrays.array_by_column, arrays.array_of_times, arrays.array_of_records,
        arrays.array_empty, arrays.numpy_scalar,
    )],
    *[("sparse", make, same_sparse) for make in (arrays.sparse_csr, arrays.sparse_coo, arrays.sparse_csc)],
    *[("skops", make, same_predictions) for make in (
        estimators.logistic, estimators.forest, estimators.boosted, estimators.hist_boosted,
        estimators.neighbours, estimators.stochastic, estimators.lightgbm_classifier,
    )],
    ("skops", estimators.words, same_vectors),
    ("lightgbm", estimators.booster, same_predictions),
    ("torch", networks.network, same_module),
    ("torch", networks.sequential, same_module),
    ("torch", networks.tensor, same_tensor),
    ("onnx", networks.onnx_model, lambda back, made: bool(back == made)),
    *[("implicit", make, same_recommendations) for make in (factors.als, factors.bpr, factors.cosine, factors.bm25)],
    ("plain", plain.plain, same_plain),
    ("plain", plain.popularity, same_popularity),
    ("plain", plain.dict_of_arrays, same_arrays),
    ("plain", estimators.model_in_a_dict, same_mixture),
    ("own", plain.own_file, same_words),
    ("own", plain.own_directory, same_words),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "make", "equal"), CASES, ids=[case[1].__name__ for case in CASES])
def test_a_kept_value_comes_back_as_it_was(
    codec: str, make: Callable[[], object], equal: Callable[[Any, Any], bool], tmp_path: Path
) -> None:
    """Round trip, the same digest in every process, damage refused, no pickle."""
    assert check_codec(make, tmp_path, equal=equal).codec == codec
