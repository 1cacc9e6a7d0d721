"""How a serve function does its work: errors, time to answer, fallbacks, numeric health, load and cost of a window.

What was promised (`slo`) is broken when that is beyond doubt; what was not promised is unusual when ordinary windows
are otherwise, and by so much that it matters.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from statistics import NormalDist

import numpy as np
import polars as pl

from penstock.core.records import Record
from penstock.monitoring.findings import Finding, Kind
from penstock.monitoring.profiles.numbers import quantiles, share_below
from penstock.monitoring.profiles.profile import Column, Profile, profile
from penstock.monitoring.usual import Point, log_point, share_point, surprise_of

# What is told when nothing was promised and nothing is known yet.
_WORST_ERRORS, _WORST_FALLBACKS, _WORST_NOT_FINITE = 0.05, 0.5, 0.01
_TESTS = 6
_FEWEST_COUNTED = 3
_MATTERS = 0.005  # a share of answers
_SLOWER, _BUSIER = 1.5, 3.0  # factors
_QUESTIONS = 20
# The error of an answer that holds NaN or an infinity, or nothing that JSON can say.
NOT_AN_ANSWER = "AnswerError"
_PROMISE = re.compile(r"p(\d{2,3})_ms")


class Served(Record, frozen=True, kw_only=True):
    """What a window of answers came to.

    Attributes:
        profile: Of `error` and `fallback` (their reasons), `answer_ms`, and the numbers `questions` and `answers` of
            different ones.
    """

    start: datetime
    profile: Profile

    @property
    def asked(self) -> int:
        """Questions."""
        return self.profile.rows

    @property
    def errors(self) -> int:
        """Questions without an answer, but for those whose answer was none that can be told."""
        return _filled(self.profile.columns["error"]) - self._of("error", NOT_AN_ANSWER)

    @property
    def fallbacks(self) -> int:
        """Questions that the fallback answered."""
        return _filled(self.profile.columns["fallback"])

    @property
    def not_finite(self) -> int:
        """Answers that held NaN or an infinity, whether or not a fallback stepped in."""
        return self._of("error", NOT_AN_ANSWER) + self._of("fallback", NOT_AN_ANSWER)

    def reasons(self, column: str) -> dict[str, int]:
        """Return how often each reason was given for an error or a fallback."""
        words = self.profile.columns[column].words
        return {} if words is None else dict(words.common)

    def quantile_ms(self, share: float) -> float:
        """Return the time in which this share of the questions was answered; NaN without any."""
        numbers = self.profile.columns["answer_ms"].numbers
        return math.nan if numbers is None else float(quantiles(numbers, np.array([share]))[0])

    def slower_than(self, limit_ms: float) -> int:
        """Return how many answers took longer."""
        numbers = self.profile.columns["answer_ms"].numbers
        if numbers is None or not numbers.count:
            return 0
        return round(numbers.count * (1 - float(share_below(numbers, np.array([limit_ms]))[0])))

    def different(self, column: str) -> int:
        """Return how many different `questions` or `answers` there were."""
        numbers = self.profile.columns[column].numbers
        return 0 if numbers is None or numbers.high is None else int(numbers.high)

    def _of(self, column: str, reason: str) -> int:
        return self.reasons(column).get(reason, 0)


def served_profile(rows: pl.DataFrame, sample: pl.DataFrame) -> Profile:
    """Profile the service of some predictions.

    Args:
        rows: Of one serve function: `error`, `fallback` and `timings` of the table of predictions.
        sample: Some or all of them, with `error`, `fields` and `answer`.
    """
    columns = rows.select(
        error=pl.when(~pl.col("fallback")).then(pl.col("error")),
        fallback=pl.when(pl.col("fallback")).then(pl.col("error").fill_null("asked for")),
        answer_ms=answer_ms(pl.col("timings")),
    )
    answered = sample.filter(pl.col("error").is_null()).select("fields", "answer")
    different = answered.select(pl.all().n_unique().cast(pl.Float64)).rename(
        {"fields": "questions", "answer": "answers"}
    )
    return Profile(rows=rows.height, columns=profile(columns).columns | profile(different).columns)


def answer_ms(timings: pl.Expr) -> pl.Expr:
    """Return the milliseconds to each answer, from the column `timings` of the table of predictions."""
    return timings.str.json_decode(pl.Struct({"answer_us": pl.Int64()})).struct.field("answer_us") / 1000


def judge_service(
    before: Sequence[Served], window: Served, *, slo: Mapping[str, float], false_alarms: float, subject: str
) -> list[Finding]:
    """Return what is worse than promised, or than ordinarily.

    Args:
        before: Ordinary windows, oldest first.
        window: The one in question.
        slo: What was promised: `availability` as a share, and times as "p99_ms".
        false_alarms: Share of ordinary windows that may be called unusual, over everything that is compared here.
        subject: Name of the serve function.
    """
    judging = _Judging(before, window, false_alarms / _TESTS, subject)
    found = [*judging.shares(slo), *judging.times(slo), *judging.constant(), *judging.load()]
    return sorted(found, key=lambda finding: -abs(finding.effect))


def judge_promise(
    slow: int, asked: int, *, limit_ms: float, percent: float, false_alarms: float, subject: str
) -> list[Finding]:
    """Return that a promise to one application is broken, where that is beyond doubt.

    Args:
        slow: Of its questions, those answered later than promised.
        asked: Its questions.
        limit_ms: The promised time.
        percent: Share of questions to be answered within it, 0 to 100.
        false_alarms: Share of windows that may be called broken though the promise was kept.
        subject: "recommend/website".
    """
    p = _as_many(slow, asked, 1 - percent / 100)
    if slow < _FEWEST_COUNTED or p > false_alarms:
        return []
    said = f"{slow} of {asked} questions of {subject!r} took longer than {limit_ms:g} ms ({slow / asked:.2%}); "
    said += f"{percent:g} % within that were promised."
    evidence = {"number": slow, "of": asked, "limit_ms": limit_ms, "percent": percent}
    effect = slow / asked / max(1 - percent / 100, 1 / asked)
    return [Finding(kind="latency", subject=subject, is_alarm=True, effect=effect, p=p, said=said, evidence=evidence)]


def cost_of(window: Served, *, price: float, subject: str) -> list[Finding]:
    """Return what the answers of a window cost; nothing where they have no price."""
    if not price:
        return []
    cost = window.asked * price
    said = f"{window.asked} answers of {subject!r} cost {cost:g}."
    evidence = {"answers": window.asked, "price": price}
    return [Finding(kind="cost", subject=subject, is_alarm=False, effect=cost, said=said, evidence=evidence)]


class _Judging:
    def __init__(self, before: Sequence[Served], window: Served, level: float, subject: str) -> None:
        self._before = [one for one in before if one.asked]
        self._window = window
        self._level = level
        self._subject = subject
        self._certain = NormalDist().inv_cdf(1 - level)

    def shares(self, slo: Mapping[str, float]) -> Iterator[Finding]:
        window, promised = self._window, slo.get("availability")
        errors = _WORST_ERRORS if promised is None else 1 - promised
        what = "questions got no answer"
        yield from self._share("errors", what, lambda one: one.errors, worst=errors, reasons=window.reasons("error"))
        why = window.reasons("fallback")
        what = "answers were the fallback's"
        yield from self._share("fallbacks", what, lambda one: one.fallbacks, worst=_WORST_FALLBACKS, reasons=why)
        what = "answers held NaN or an infinity"
        yield from self._share("numeric", what, lambda one: one.not_finite, worst=_WORST_NOT_FINITE, reasons={})

    def _share(
        self, kind: Kind, what: str, count: Callable[[Served], int], *, worst: float, reasons: Mapping[str, int]
    ) -> Iterator[Finding]:
        asked, number = self._window.asked, count(self._window)
        usual = sum(map(count, self._before)) / max(sum(one.asked for one in self._before), 1)
        points = [share_point(one.start, count(one), one.asked) for one in self._before]
        found = surprise_of(points, share_point(self._window.start, number, asked))
        is_broken = _at_least(number, asked, self._certain) > worst
        is_unusual = found is not None and found.p <= self._level and number / asked - usual > _MATTERS
        if number < _FEWEST_COUNTED or not (is_broken or is_unusual):
            return
        limit = f"more than {worst:.2%} is too much" if is_broken else f"{usual:.2%} is ordinary"
        yield Finding(
            kind=kind,
            subject=self._subject,
            is_alarm=True,
            effect=number / asked - usual,
            p=None if found is None else min(found.p * _TESTS, 1.0),
            said=f"{number} of {asked} {what} of {self._subject!r} ({number / asked:.2%}); {limit}.",
            evidence={"number": number, "of": asked, "usual": usual, "reasons": dict(reasons)},
        )

    def times(self, slo: Mapping[str, float]) -> Iterator[Finding]:
        promised = {int(m[1]): limit for name, limit in slo.items() if (m := _PROMISE.fullmatch(name))}
        for percent, limit_ms in promised.items():
            share = percent / (100 if percent < 100 else 1000)  # p999_ms speaks of one in a thousand
            slow = self._window.slower_than(limit_ms)
            if _at_least(slow, self._window.asked, self._certain) > 1 - share:
                took = self._window.quantile_ms(share)
                yield self._slow(percent, f"{limit_ms:g} ms were promised", factor=took / limit_ms, p=None)
        for percent, noise in ((50, 1.0), (99, 10.0)):
            if percent not in promised:
                yield from self._slower(percent, noise)

    def _slower(self, percent: int, noise: float) -> Iterator[Finding]:
        took = self._window.quantile_ms(percent / 100)
        points = [_time_point(one, percent, noise) for one in self._before]
        found = surprise_of(points, _time_point(self._window, percent, noise))
        if found is not None and found.p <= self._level and found.change > math.log(_SLOWER):
            usual = took / math.exp(found.change)
            p = min(found.p * _TESTS, 1.0)
            yield self._slow(percent, f"{usual:.3g} ms are ordinary", factor=took / usual, p=p)

    def _slow(self, percent: int, limit: str, *, factor: float, p: float | None) -> Finding:
        took = self._window.quantile_ms(percent / (100 if percent < 100 else 1000))
        said = f"{self._subject!r} answered {_percent(percent)} of questions within {took:.3g} ms; {limit}."
        evidence = {"percent": percent, "took_ms": took, "p50_ms": self._window.quantile_ms(0.5)}
        evidence |= {"p99_ms": self._window.quantile_ms(0.99), "of": self._window.asked}
        return Finding(
            kind="latency", subject=self._subject, is_alarm=True, effect=factor, p=p, said=said, evidence=evidence
        )

    def constant(self) -> Iterator[Finding]:
        asked, answered = self._window.different("questions"), self._window.different("answers")
        if asked < _QUESTIONS or answered != 1:
            return
        ordinary = [one.different("answers") for one in self._before if one.different("questions") >= _QUESTIONS]
        yield Finding(
            kind="numeric",
            subject=self._subject,
            is_alarm=bool(ordinary) and min(ordinary) > 1,
            effect=float(asked),
            said=f"{self._subject!r} gave one and the same answer to {asked} different questions.",
            evidence={"questions": asked, "least_answers_before": min(ordinary, default=None)},
        )

    def load(self) -> Iterator[Finding]:
        points = [log_point(one.start, one.asked, 1 / one.asked) for one in self._before]
        found = surprise_of(points, log_point(self._window.start, self._window.asked, 1 / self._window.asked))
        if found is None or found.p > self._level or abs(found.change) < math.log(_BUSIER):
            return
        usual = self._window.asked / math.exp(found.change)
        yield Finding(
            kind="cost" if found.change > 0 else "broken_feed",
            subject=self._subject,
            is_alarm=True,
            effect=found.change,
            p=min(found.p * _TESTS, 1.0),
            said=f"{self._subject!r} was asked {self._window.asked} times; about {usual:.0f} times are ordinary.",
            evidence={"asked": self._window.asked, "usual": usual},
        )


def _time_point(served: Served, percent: int, noise: float) -> Point:
    return log_point(served.start, served.quantile_ms(percent / 100), noise / served.asked)


def _at_least(number: int, total: int, certain: float) -> float:
    """Return the share that is surely reached (Wilson, 1927, JASA 22:209-212)."""
    if not total:
        return 0.0
    share, square = number / total, certain**2
    spread = certain * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    return (share + square / (2 * total) - spread) / (1 + square / total)


def _as_many(number: int, total: int, share: float) -> float:
    """Return the chance that as many or more of `total` are such where each is with chance `share`."""
    if number <= total * share:
        return 1.0
    found = 0.0
    for k in range(number, total + 1):
        ways = math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        term = math.exp(ways + k * math.log(share) + (total - k) * math.log1p(-share))
        found += term
        if term < found * 1e-9:  # what is left falls faster and faster
            break
    return min(found, 1.0)


def _percent(percent: int) -> str:
    return f"{percent if percent < 100 else percent / 10:g} %"


def _filled(column: Column) -> int:
    return column.rows - column.nulls
