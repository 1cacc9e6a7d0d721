"""Frames that must come back as they were."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa


def polars_frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "whole": [1, None, 3],
            "real": [0.1, float("nan"), float("-inf")],
            "text": ["x", None, "é\U0001f600"],
            "flag": [True, None, False],
            "day": [dt.date(2020, 2, 29), None, dt.date(1, 1, 1)],
            "moment": pl.Series([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)] * 3),
            "span": [dt.timedelta(microseconds=1)] * 3,
            "price": [Decimal("1.50"), None, Decimal("-2.25")],
            "bytes": [b"\0", None, b""],
            "list": [[1, None], None, []],
            "struct": [{"a": 1, "b": "q"}, None, {"a": None, "b": None}],
            "vector": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int32, 2)),
            "category": pl.Series(["u", None, "v"], dtype=pl.Categorical),
            "level": pl.Series(["lo", "hi", None], dtype=pl.Enum(["lo", "hi"])),
            "nothing": pl.Series([None] * 3, dtype=pl.Null),
        }
    )


def polars_lazy() -> pl.LazyFrame:
    return polars_frame().lazy()


def polars_series() -> pl.Series:
    return polars_frame()["text"]


def polars_empty() -> pl.DataFrame:
    return polars_frame().clear()


def polars_without_columns() -> pl.DataFrame:
    return pl.DataFrame()


def polars_wide() -> pl.DataFrame:
    return pl.DataFrame({f"column_{index}": [float(index), None] for index in range(10_000)})


def pandas_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "real": [0.5, np.nan, np.inf],
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "text": ["a", None, "c"],
            "object": pd.Series(["a", "b", None], dtype=object, index=["p", "q", "r"]).to_numpy(),
            "category": pd.Categorical(["v", "u", "v"], categories=["v", "u", "w"], ordered=True),
            "moment": pd.date_range("2020-01-01", periods=3, tz="Europe/Brussels"),
        },
        index=pd.Index(["p", "q", "r"], name="key"),
    )


def pandas_series() -> pd.Series:
    return pd.Series([1.0, 2.0], index=[10, 20])


def pandas_many_levels() -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"])
    return pd.DataFrame({"v": [1, 2]}, index=index)


def arrow_table() -> pa.Table:
    table = pa.table({"a": pa.chunked_array([[1, None], [3]]), "s": ["x", None, "z"]})
    return table.replace_schema_metadata({"made by": "a test"})


def arrow_batch() -> pa.RecordBatch:
    return pa.record_batch({"a": [1, 2, None], "d": pa.array(["x", "y", "x"]).dictionary_encode()})


def stream_of_frames() -> Iterator[pl.DataFrame]:
    return (pl.DataFrame({"a": [number, number + 1]}) for number in range(5))
