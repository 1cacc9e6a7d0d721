"""Will it hold the load? Requests as they came, times beside what policy promises, and what it can take."""

from collections.abc import Iterator, Sequence
from datetime import date

from penstock.core.lazy import import_quickly
from penstock.monitoring.findings import Kind
from penstock.project.status.facts import MONTH, Facts
from penstock.project.status.records import Answer, Line, Verdict, answer, unknown
from penstock.project.status.seen import lines_of, newest_with_rows
from penstock.project.status.words import ago, counted, number
from penstock.store.ledger.windows import KeptWindow

# With less room than this over the busiest, the next busy minute may be too much.
_TIGHT = 1.25
_KINDS: frozenset[Kind] = frozenset({"latency", "fallbacks", "cost", "broken_feed"})


def load(facts: Facts) -> Answer:
    """Return the answer."""
    monitors = {name: seen for name, seen in facts.of("service:").items() if newest_with_rows(seen) is not None}
    lines: list[Line] = []
    if not monitors:
        lines.append(unknown("no requests were answered", "serve it", f"penstock serve {facts.pipeline}"))
    for name, seen in monitors.items():
        lines += _service(name.partition(":")[2], seen, facts)
    alarms = [line for line in lines_of(facts.of("service:"), _KINDS, facts) if line.verdict == "look"]
    return answer("load", [*lines, *alarms, *_capacity(facts), *_drilled(facts)])


def _capacity(facts: Facts) -> Iterator[Line]:
    """Yield where the live release breaks, and when it will be asked for more than that."""
    # What a load test consists of needs numpy, which is loaded only where there is one.
    records = None if facts.load is None else import_quickly("penstock.project.capacity.records")
    measured = None if facts.load is None or records is None else records.load_of(facts.load.figures)
    if facts.load is None or measured is None:
        missing = "how much more it can take"
        yield unknown(missing, "measure it once", f"penstock load {facts.pipeline}{_slo(facts)}")
        return
    said = import_quickly("penstock.project.capacity.words").knee_said(measured).rstrip(".")
    knee, peak = measured.knee.rate_per_s, _peak(facts, measured.busiest_per_s)
    verdict: Verdict = "fine" if facts.load.passed else "look"
    figures = {"knee_per_s": knee, "busiest_per_s": peak, "workers": measured.workers, "at": facts.load.at}
    if knee is not None and peak:
        said += f"; the busiest asked {number(peak)}, {number(knee / peak)} times that fit"
        verdict = "look" if knee < peak * _TIGHT else verdict
        figures["headroom"] = knee / peak
    leads = f"penstock show {measured.release}"
    yield Line(verdict=verdict, said=f"{said} ({ago(facts.load.at, facts.now)})", leads_to=leads, figures=figures)
    if knee is not None:
        yield from _runs_out(facts, knee, measured.peak_factor)


def _runs_out(facts: Facts, knee_per_s: float, peak_factor: float | None) -> Iterator[Line]:
    traffic = import_quickly("penstock.project.capacity.traffic")
    days = [traffic.Day(day=day, requests=requests) for day, requests in _daily(facts)]
    found = traffic.forecast(days, peak_factor or traffic.PEAK, knee_per_s)
    if found is None:
        return
    is_near = found.at is not None and found.at <= facts.now.date() + MONTH
    yield Line(
        verdict="look" if is_near else "fine",
        said=found.said,
        leads_to=f"penstock load {facts.pipeline}{_slo(facts)}",
        figures={"runs_out": found.at, "earliest": found.earliest, "grows_per_day": found.grows_per_day},
    )


def _daily(facts: Facts) -> list[tuple[date, int]]:
    """Return the requests of whole days, from windows of the service, the oldest first."""
    found: dict[date, int] = {}
    for seen in facts.of("service:").values():
        for window in seen:
            found[window.start_at.date()] = found.get(window.start_at.date(), 0) + window.rows
    return sorted((day, rows) for day, rows in found.items() if day < facts.now.date())


def _peak(facts: Facts, measured_per_s: float | None) -> float | None:
    """Return the busiest that is known: a minute of the log when the load was measured, or a whole window since."""
    rates = [rate for seen in facts.of("service:").values() for rate in _rates(seen)]
    known = [*rates, *([] if measured_per_s is None else [measured_per_s])]
    return max(known, default=None)


def _drilled(facts: Facts) -> Iterator[Line]:
    if facts.drill is None:
        return
    drill = import_quickly("penstock.project.capacity.records").drill_of(facts.drill.figures)
    if drill is None:
        return
    said = import_quickly("penstock.project.capacity.words").drill_said(drill)
    yield Line(
        verdict="fine" if facts.drill.passed else "look",
        said=f"{said} ({ago(facts.drill.at, facts.now)})",
        leads_to=f"penstock drill {drill.release}{_slo(facts)}",
        figures={"at": facts.drill.at, "passed": facts.drill.passed},
    )


def _slo(facts: Facts) -> str:
    return "" if facts.policy.slo else " --slo p99=50ms"


def _service(serve: str, seen: Sequence[KeptWindow], facts: Facts) -> Iterator[Line]:
    rates = sorted(_rates(seen))
    if rates:
        usual, peak = rates[len(rates) // 2], rates[-1]
        said = f"{serve}: usually {number(usual)} requests a second, at most {number(peak)} in a window"
        said += f", over {counted(len(rates), 'window')}"
        yield Line(verdict="said", said=said, figures={"serve": serve, "usual_per_s": usual, "peak_per_s": peak})
    window = newest_with_rows(seen)
    if window is not None:
        yield _times(serve, window, facts)


def _rates(seen: Sequence[KeptWindow]) -> Iterator[float]:
    for window in seen:
        length_s = (window.end_at - window.start_at).total_seconds()
        if window.rows and length_s:
            yield window.rows / length_s


def _times(serve: str, window: KeptWindow, facts: Facts) -> Line:
    known = facts.times.get(window.monitor)
    promised = facts.policy.slo.get("p99_ms")
    when = ago(window.end_at, facts.now)
    if known is None:
        return unknown(f"times of {serve}", "the next window with answers has them")
    p50, p99 = known
    said = f"{serve}: p99 {number(p99)} ms, p50 {number(p50)} ms (window to {when})"
    verdict: Verdict = "fine"
    if promised is None:
        said += "; policy promises nothing: set slo = { p99_ms = ... }"
        verdict = "said"
    else:
        said += f"; promised {number(promised)} ms, {'KEPT' if p99 <= promised else 'NOT KEPT'}"
        verdict = "fine" if p99 <= promised else "look"
    figures = {"serve": serve, "p50_ms": p50, "p99_ms": p99, "promised_ms": promised, "requests": window.rows}
    return Line(verdict=verdict, said=said, leads_to=f"penstock predictions {facts.pipeline}", figures=figures)
