"""Does it work for everyone? Quality with its interval, beside champion and baseline, in slices, and live."""

from collections.abc import Iterator

from penstock.monitoring.findings import Kind
from penstock.project.quality import ModelQuality, Quality
from penstock.project.status.facts import Facts
from penstock.project.status.records import Answer, Line, Verdict, answer, unknown
from penstock.project.status.seen import lines_of, newest_with_rows
from penstock.project.status.words import counted, number, within

_LIVE: frozenset[Kind] = frozenset({"quality", "slice_quality"})
_WORST = 3


def works(facts: Facts) -> Answer:
    """Return the answer."""
    if facts.release is None:
        return answer("works", [unknown("there is no release", "a run whose checks pass makes one", "penstock run")])
    return answer("works", [*_offline(facts), *_live(facts)])


def _offline(facts: Facts) -> Iterator[Line]:
    show = f"penstock show {facts.release.ref}" if facts.release is not None else ""
    if facts.made_in is None:
        why = "the live release was made elsewhere" if not facts.damage else "its evidence cannot be read"
        yield unknown(f"quality on held-out rows, since {why}", "its checks are in the release", show)
        return
    if not facts.made_in.quality:
        yield unknown("quality on held-out rows", "declare it with @pipeline.evaluate, then run", "penstock run")
    for quality in facts.made_in.quality:
        yield from _evaluation(quality, show)
    for check in facts.made_in.checks:
        if "slice" in check.name:
            verdict: Verdict = "fine" if check.passed else "look"
            yield Line(verdict=verdict, said=f"{check.name}: {check.message}", leads_to=show)


def _evaluation(quality: Quality, show: str) -> Iterator[Line]:
    models = [m for m in quality.models if m.metric == quality.metric]
    candidate = next((m for m in models if m.role == "candidate"), None)
    if candidate is None:
        return
    yield _mean(quality, candidate, show)
    others = {m.model: m.role for m in models}
    for lift in candidate.lifts:
        role = others.get(lift.over, "model")
        size = within(lift.mean, lift.low, lift.high)
        verdict: Verdict = {"better": "fine", "worse": "look", "unclear": "said"}[lift.verdict]  # type: ignore[assignment]  # the values are verdicts
        word = {"better": "better than", "worse": "WORSE than", "unclear": "not clearly better or worse than"}
        said = f"{word[lift.verdict]} the {role} {lift.over}: {quality.metric} differs by {size}"
        yield Line(verdict=verdict, said=said, leads_to=show)
    if quality.worst:
        worst = "; ".join(f"{s.column}={s.value} {number(s.mean)} (n {s.n:,})" for s in quality.worst[:_WORST])
        yield Line(verdict="said", said=f"worst declared slices by {quality.metric}: {worst}", leads_to=show)


def _mean(quality: Quality, candidate: ModelQuality, show: str) -> Line:
    better = "higher" if quality.higher_is_better else "lower"
    said = f"held-out {quality.metric} {within(candidate.mean, candidate.low, candidate.high)}"
    said += f" over {counted(candidate.n, 'example')}, {better} is better"
    figures = {
        "evaluation": quality.evaluation,
        "metric": quality.metric,
        "mean": candidate.mean,
        "low": candidate.low,
        "high": candidate.high,
        "n": candidate.n,
    }
    return Line(verdict="said", said=said, leads_to=show, figures=figures)


def _live(facts: Facts) -> Iterator[Line]:
    monitors = facts.of("quality:")
    if any(newest_with_rows(seen) is not None for seen in monitors.values()):
        yield from lines_of(monitors, _LIVE, facts)
        return
    outcomes = [] if facts.manifest is None else [n for n in facts.manifest.graph.nodes if n.role == "outcome"]
    if not outcomes:
        step = "declare @pipeline.outcome, or send what became of answers: penstock feedback"
        yield unknown("live quality", step, "penstock feedback --help")
        return
    for node in outcomes:
        within_s = node.options.get("within")
        step = f"the truth of {node.name!r} has to come" + (f", within {within_s} of an answer" if within_s else "")
        yield unknown("live quality", step, f"penstock outcomes {facts.pipeline}")
