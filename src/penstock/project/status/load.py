"""Will it hold the load? Requests as they came, times beside what policy promises, and what nobody has measured."""

from collections.abc import Iterator, Sequence

from penstock.monitoring.findings import Kind
from penstock.project.status.facts import Facts
from penstock.project.status.records import Answer, Line, Verdict, answer, unknown
from penstock.project.status.seen import lines_of, newest_with_rows
from penstock.project.status.words import ago, counted, number
from penstock.store.ledger.windows import KeptWindow

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
    missing = "how much more it can take"
    step = "ask a server of this release with a load tool (wrk, k6) until p99 breaks"
    return answer("load", [*lines, *alarms, unknown(missing, step, f"penstock serve {facts.pipeline} --port 0")])


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
