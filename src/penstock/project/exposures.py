"""Reads from the prediction log who got which arm of an experiment, and what became of it, per key.

One unit is one key: it belongs to the arm it was dealt, whatever it got (intention to treat), is measured over a fixed
span from its first answer on and counted once, when all truth about that span is known. Keys still being measured
count nowhere: sums that grow after they were looked at break intervals that hold at every look (docs/adr/0023).
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import polars as pl

from penstock.checks.sequential import Moments
from penstock.core.records import Record
from penstock.project.workspace import Workspace
from penstock.releases.experiments.decide import Seen, Tally
from penstock.releases.experiments.plan import DAY_S, MONTH_DAYS, Metric, Plan, Usual
from penstock.serving.plane.plane import EXPLORE
from penstock.serving.plane.split import arm_of
from penstock.serving.predictions.outcomes import outcomes_frame
from penstock.serving.predictions.reading import NOT_THE_MODEL, predictions_frame

LOGGED = ("errors", "answer_ms")
EXPERIMENT = "experiment"  # the variant of answers of the release that a server deals beside the live one
_ID, _VALUE = "prediction_id", "value"
_RECENT = timedelta(days=7)
_DONE = pl.lit(value=True).alias("done")
_FAILED = pl.col("error").is_not_null().cast(pl.Float64)
_TOOK_MS = pl.col("timings").str.json_path_match("$.answer_us").cast(pl.Float64) / 1000


class Span(Record, frozen=True, kw_only=True):
    """What is measured.

    Attributes:
        since: Only answers from this time on.
        until: Only answers before this time; what is known now.
        length_s: How long a key is measured from its first answer on.
    """

    since: datetime
    until: datetime
    length_s: float

    @property
    def length(self) -> timedelta:
        """How long a key is measured."""
        return timedelta(seconds=self.length_s)


class _Exposures:
    """Answers of a span of time by key.

    Args:
        workspace: The project.
        pipeline: Whose.
        span: What is measured.
        arm: The arm an answer belongs to; answers of none are left out.
        deal: Says which arm a key was dealt; None takes that of its first answer.
    """

    def __init__(
        self,
        workspace: Workspace,
        pipeline: str,
        span: Span,
        *,
        arm: pl.Expr,
        deal: Callable[[str], str] | None = None,
    ) -> None:
        self._workspace, self._pipeline, self._span = workspace, pipeline, span
        rows = predictions_frame(workspace.home, pipeline, since=span.since, until=span.until)
        names = (_ID, "at", "key", _FAILED.alias("failed"), _TOOK_MS.alias("took_ms"))
        has_answer = (pl.col("answer") != "null").alias("has_answer")
        mine = rows.filter(pl.col("variant") != EXPLORE).select(*names, has_answer, arm.alias("arm"))
        self.rows = mine.filter(pl.col("arm").is_not_null()).collect(engine="streaming")
        self.keyed = self.rows.filter(pl.col("key") != "")
        # Two answers of one moment are told apart by id, so that all who look agree on which was first.
        ordered = self.keyed.sort("at", _ID).group_by("key", maintain_order=True)
        met = (pl.col("arm").first(), pl.col("arm").unique().alias("met"))
        first = ordered.agg(pl.col("at").first().alias("first_at"), *met)
        if deal is not None:
            first = first.with_columns(pl.Series("arm", [deal(key) for key in first["key"]], dtype=pl.String))
        others = pl.col("met").list.len() - pl.col("met").list.contains(pl.col("arm")).cast(pl.UInt32)
        self.first = first.select("key", "first_at", "arm", (others > 0).alias("has_crossed"))

    def tallies(self, metric: Metric) -> dict[str, Tally]:
        """Return what a metric came to over the keys that are measured to the end, by arm."""
        # Sorted: a sum must not depend on the order in which keys come.
        found = self._per_key(metric).sort("arm", _VALUE)
        is_share = bool(found[_VALUE].is_in([0.0, 1.0]).all())
        parts = found.partition_by("arm", as_dict=True, maintain_order=True)
        return {
            str(arm): Tally(moments=Moments.of(part[_VALUE].to_numpy()), is_share=is_share)
            for (arm,), part in parts.items()
        }

    def _per_key(self, metric: Metric) -> pl.DataFrame:
        over = self.first.filter(pl.col("first_at") + self._span.length <= self._span.until)
        rows = self.keyed.drop("arm").join(over, on="key")
        rows = rows.filter(pl.col("at") <= pl.col("first_at") + self._span.length)
        value = pl.col(_VALUE)
        match metric.name:
            case "errors":
                rows, per_key = rows.with_columns(pl.col("failed").alias(_VALUE), _DONE), value.max()
            case "answer_ms":
                rows, per_key = rows.with_columns(pl.col("took_ms").alias(_VALUE), _DONE), value.mean()
            case _:
                rows, per_key = self._with_truth(metric, rows), value.sum()
        found = rows.group_by("key").agg(pl.col("arm").first(), per_key, pl.col("done").all())
        return found.filter(pl.col("done"), value.is_finite()).select("arm", _VALUE)

    def _with_truth(self, outcome: Metric, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with the value of an outcome; what got no answer came to nothing, and is done."""
        truths = outcomes_frame(self._workspace.home, self._pipeline, outcome.name)
        said = truths.select(_ID, _VALUE, "is_whole").collect(engine="streaming")
        done = pl.col("is_whole") if outcome.waits else pl.col("is_whole").is_not_null()
        known = done.fill_null(value=False) | ~pl.col("has_answer")
        return rows.join(said, on=_ID, how="left").with_columns(pl.col(_VALUE).fill_null(0.0), known.alias("done"))


