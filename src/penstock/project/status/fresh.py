"""Is it fresh? What came in, what was refused, how old data and model are, when the next retrain is due and why."""

from collections.abc import Iterator
from datetime import UTC, datetime

from penstock.core.records import DatasetVersion
from penstock.core.states import RunState
from penstock.monitoring.findings import Kind
from penstock.project.status.facts import Facts
from penstock.project.status.records import Answer, Due, Line, Verdict, Waits, answer, unknown
from penstock.project.status.seen import lines_of
from penstock.project.status.words import ago, at, counted, span
from penstock.store.ledger import recent
from penstock.store.ledger.causes import MARKS

_KINDS: frozenset[Kind] = frozenset({"stale_data", "stale_model", "broken_feed"})
# A tenth of an intake refused is more than the odd broken row.
_MOST_REFUSED = 0.1
# Looks for rows that may be missed before somebody is told that nobody looks.
_PATIENCE = 3
_MOST = 4


def fresh(facts: Facts, due: Due | None) -> Answer:
    """Return the answer; `due` is what a worker would decide now, where the caller asked it."""
    lines = [*_intake(facts), *_model(facts)]
    lines += lines_of(facts.of("freshness"), _KINDS, facts)
    lines += _next(facts, due)
    return answer("fresh", lines)


def _intake(facts: Facts) -> Iterator[Line]:
    if not facts.intakes:
        yield unknown("no rows were taken in", "run it once: penstock run", "penstock run")
    for found in facts.intakes:
        yield _dataset(found, facts)
    if facts.intakes and facts.release is not None:
        yield from _looks(facts)


def _dataset(found: recent.Intake, facts: Facts) -> Line:
    version = found.version
    came = counted(version.rows_added, "row")
    when = "" if version.taken_at is None else f" {ago(version.taken_at, facts.now)}"
    said = f"{version}: {counted(version.rows, 'row')}; {came} came{when}"
    newest = _newest_row(version)
    if newest is not None:
        said += f", the newest is of {at(newest)}"
    seen = version.rows_added + version.rows_quarantined
    verdict: Verdict = "fine"
    if version.rows_quarantined:
        worst = sorted(version.reasons.items(), key=lambda reason: -reason[1])[:2]
        why = "; ".join(f"{count:,} {reason}" for reason, count in worst)
        said += f"; {version.rows_quarantined:,} refused" + (f" ({why})" if why else "")
        verdict = "look" if version.rows_quarantined > _MOST_REFUSED * seen else "fine"
    figures = {
        "dataset": version.dataset,
        "version": version.version,
        "rows": version.rows,
        "came": version.rows_added,
        "refused": version.rows_quarantined,
        "taken_at": version.taken_at,
        "newest_row_at": newest,
    }
    run = "" if found.run_id is None else f"penstock show r{found.run_id}"
    return Line(verdict=verdict, said=said, leads_to=run, figures=figures)


def _newest_row(version: DatasetVersion) -> datetime | None:
    if not isinstance(version.watermark, str):
        return None
    try:
        found = datetime.fromisoformat(version.watermark)
    except ValueError:  # the cursor of a source, not a time
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _looks(facts: Facts) -> Iterator[Line]:
    """Yield whether rows are looked for, and whether that works."""
    intake = facts.intake
    if intake is not None and intake.state is RunState.FAILED:
        said = f"rows could not be taken in {ago(intake.started_at, facts.now)}"
        why = "" if intake.error is None else f": {intake.error.message}"
        yield Line(verdict="look", said=said + why, leads_to=f"penstock show r{intake.id}")
    newest = facts.runs[0].started_at if facts.runs else None
    if newest is None:
        return
    every_s, rest_s = facts.policy.intake_s, (facts.now - newest).total_seconds()
    if rest_s > _PATIENCE * every_s:
        said = f"nobody has looked for rows for {span(rest_s)}, and policy says every {facts.policy.intake}"
        yield Line(verdict="look", said=f"{said}; start the worker", leads_to="penstock up")


