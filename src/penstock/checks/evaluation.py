"""Evaluation rows and their statistics: what a check named after an evaluation receives.

One row per example and model; everything else (means, slices, paired lifts, all with intervals) is computed from rows.
"""

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from penstock.checks import columns, slicing, statistics
from penstock.checks.cells import searchable
from penstock.checks.pairing import pair
from penstock.checks.show import show_interval
from penstock.checks.slicing import Labels, Slices
from penstock.checks.statistics import Floats, Grouped
from penstock.checks.worst_slices import Limits, Searched, search_slices
from penstock.core.errors import DataError, InputError
from penstock.core.records import Interval, Record


class Roles(Record, frozen=True, kw_only=True):
    """Which model of an evaluation is what.

    Attributes:
        candidate: The model this run wants to release.
        baselines: Simple models it must not lose to.
        champion: Name under which the live release was evaluated, or None if nothing is live.
    """

    candidate: str
    baselines: tuple[str, ...] = ()
    champion: str | None = None


class Lift(Interval, frozen=True, kw_only=True):
    """Mean difference between two models on the same examples, with its 95 % interval.

    Attributes:
        base: Mean of the model compared with.
    """

    model: str
    over: str
    metric: str
    base: float

    @property
    def relative(self) -> float:
        """The difference as a share of the other model's mean; NaN if that is zero."""
        return self.mean / self.base if self.base else math.nan

    def __str__(self) -> str:
        return show_interval(self)


