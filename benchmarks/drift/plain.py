"""What many teams write themselves: one test or distance per column, with a threshold from a textbook."""

from collections.abc import Callable

import numpy as np
import polars as pl
from scipy import stats

Judge = Callable[[pl.DataFrame, pl.DataFrame], list[str]]


def tests(before: pl.DataFrame, now: pl.DataFrame) -> list[str]:
    """Kolmogorov-Smirnov for numbers, chi-square for categories, each at p < 0.05."""
    return [name for name in now.columns if _p(before[name].drop_nulls(), now[name].drop_nulls()) < 0.05]


def corrected(before: pl.DataFrame, now: pl.DataFrame) -> list[str]:
    """Return the same with Bonferroni's correction."""
    level = 0.05 / now.width
    return [name for name in now.columns if _p(before[name].drop_nulls(), now[name].drop_nulls()) < level]


def stability(threshold: float) -> Judge:
    """Return the population stability index over ten bins of the reference, against a threshold."""

    def judge(before: pl.DataFrame, now: pl.DataFrame) -> list[str]:
        return [name for name in now.columns if _psi(*_shares(before[name], now[name])) > threshold]

    return judge


def largest_difference(before: pl.DataFrame, now: pl.DataFrame) -> list[str]:
    """As TensorFlow Data Validation's tutorial: the largest difference of a category's share above 0.01."""
    return [
        name
        for name in now.columns
        if now[name].dtype == pl.String and np.abs(np.subtract(*_shares(before[name], now[name]))).max() > 0.01
    ]


PLAIN: dict[str, Judge] = {
    "KS and chi-square, p < 0.05": tests,
    "the same, Bonferroni": corrected,
    "PSI > 0.1": stability(0.1),
    "PSI > 0.25": stability(0.25),
    "largest difference of shares > 0.01 (as TFDV's tutorial)": largest_difference,
}


def _p(before: pl.Series, now: pl.Series) -> float:
    if before.dtype != pl.String:
        return float(stats.ks_2samp(before.to_numpy(), now.to_numpy()).pvalue)
    names = pl.concat([before, now]).unique().sort()
    table = np.array([[dict(part.value_counts().iter_rows()).get(one, 0) for one in names] for part in (before, now)])
    return float(stats.chi2_contingency(table).pvalue)


def _shares(before: pl.Series, now: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    if before.dtype == pl.String:
        names = pl.concat([before, now]).unique().sort().to_list()
        counts = [dict(part.value_counts().iter_rows()) for part in (before, now)]
        found = [np.array([one.get(name, 0) for name in names], dtype=float) for one in counts]
    else:
        values = [part.drop_nulls().to_numpy() for part in (before, now)]
        edges = np.unique(np.quantile(values[0], np.linspace(0, 1, 11)))[1:-1]
        found = [np.bincount(np.searchsorted(edges, part), minlength=len(edges) + 1).astype(float) for part in values]
    return found[0] / found[0].sum(), found[1] / found[1].sum()


def _psi(before: np.ndarray, now: np.ndarray) -> float:
    before, now = np.maximum(before, 1e-4), np.maximum(now, 1e-4)
    return float(((now - before) * np.log(now / before)).sum())
