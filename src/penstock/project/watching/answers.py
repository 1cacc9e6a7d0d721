"""Monitors of serve functions: what they are asked, what they answer, and how they do their work.

Everything is read from the predictions that were kept, in windows by when they were asked; no code of the user's is
needed to know the types of fields and answers. Windows begin with the first release.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec
import polars as pl

from penstock.monitoring.drift.compare import Budget, Seen, compare
from penstock.monitoring.drift.variation import FEWEST
from penstock.monitoring.findings import Finding, Window
from penstock.monitoring.flat import profile_of
from penstock.monitoring.profiles.profile import Profile
from penstock.monitoring.ranges import out_of_range
from penstock.monitoring.service import Served, answer_ms, cost_of, judge_promise, judge_service, served_profile
from penstock.project.watching.history import (
    Earlier,
    History,
    kinds_of,
    newest_profile,
    reference_of,
    told,
)
from penstock.project.watching.look import Look, Measured
from penstock.serving.predictions import tables
from penstock.serving.predictions.reading import NOT_THE_MODEL, predictions_frame
from penstock.serving.predictions.schemas import PREDICTIONS_SCHEMA
from penstock.serving.predictions.typed import ANSWER, COLUMNS, typed_frame
from penstock.store.ledger import consumers, releases

# Windows that are counted again when the next one closes: what was written late has them measured again.
_COUNTED_AGAIN = 2
# Releases that must be among the ordinary windows before the change from one to the next counts as ordinary variation.
_ACCUSTOMED = 3
_SAMPLE = 200_000


def measure(look: Look) -> Iterator[Measured]:
    """Measure the windows of every serve function that closed since, and those that predictions came to late."""
    if look.manifest is None:
        return
    names = [node.name for node in look.manifest.graph.nodes if node.role == "serve"]
    marks = [look.newest(f"service:{name}") for name in names]
    known = [mark for mark in marks if mark is not None]
    since = min(known) if len(known) == len(names) and known else _first(look)
    closed = look.spans(since) if names else []
    if not closed:
        return
    counts = _counts(look, closed[0][0] - _COUNTED_AGAIN * look.step, closed[-1][1])
    for name in names:
        yield from _Serve(look, name).measure([start for start, _ in closed], counts)


def _first(look: Look) -> datetime:
    """Return when there may first have been predictions: a pipeline is watched from its first release on."""
    with look.workspace.ledger.read() as conn:
        first = min(release.made_at for release in releases.of_pipeline(conn, look.pipeline))
    return max(look.floor(first), look.floor(look.now) - look.reference * look.step)


def _counts(look: Look, since: datetime, until: datetime) -> dict[tuple[str, datetime], int]:
    rows = predictions_frame(look.workspace.home, look.pipeline, since=since, until=until).select("serve", "at")
    start = (pl.col("at").dt.epoch("us") // (look.step // timedelta(microseconds=1))).alias("start")
    counted = rows.group_by("serve", start).len().collect(engine="streaming")
    return {(str(serve), look.start_of(int(number))): rows for serve, number, rows in counted.iter_rows()}


class _Serve:
    """The three monitors of one serve function, from one look at its predictions."""

    def __init__(self, look: Look, name: str) -> None:
        self._look = look
        self._name = name
        self._histories = {kind: History(look, f"{kind}:{name}") for kind in ("inputs", "answers", "service")}
        latest = tables.table_of(look.workspace.home, look.pipeline, tables.PREDICTIONS).latest()
        self._basis = 0 if latest is None else latest.version

    def measure(self, closed: Sequence[datetime], counts: dict[tuple[str, datetime], int]) -> Iterator[Measured]:
        kept = self._histories["service"].rows
        own = {start: rows for (serve, start), rows in counts.items() if serve == self._name}
        late = [start for start, rows in own.items() if start in kept and rows > kept[start]]
        new = [start for start in closed if start not in kept]
        for start in sorted({*late, *new}):
            yield from self._window(start, own.get(start, 0))

    def _window(self, start: datetime, rows: int) -> Iterator[Measured]:
        sample, release = self._sample(start, rows), None
        if sample.height:
            release = str(sample["release"].value_counts().sort("count", "release", descending=True)["release"][0])
        window = Window(monitor="", start=start, end=start + self._look.step, rows=rows, release=release)
        yield self._service(window, sample)
        # Who asks for what is a name, and each day has others; what is answered to them may well be the same.
        left_out = [*COLUMNS, ANSWER, *self._look.names]
        typed = typed_frame(sample, {}).drop(left_out, strict=False) if sample.height else None
        yield self._drifted("inputs", window, typed)
        # What the fallback said is judged by how often it spoke; what was dealt to it, by nobody here.
        own = sample.filter(pl.col("error").is_null(), ~pl.col("variant").is_in(NOT_THE_MODEL))
        answers = typed_frame(own, {}).select(ANSWER) if own.height else None
        yield self._drifted("answers", window, answers)

    def _rows(self, start: datetime) -> pl.LazyFrame:
        end = start + self._look.step
        rows = predictions_frame(self._look.workspace.home, self._look.pipeline, since=start, until=end)
        return rows.filter(pl.col("serve") == self._name)

    def _sample(self, start: datetime, rows: int) -> pl.DataFrame:
        """Return the predictions of a window, every n-th of very many: JSON is read in memory."""
        if not rows:
            return pl.DataFrame(schema=PREDICTIONS_SCHEMA)
        every = -(-rows // _SAMPLE)
        found = self._rows(start)
        if every > 1:
            found = found.filter(pl.col("prediction_id").hash(seed=0) % every == 0)
        return found.collect(engine="streaming")

    def _service(self, window: Window, sample: pl.DataFrame) -> Measured:
        if not window.rows:
            return self._measured("service", window, None, ())
        columns = ("error", "fallback", "timings", "consumer")
        is_whole = sample.height == window.rows
        rows = sample if is_whole else self._rows(window.start).select(columns).collect(engine="streaming")
        served = Served(start=window.start, profile=served_profile(rows.select(columns), sample))
        earlier = self._histories["service"].ordinary(window.start)
        before = [Served(start=one.start, profile=one.profile) for one in earlier if one.profile is not None]
        policy = self._look.policy
        budget = self._look.false_alarms
        findings = judge_service(before, served, slo=policy.slo, false_alarms=budget, subject=self._name)
        if self._look.workspace.settings.is_replay:  # how long this machine took says nothing about the pipeline
            findings = [finding for finding in findings if finding.kind != "latency"]
        findings += self._promises(rows, budget)
        findings += cost_of(served, price=policy.cost.prediction, subject=self._name)
        return self._measured("service", window, served.profile, tuple(findings))

    def _promises(self, rows: pl.DataFrame, false_alarms: float) -> list[Finding]:
        """Return whose own promise was broken, of the applications that are registered with one."""
        with self._look.workspace.ledger.read() as conn:
            known = [one for one in consumers.active(conn, self._look.pipeline) if one.promise.ms is not None]
        if not known:
            return []
        timed = rows.select("consumer", ms=answer_ms(pl.col("timings")))
        found: list[Finding] = []
        for one in known:
            own = timed.filter(pl.col("consumer") == one.name)["ms"]
            found += judge_promise(
                int((own > one.promise.ms).sum()),
                own.len(),
                limit_ms=one.promise.ms or 0.0,
                percent=one.promise.percent,
                false_alarms=false_alarms / len(known),
                subject=f"{self._name}/{one.name}",
            )
        return found

    def _drifted(self, kind: str, window: Window, frame: pl.DataFrame | None) -> Measured:
        if frame is None or not frame.width:
            return self._measured(kind, window, None, ())
        earlier = self._histories[kind].ordinary(window.start)
        like = newest_profile(earlier)
        found = profile_of(frame, {} if like is None else kinds_of(like), self._look.names)
        findings = self._findings(kind, Seen(start=window.start, profile=found), earlier, window.release)
        return self._measured(kind, window, found, findings)

    def _findings(self, kind: str, window: Seen, earlier: list[Earlier], release: str | None) -> tuple[Finding, ...]:
        same = [one for one in earlier if one.release == release]
        if kind == "answers" and len(same) >= FEWEST:
            earlier = same
        reference = reference_of(earlier)
        if reference is None:
            return ()
        budget = Budget(false_alarms=self._look.false_alarms)
        findings = compare(reference, window, budget=budget, subject=self._name)
        findings += out_of_range([one.profile for one in reference.windows], window.profile, subject=self._name)
        if kind == "inputs":
            return tuple(findings)
        findings = [_of_answers(finding) for finding in findings]
        # A new release answers otherwise, which its gate has judged. It is no alarm before new releases are a part of
        # how answers ordinarily vary.
        known = {one.release for one in earlier}
        is_new = release not in known or (len(same) < FEWEST and len(known) < _ACCUSTOMED)
        return told(findings) if is_new and len(known | {release}) > 1 else tuple(findings)

    def _measured(self, kind: str, window: Window, found: Profile | None, findings: tuple[Finding, ...]) -> Measured:
        own = msgspec.structs.replace(window, monitor=f"{kind}:{self._name}", findings=findings)
        self._histories[kind].add(own, found)
        return Measured(window=own, profile=found, basis=self._basis)


def _of_answers(finding: Finding) -> Finding:
    is_drift = finding.kind in {"data_drift", "new_category"}
    return msgspec.structs.replace(finding, kind="prediction_drift") if is_drift else finding
