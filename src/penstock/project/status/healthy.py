"""Is it healthy? What monitors saw last, open alerts, errors, numeric health, and whether the alarm budget is kept."""

from collections.abc import Iterator

from penstock.monitoring.findings import Kind
from penstock.project.status.facts import Facts
from penstock.project.status.records import Answer, Line, Verdict, answer, unknown
from penstock.project.status.seen import lines_of
from penstock.project.status.words import ago, counted, number
from penstock.store.ledger.alerts import Alert

# Quality, times and age have questions of their own.
_KINDS: frozenset[Kind] = frozenset({
    "schema",
    "missing",
    "range",
    "new_category",
    "data_drift",
    "prediction_drift",
    "feature_equality",
    "errors",
    "numeric",
})  # fmt: skip
_DRIFT = frozenset({"drift", "answers"})
_MOST = 5


def healthy(facts: Facts) -> Answer:
    """Return the answer."""
    return answer("healthy", [*_alerts(facts), *_monitors(facts), *_budget(facts)])


def _alerts(facts: Facts) -> Iterator[Line]:
    for alert in facts.alerts[:_MOST]:
        yield _alert(alert, facts)
    if len(facts.alerts) > _MOST:
        more = counted(len(facts.alerts) - _MOST, "more alert")
        yield Line(verdict="look", said=f"{more} open", leads_to=f"penstock alerts {facts.pipeline}")
    if facts.dead:
        said = f"{counted(facts.dead, 'message')} about alerts could not be sent to anybody"
        yield Line(verdict="look", said=said, leads_to="penstock alerts --dead")


def _alert(alert: Alert, facts: Facts) -> Line:
    worst = alert.finding.get("worst")
    said = str(worst.get("said", "")) if isinstance(worst, dict) else str(alert.finding.get("said", ""))
    head = f"{alert.ref} {alert.kind} of {alert.subject}, open since {ago(alert.raised_at, facts.now)}"
    figures = {"alert": alert.ref, "kind": alert.kind, "subject": alert.subject, "raised_at": alert.raised_at}
    said = f"{head.removesuffix(' ago')}: {said}" if said else head
    return Line(verdict="look", said=said, leads_to=f"penstock why {alert.ref}", figures=figures)


def _monitors(facts: Facts) -> Iterator[Line]:
    if not facts.windows:
        step = "the worker looks at each window once it has ended"
        yield unknown("what monitors see", step, "penstock up")
        return
    ends = {name: seen[0].end_at for name, seen in facts.windows.items() if seen}
    newest = max(ends.values())
    alarms = [name for name, seen in facts.windows.items() if seen and seen[0].is_alarm]
    quiet = len(ends) - len(alarms)
    said = (
        f"{quiet} of {counted(len(ends), 'monitor')} quiet in the newest window, which ended {ago(newest, facts.now)}"
    )
    figures = {"monitors": dict(sorted(ends.items())), "alarms": alarms}
    verdict: Verdict = "fine" if not alarms else "said"  # what alarms has a line of its own
    yield Line(verdict=verdict, said=said, figures=figures)
    late = (facts.now - newest).total_seconds()
    if late > 3 * facts.policy.window_s:
        said = f"no window was looked at since {ago(newest, facts.now).removesuffix(' ago')}; start the worker"
        yield Line(verdict="look", said=said, leads_to="penstock up")
    for line in lines_of(facts.windows, _KINDS, facts, most=50):
        if line.verdict == "look":
            yield line


def _budget(facts: Facts) -> Iterator[Line]:
    real = sum(count for count, _ in facts.judged.values())
    noise = sum(count for _, count in facts.judged.values())
    most = facts.policy.alarm_budget * 100
    allowed = f"{number(most)} false drift {'alarm' if most == 1 else 'alarms'} per 100 windows"
    if not real + noise:
        step = "say of each alert whether it was one: penstock dispose ALERT --real|--noise"
        yield unknown(f"whether the alarm budget of {allowed} is kept", step)
        return
    drift_noise = sum(count for (kind, _), (_, count) in facts.judged.items() if kind in _DRIFT)
    figures = {"real": real, "noise": noise, "drift_noise": drift_noise, "precision": real / (real + noise)}
    said = f"of {counted(real + noise, 'alert')} that somebody judged {real} were real ({real / (real + noise):.0%})"
    seen = max((len(w) for name, w in facts.windows.items() if name.startswith(("data:", "inputs:"))), default=0)
    said += f"; the budget is {allowed}" if seen else ""
    yield Line(verdict="said", said=said, leads_to="penstock alerts --all", figures=figures)