def _model(facts: Facts) -> Iterator[Line]:
    if facts.release is None or facts.manifest is None:
        yield unknown("there is no release", "a run whose checks pass makes one", "penstock run")
        return
    began = facts.release.made_at if facts.made_in is None else facts.made_in.started_at
    data = ", ".join(f"{name}@{dataset.version}" for name, dataset in sorted(facts.manifest.datasets.items()))
    said = f"{facts.release.ref} was trained {ago(began, facts.now)}" + (f" on {data}" if data else "")
    rows = sum(grown.rows for grown in facts.grown)
    since = max((grown.intakes for grown in facts.grown), default=0)
    said += f"; {counted(rows, 'row')} came since, in {counted(since, 'intake')}" if since else "; nothing came since"
    figures = {"trained_at": began, "rows_since": rows, "intakes_since": since}
    yield Line(verdict="fine", said=said, leads_to=f"penstock show {facts.release.ref}", figures=figures)


def _next(facts: Facts, due: Due | None) -> Iterator[Line]:
    """Yield when the next retrain is due, and why then."""
    if facts.quarantine is not None:
        since = ago(facts.quarantine.decided_at, facts.now)
        said = f"in quarantine since {since.removesuffix(' ago')}: {facts.quarantine.reason}"
        yield Line(verdict="look", said=said, leads_to=f"penstock runs {facts.pipeline} --state failed")
    for cause in (c for c in facts.causes if c.state == "running" and c.kind != "quarantine"):
        said = f"a retrain is under way for {cause.name}: {cause.reason}"
        yield Line(verdict="said", said=said, leads_to=f"penstock show r{cause.run_id}")
    yield from _last(facts)
    if due is None:
        return
    preview = "penstock tick --dry-run"
    for found in due.begins[:_MOST]:
        said = f"the worker's next look begins a retrain for {found.cause}: {found.said}"
        yield Line(verdict="said", said=said, leads_to=preview)
    for found in due.waits[:_MOST]:
        yield Line(verdict="said", said=_waiting(found), leads_to=preview)
    for found in due.skips[:1]:
        more = f" (and {len(due.skips) - 1} more)" if len(due.skips) > 1 else ""
        yield Line(verdict="said", said=f"{found.cause} would be skipped: {found.said}{more}", leads_to=preview)
    if due.worth:
        yield Line(verdict="said", said=f"a retrain now: {due.worth}", leads_to=preview, figures=due.figures)
    if not due.begins:
        yield _slot(facts, due)


def _last(facts: Facts) -> Iterator[Line]:
    """Yield what became of the newest reason to retrain, also where that was nothing."""
    ended = [c for c in facts.causes if c.kind not in MARKS and c.state in {"done", "failed", "skipped"}]
    for cause in ended[:1]:
        what = {"done": "was run", "failed": "FAILED", "skipped": "was skipped"}[cause.state]
        run = "" if cause.run_id is None else f"penstock show r{cause.run_id}"
        said = (
            f"last decided: {cause.name} {what} {ago(cause.finished_at or cause.decided_at, facts.now)}: {cause.reason}"
        )
        yield Line(
            verdict="look" if cause.state == "failed" else "said", said=said, leads_to=run, figures=cause.figures
        )


def _waiting(found: Waits) -> str:
    until = f" until {at(found.until)}" if found.until is not None else ""
    return f"{found.cause} waits{until}: {found.held or 'its turn has to come'} ({found.said})"


def _slot(facts: Facts, due: Due) -> Line:
    policy = facts.policy
    triggers = [*policy.retrain_on, *(f"a release of {name}" for name in policy.upstream)]
    also = f"on {', '.join(triggers)}" if triggers else ""
    if due.slot is not None:
        said = f"next retrain: {at(due.slot)}, slot of {policy.schedule!r} in {policy.timezone}"
        said += f"; before that {also}" if also else ""
        return Line(verdict="fine", said=said, leads_to="penstock tick --dry-run", figures={"next_at": due.slot})
    if also:
        least = f" (new_data: {counted(policy.new_data.rows, 'row')} at least)" if policy.new_data.rows > 1 else ""
        return Line(verdict="said", said=f"next retrain: {also}{least}; no schedule is set", figures={"next_at": None})
    return Line(verdict="look", said="nothing leads to a retrain: policy has neither a schedule nor a trigger")