def seen_so_far(workspace: Workspace, pipeline: str, plan: Plan, *, started_at: datetime, now: datetime) -> Seen:
    """Return what an experiment came to so far."""
    names = [arm.name for arm in plan.arms]
    variant, release = pl.col("variant"), pl.col("release")
    # By its variant where that is an arm, as the fallback's is; else by the release that answered. Other variants are
    # no exposures: nobody saw a shadow's answer, and who explores or meets a canary was not dealt by this split.
    is_mine = variant.is_in(["", EXPERIMENT]) & release.is_in(names)
    arm = pl.when(variant.is_in(names)).then(variant).when(is_mine).then(release)
    span = Span(since=started_at, until=now, length_s=plan.span_s)
    # What a server of ours dealt is known from the key: a request that the other release was too late for was dealt it.
    found = _Exposures(workspace, pipeline, span, arm=arm, deal=_dealer(plan) if plan.dealt else None)
    return Seen(
        started_at=started_at,
        assigned=dict(found.first.group_by("arm").len().iter_rows()),
        tallies={metric.name: found.tallies(metric) for metric in plan.measured},
        crossed=int(found.first["has_crossed"].sum()),
        without_key=found.rows.height - found.keyed.height,
        keys_per_month=_keys_per_month(workspace, pipeline, now, plan.span_s),
    )


def _dealer(plan: Plan) -> Callable[[str], str]:
    share = {arm.name: arm.share for arm in plan.arms}
    shares = [share[name] for name in plan.dealt]
    return lambda key: plan.dealt[arm_of(key.encode(), plan.salt, shares)]


def usual_of(workspace: Workspace, pipeline: str, span: Span, *, outcome: Metric, guards: Sequence[Metric]) -> Usual:
    """Return what an outcome came to per key in the past, and how many keys there were.

    Args:
        workspace: The project.
        pipeline: Whose.
        span: The past.
        outcome: What an experiment is to decide by.
        guards: What it is to guard.
    """
    by_model = pl.when(~pl.col("variant").is_in(NOT_THE_MODEL)).then(pl.lit(""))
    found = _Exposures(workspace, pipeline, span, arm=by_model)
    moments = {one.name: found.tallies(one).get("", Tally()).moments for one in (outcome, *guards)}
    begin = found.rows["at"].min()
    since = begin if isinstance(begin, datetime) else span.since
    days = max((span.until - since).total_seconds() / DAY_S, 1e-9)
    return Usual(
        per_key=moments[outcome.name],
        guards={one.name: moments[one.name] for one in guards},
        new_keys=_new_keys(found.first, since, days),
        keys_per_month=_keys_per_month(workspace, pipeline, span.until, span.length_s),
        answers_per_day=found.rows.height / max(days, 1.0),
    )


def _new_keys(first: pl.DataFrame, since: datetime, days: float) -> tuple[int, ...]:
    """Return the keys seen by the end of each whole day; of less than a day, as many as a day at that rate."""
    if days < 1:
        return (round(first.height / days),) if first.height else ()
    day = (pl.col("first_at") - since).dt.total_seconds() // int(DAY_S)
    counts = dict(first.select(day.alias("day")).group_by("day").len().iter_rows())
    seen, total = [], 0
    for number in range(int(days)):
        total += counts.get(number, 0)
        seen.append(total)
    return tuple(seen)


def _keys_per_month(workspace: Workspace, pipeline: str, now: datetime, span_s: float) -> float:
    """Return keys times spans in a month, as in the last week, or in what there is of it."""
    recent = predictions_frame(workspace.home, pipeline, since=now - _RECENT, until=now).filter(pl.col("key") != "")
    step = pl.col("at").dt.epoch("s") // max(int(span_s), 1)
    found = recent.select(pl.struct("key", step.alias("step")).n_unique().alias("keys"), pl.col("at").min())
    keys, begin = found.collect(engine="streaming").row(0)
    if not keys or not isinstance(begin, datetime):
        return 0.0
    days: float = max((now - begin).total_seconds() / DAY_S, min(span_s / DAY_S, 7.0))
    return float(keys) / days * MONTH_DAYS