class Evaluation:
    """Evaluation rows of several models, with means, slices and paired lifts.

    A *metric* is a column of floats, or of booleans or integers that are all 0 or 1, or the column named as `metric`;
    key and slice columns are none. Other columns describe the example.

    Args:
        rows: Evaluation rows by model name, one per example.
        roles: Which model is candidate, baseline, champion.
        metric: The main metric; the first metric column if empty.
        slices: Columns to slice by.
        key: Columns that name an example; rows are paired by position if empty.
        higher_is_better: Whether a larger metric is better.

    Raises:
        DataError: A declared column is missing, or there is no metric.

    Example:
        >>> rows = {"ranker": pl.DataFrame({"hit": [1.0, 0.5]}), "popular": pl.DataFrame({"hit": [0.5, 0.0]})}
        >>> quality = Evaluation(rows, roles=Roles(candidate="ranker", baselines=("popular",)))
        >>> quality.lift("ranker", over="popular").mean
        0.5
    """

    def __init__(
        self,
        rows: Mapping[str, pl.DataFrame],
        *,
        roles: Roles,
        metric: str = "",
        slices: Sequence[str] = (),
        key: Sequence[str] = (),
        higher_is_better: bool = True,
    ) -> None:
        self.roles = roles
        self.higher_is_better = higher_is_better
        self.key = tuple(key)
        self.slice_columns = tuple(slices)
        self._rows = dict(rows)
        columns.require_columns(
            self._rows, (roles.candidate, *roles.baselines), (*key, *slices, *([metric] if metric else ()))
        )
        self.metrics = columns.metric_columns(self._rows, metric, {*key, *slices})
        self.metric = metric or self.metrics[0]
        self._labels: dict[str, Labels] = {}
        self._slices: dict[tuple[str, str], Slices] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, as evaluated."""
        return tuple(self._rows)

    @property
    def candidate(self) -> str:
        """The model this run wants to release."""
        return self.roles.candidate

    @property
    def champion(self) -> str | None:
        """Name of the live release's rows; None if nothing is live."""
        return self.roles.champion

    def rows(self, model: str) -> pl.DataFrame:
        """Return the rows of one model.

        Raises:
            InputError: There is no such model here.
        """
        if model not in self._rows:
            raise InputError(
                f"No model {model!r} in this evaluation.", hint=f"it has {', '.join(map(repr, self._rows))}"
            )
        return self._rows[model]

    def mean(self, model: str, metric: str | None = None) -> Interval:
        """Return the mean of a metric with its 95 % interval.

        Raises:
            DataError: There are no rows, or values that are missing, NaN or infinite.
        """
        name = self._metric(metric)
        scale, largest = self._scale(name)
        return columns.only(statistics.mean_intervals(Grouped.of(self._values(model, name)), scale, largest=largest))

    def lift(self, model: str, *, over: str, metric: str | None = None, where: pl.Expr | None = None) -> Lift:
        """Return the mean difference `model - over` on the same examples, with its 95 % interval.

        Args:
            model: The model in question.
            over: The model to compare with.
            metric: The metric; the main one if None.
            where: Condition on the rows' columns, to compare on a part of the examples.

        Raises:
            DataError: The rows cannot be paired, there are none, or values are missing, NaN or infinite.
        """
        name = self._metric(metric)
        difference, base = self._differences(model, over, name)
        if where is not None:
            mask = self.rows(model).select(where.fill_null(value=False).alias("where"))["where"].to_numpy()
            difference, base = difference[mask], base[mask]
        if not len(difference):
            raise DataError(f"No examples to compare {model!r} and {over!r} on.", hint="widen the condition `where`")
        found = columns.only(statistics.difference_intervals(Grouped.of(difference)))
        mean = float(statistics.mean_intervals(Grouped.of(base), "real").mean[0])
        return Lift(
            model=model, over=over, metric=name, base=mean, mean=found.mean, low=found.low, high=found.high, n=found.n
        )

    def slice(self, column: str, value: object) -> "Evaluation":
        """Return the evaluation of one slice: rows whose `column` has, or whose list contains, `value`.

        Raises:
            InputError: The column is not declared as a slice, or the slice has no rows.
        """
        label = value if isinstance(value, str) else slicing.label_of(value)
        parts: dict[str, pl.DataFrame] = {}
        for model, rows in self._rows.items():
            found = self._membership(model, column)
            if label not in found.labels:
                hint = f"it has {', '.join(map(repr, found.labels[:10]))}"
                raise InputError(f"No slice {label!r} of {column!r} in the rows of {model!r}.", hint=hint)
            parts[model] = rows[np.sort(found.rows[found.groups == found.labels.index(label)])]
        return Evaluation(
            parts,
            roles=self.roles,
            metric=self.metric,
            slices=self.slice_columns,
            key=self.key,
            higher_is_better=self.higher_is_better,
        )

    def slices(self, column: str | None = None) -> pl.DataFrame:
        """Return mean, interval and n per model, metric and slice.

        Columns: model, metric, column, value, mean, low, high, n. Bounds are infinite where n is 1.
        """
        wanted = self.slice_columns if column is None else (column,)
        rows: list[dict[str, object]] = [
            {"model": model, "metric": metric, "column": name, **row}
            for model in self.models
            for metric in self.metrics
            for name in wanted
            for row in self._slice_means(model, metric, name)
        ]
        return columns.frame(rows, columns.SLICE_MEANS)

    def slice_lifts(self, model: str, *, over: str, metric: str | None = None, margin: float = 0.0) -> pl.DataFrame:
        """Return the paired lift in every slice, with `p_worse`: one-sided p-value for being worse there.

        Columns: column, value, mean, low, high, n, p_worse.

        Args:
            model: The model in question.
            over: The model to compare with.
            metric: The metric; the main one if None.
            margin: A loss that does not count, in the metric's unit: `p_worse` is for being worse by more than it.
        """
        name = self._metric(metric)
        difference, _ = self._differences(model, over, name)
        records: list[dict[str, object]] = []
        for column in self.slice_columns:
            found = self._membership(model, column)
            data = Grouped.of(difference[found.rows], found.groups, len(found.labels))
            gains = data.values if self.higher_is_better else -data.values
            p_values = statistics.p_below_zero(Grouped.of(gains + margin, data.groups, data.size)).tolist()
            rows = columns.records(statistics.difference_intervals(data), found.labels)
            records += [{"column": column, **row, "p_worse": p} for row, p in zip(rows, p_values, strict=True)]
        return columns.frame(records, columns.SLICE_LIFTS)

    def worst(
        self, model: str | None = None, *, metric: str | None = None, count: int = 5, min_n: int = 20
    ) -> pl.DataFrame:
        """Return the slices that are surely worst: by the bound of the interval nearest to good.

        Args:
            model: The model; the candidate if None.
            metric: The metric; the main one if None.
            count: How many slices.
            min_n: Slices with fewer examples are left out.
        """
        wanted = (pl.col("model") == (model or self.candidate)) & (pl.col("metric") == self._metric(metric))
        found = self.slices().filter(wanted & (pl.col("n") >= min_n))
        by, descending = ("high", False) if self.higher_is_better else ("low", True)
        return found.sort([by, "column", "value"], descending=[descending, False, False]).head(count)

    def worst_slices(self, model: str, *, over: str, limits: Limits | None = None) -> Searched:
        """Return the slices, by any column or pair of columns, in which a model is surely worse than another.

        All columns are searched that describe the examples, whether declared as slices or not: words of at most 50
        different values, numbers, times of few values, and lists of these. A column of floats, or of 0 and 1, is one
        of them where both models have the same values: then it says nothing about either.

        Args:
            model: The model in question.
            over: The model to compare with.
            limits: What counts as bad.

        Raises:
            DataError: The rows cannot be paired, or values are missing, NaN or infinite.
        """
        rows = self.rows(model)
        difference, base = self._differences(model, over, self.metric)
        gains = difference if self.higher_is_better else -difference
        others = [name for name in self.metrics if name != self.metric]
        own = [name for name in others if not self._is_usable(model, name) or not self._is_shared(model, over, name)]
        names = searchable(rows, declared=self.slice_columns, but=(*self.key, self.metric, *own))
        return search_slices(rows, names, gains, unit=statistics.spread(base), limits=limits or Limits())

    def non_finite(self) -> dict[tuple[str, str], int]:
        """Return how many values are missing, NaN or infinite, by (model, metric); only where there are any."""
        counts = {
            (model, metric): int((~np.isfinite(columns.floats(rows[metric]))).sum())
            for model, rows in self._rows.items()
            for metric in self.metrics
        }
        return {place: count for place, count in counts.items() if count}

    def table(self) -> list[dict[str, object]]:
        """Return one plain record per model and metric: mean, low, high, n and, for the candidate, `lifts`.

        `lifts` has a record (over, mean, low, high, n) per baseline and for the champion. Values that cannot be
        computed (no rows, NaN) and bounds that are not known are None.
        """
        return [self._table_row(model, metric) for metric in self.metrics for model in self.models]

    def to_metrics(self) -> list[dict[str, object]]:
        """Return plain rows for the ledger: model, metric, slice, value, mean, low, high, n.

        `slice` and `value` are empty for all examples together. Where `mean` is None there were no rows or values
        that are not finite, and such a metric has no slices.
        """
        whole: list[dict[str, object]] = []
        for row in self.table():
            numbers = {name: row[name] for name in ("mean", "low", "high", "n")}
            whole.append({"model": row["model"], "metric": row["metric"], "slice": "", "value": "", **numbers})
        return whole + [
            {"model": row["model"], "metric": row["metric"], "slice": column, **columns.plain(found)}
            for row in self.table()
            if row["mean"] is not None
            for column in self.slice_columns
            for found in self._slice_means(str(row["model"]), str(row["metric"]), column)
        ]

    def to_json(self) -> dict[str, object]:
        """Return everything shown about this evaluation as plain JSON; a pure function of the rows."""
        return {
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "candidate": self.roles.candidate,
            "baselines": list(self.roles.baselines),
            "champion": self.roles.champion,
            "table": self.table(),
            "slices": [row for row in self.to_metrics() if row["slice"]],
        }

    def _table_row(self, model: str, metric: str) -> dict[str, object]:
        role = self._role(model)
        row: dict[str, object] = {"model": model, "role": role, "metric": metric}
        if not self._is_usable(model, metric):
            return {**row, "mean": None, "low": None, "high": None, "n": self.rows(model).height, "lifts": []}
        others = [name for name in (*self.roles.baselines, self.roles.champion) if name and name != model]
        lifts = (
            [
                columns.plain({"over": lift.over, "mean": lift.mean, "low": lift.low, "high": lift.high, "n": lift.n})
                for lift in (
                    self.lift(model, over=other, metric=metric) for other in others if self._is_usable(other, metric)
                )
            ]
            if role == "candidate"
            else []
        )
        mean = self.mean(model, metric)
        return {
            **row,
            **columns.plain({"mean": mean.mean, "low": mean.low, "high": mean.high, "n": mean.n}),
            "lifts": lifts,
        }

    def _role(self, model: str) -> str:
        if model == self.roles.candidate:
            return "candidate"
        if model == self.roles.champion:
            return "champion"
        return "baseline" if model in self.roles.baselines else "other"

    def _is_usable(self, model: str, metric: str) -> bool:
        rows = self.rows(model)
        return rows.height > 0 and bool(np.isfinite(columns.floats(rows[metric])).all())

    def _is_shared(self, model: str, over: str, metric: str) -> bool:
        return self._is_usable(over, metric) and not self._differences(model, over, metric)[0].any()

    def _metric(self, metric: str | None) -> str:
        name = metric or self.metric
        if name not in self.metrics:
            raise InputError(f"No metric {name!r} in this evaluation.", hint=f"it has {', '.join(self.metrics)}")
        return name

    def _values(self, model: str, metric: str) -> Floats:
        rows = self.rows(model)
        values = columns.floats(rows[metric])
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise DataError(
                f"Metric {metric!r} of {model!r} is missing, NaN or infinite in {bad} of {rows.height} rows.",
                hint="decide in the evaluation what such an example scores; it is never left out silently",
            )
        if not len(values):
            raise DataError(f"No evaluation rows of {model!r}.", hint="see that the test split is not empty")
        return values

    def _differences(self, model: str, over: str, metric: str) -> tuple[Floats, Floats]:
        left = self.rows(model)
        self._values(over, metric)  # says which model has a bad value, before pairing hides it
        describing = [name for name in left.columns if name not in self.metrics and name in self.rows(over).columns]
        right = pair(left, self.rows(over), names=(model, over), key=self.key, describing=describing)
        base = columns.floats(right[metric])
        return self._values(model, metric) - base, base

    def _scale(self, metric: str) -> tuple[statistics.Scale, float]:
        whole = np.concatenate([columns.floats(rows[metric]) for rows in self._rows.values()])
        return statistics.scale_of(whole), float(whole.max(initial=0.0)) or 1.0

    def _membership(self, model: str, column: str) -> Slices:
        if column not in self.slice_columns:
            hint = f"declared slices: {', '.join(self.slice_columns) or 'none'}"
            raise InputError(f"{column!r} is not a slice of this evaluation.", hint=hint)
        if column not in self._labels:
            whole = pl.concat([rows.select(column) for rows in self._rows.values()], how="vertical_relaxed")
            self._labels[column] = slicing.learn_labels(whole[column])
        if (model, column) not in self._slices:
            self._slices[model, column] = slicing.assign(self.rows(model)[column], self._labels[column])
        return self._slices[model, column]

    def _slice_means(self, model: str, metric: str, column: str) -> list[dict[str, object]]:
        found = self._membership(model, column)
        scale, largest = self._scale(metric)
        data = Grouped.of(self._values(model, metric)[found.rows], found.groups, len(found.labels))
        return columns.records(statistics.mean_intervals(data, scale, largest=largest), found.labels)

    def __repr__(self) -> str:
        lines = [f"Evaluation of {len(self.models)} models by {self.metric}"]
        for row in self.table():
            if row["metric"] == self.metric:
                lines += [f"  {row['model']} ({row['role']}): {columns.show_plain(row)}"]
                lines += [f"    over {lift['over']}: {columns.show_plain(lift)}" for lift in columns.lifts_of(row)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("model", "role", "metric", "mean [95 % interval]", "over"))
        body: list[str] = []
        for row in self.table():
            lifts = "<br>".join(
                f"{html.escape(str(lift['over']))}: {columns.show_plain(lift)}" for lift in columns.lifts_of(row)
            )
            cells = [html.escape(str(row[name])) for name in ("model", "role", "metric")]
            cells += [columns.show_plain(row), lifts]
            body.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
