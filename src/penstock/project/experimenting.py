"""What a person does with experiments: plan, start, look, stop; verdicts go to the ledger, with evidence."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.refs import ReleaseRef, parse_name, parse_ref
from penstock.core.settings import ExperimentPolicy, parse_duration
from penstock.core.states import ExperimentState
from penstock.pipeline.graph import Graph, Node
from penstock.project.exposures import LOGGED, Span, seen_so_far, usual_of
from penstock.project.moving import find_release, person
from penstock.project.rollout.beside import ARM_UNFIT
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.experiments.asked import Asked, read_asked
from penstock.releases.experiments.decide import Decision, Look, Verdict, Wait, decide
from penstock.releases.experiments.plan import FALLBACK, MARGIN, Arm, Metric, Plan, Wishes, make_plan
from penstock.releases.experiments.words import plan_words, verdict_of
from penstock.store.ledger import events, evidence, experiments, releases, rollouts


class Planned(Record, frozen=True, kw_only=True):
    """A plan, and itself in words."""

    pipeline: str
    plan: Plan
    said: tuple[str, ...]


class Standing(Record, frozen=True, kw_only=True):
    """How an experiment stands.

    Attributes:
        said: In a sentence.
        verdict: What it decided; None while it waits.
        look: What was seen at this look; None while it is planned.
        days_left: Until it ends at the latest.
        is_dealt: False where another release is live than the one that was when it began: no key is dealt any more.
    """

    pipeline: str
    name: str
    state: ExperimentState
    started_at: datetime
    said: str
    plan: Plan
    verdict: Verdict | None = None
    look: Look | None = None
    days_left: float | None = None
    crossed: int = 0
    without_key: int = 0
    is_dealt: bool = True


def declared(pipeline: str, name: str | None, given: dict[str, Any], workspace: Workspace) -> Asked:
    """Return what is asked for: what `penstock.toml` declares by that name, with what is given in place of it.

    Args:
        pipeline: Whose.
        name: None for the only one that is declared.
        given: Fields of `ExperimentPolicy`.
        workspace: The project.

    Raises:
        InputError: No name is given and not one experiment is declared, or what is asked for cannot be read.
    """
    known = workspace.settings.policy(pipeline).experiments
    if name is None and len(known) != 1:
        there = f"[{pipeline}.experiments] in penstock.toml has {', '.join(known)}" if known else "give --name"
        raise InputError("It is not clear which experiment is meant.", hint=there)
    name = next(iter(known)) if name is None else name
    written = known.get(name, ExperimentPolicy())
    try:
        return read_asked(pipeline, name, msgspec.convert({**msgspec.to_builtins(written), **given}, ExperimentPolicy))
    except msgspec.ValidationError as error:
        raise InputError(f"Experiment {name!r}: {error}.", hint="see penstock experiment --help") from error


def plan_experiment(pipeline: str, asked: Asked, workspace: Workspace) -> Planned:
    """Return the plan for an experiment; nothing is kept.

    Raises:
        InputError: What is asked for cannot be planned, or the history says nothing about the outcome.
        NotFoundError: There is no such release or outcome.
    """
    name = parse_name(asked.name, what="name of an experiment")
    graph = _graph(pipeline, asked.arms, workspace)
    outcome = _outcome(graph, asked.outcome)
    span_s = parse_duration(asked.span)
    now = workspace.clock.now()
    guards = tuple(_metric(graph, guard, MARGIN if margin is None else margin) for guard, margin in asked.guards)
    span = Span(since=now - timedelta(days=asked.history_days), until=now, length_s=span_s)
    usual = usual_of(workspace, pipeline, span, outcome=_metric(graph, outcome.name), guards=guards)
    if not usual.new_keys:
        raise InputError(
            f"No request to {pipeline!r} in the last {asked.history_days:g} d has a key.",
            hint="serve it first; the key is the field that a dataset of the pipeline is keyed by",
        )
    shares = asked.shares or tuple(1 / len(asked.arms) for _ in asked.arms)
    if len(shares) != len(asked.arms):
        raise InputError(f"{len(asked.arms)} arms have {len(shares)} shares.", hint="give one share per arm")
    wishes = Wishes(
        name=name,
        arms=tuple(Arm(name=arm, share=share) for arm, share in zip(asked.arms, shares, strict=True)),
        outcome=_metric(graph, outcome.name),
        metrics=tuple(_metric(graph, metric) for metric in asked.metrics),
        guards=guards,
        effect=asked.effect,
        days=asked.days,
        alpha=asked.alpha,
        span_s=span_s,
        within_s=_within_s(outcome),
        value=_value(outcome),
        cost=workspace.settings.policy(pipeline).cost.prediction,
    )
    plan = make_plan(wishes, usual, salt=f"{pipeline}/{name}", dealt=_dealt(pipeline, asked.arms, workspace))
    return Planned(pipeline=pipeline, plan=plan, said=tuple(plan_words(plan)))


def start_experiment(pipeline: str, asked: Asked, workspace: Workspace) -> Planned:
    """Plan an experiment, keep the plan, and begin to split by it.

    Raises:
        InputError: It cannot be planned, its name is taken, or another is open.
        NotFoundError: There is no such release or outcome.
    """
    with workspace.ledger.read() as conn:
        rollout = rollouts.opened(conn, pipeline)
    if rollout is not None:
        raise InputError(
            f"The rollout of {rollout.ref} is under way.",
            hint=f"let it end first, or take it back: penstock rollback {pipeline}",
        )
    planned = plan_experiment(pipeline, asked, workspace)
    arms: list[dict[str, Any]] = msgspec.to_builtins(planned.plan.arms)
    with workspace.ledger.write() as conn:
        added = experiments.add(conn, pipeline, planned.plan.name, arms=arms, plan=msgspec.to_builtins(planned.plan))
        experiments.change(conn, added, ExperimentState.RUNNING)
        _tell(conn, f"{pipeline}/{planned.plan.name}", "started", {"arms": arms})
    return planned


def look_at_experiment(pipeline: str, name: str | None, workspace: Workspace) -> Standing:
    """Return how an experiment stands; one that can be decided now is, and its verdict is kept.

    Raises:
        NotFoundError: There is no such experiment.
    """
    found = _find(pipeline, name, workspace)
    plan = msgspec.convert(found.plan, Plan)
    if found.state is not ExperimentState.RUNNING:
        return _kept(found, plan)
    now = workspace.clock.now()
    seen = seen_so_far(workspace, pipeline, plan, started_at=found.started_at, now=now)
    unfit = _unfit_arm(found, workspace)
    decision = Decision(kind="stopped", winner=None, because=unfit) if unfit else decide(plan, seen, now)
    if isinstance(decision, Decision):
        return _conclude(found, plan, verdict_of(plan, decision, seen, now), workspace)
    standing = msgspec.structs.replace(_standing(found, plan, decision), is_dealt=_is_dealt(plan, pipeline, workspace))
    return msgspec.structs.replace(standing, crossed=seen.crossed, without_key=seen.without_key)


def look_at_running(pipeline: str, workspace: Workspace) -> Standing | None:
    """Return how the experiment that is under way stands, decided where that can be; None without one."""
    with workspace.ledger.read() as conn:
        found = experiments.open_of(conn, pipeline)
    return None if found is None else look_at_experiment(pipeline, found.name, workspace)


def stop_experiment(pipeline: str, name: str | None, workspace: Workspace, *, reason: str = "") -> Standing:
    """End an experiment before it decides; what was seen by then is kept.

    Raises:
        NotFoundError: There is no such experiment.
        InputError: It has ended already.
    """
    found = _find(pipeline, name, workspace)
    if found.state not in {ExperimentState.PLANNED, ExperimentState.RUNNING}:
        raise InputError(f"Experiment {found.name!r} is {found.state.value} already.", hint="there is nothing to stop")
    plan = msgspec.convert(found.plan, Plan)
    now = workspace.clock.now()
    seen = seen_so_far(workspace, pipeline, plan, started_at=found.started_at, now=now)
    decision = Decision(kind="stopped", winner=None, because=reason)
    return _conclude(found, plan, verdict_of(plan, decision, seen, now), workspace)


def list_experiments(pipeline: str, workspace: Workspace) -> list[Standing]:
    """Return the experiments of a pipeline as they are recorded, newest first; nothing is looked at anew."""
    with workspace.ledger.read() as conn:
        found = experiments.of_pipeline(conn, pipeline)
    return [_kept(one, msgspec.convert(one.plan, Plan)) for one in found]


def _conclude(found: experiments.Experiment, plan: Plan, verdict: Verdict, workspace: Workspace) -> Standing:
    after = ExperimentState.STOPPED if verdict.kind == "stopped" else ExperimentState.DECIDED
    said: dict[str, Any] = msgspec.to_builtins(verdict)
    with workspace.ledger.write() as conn:
        current = experiments.get(conn, found.pipeline, found.name)
        if current.state is not found.state:  # somebody else looked at the same moment
            return _kept(current, plan)
        done = experiments.change(conn, current, after, verdict=said)
        for arm in plan.arms:
            if arm.name != FALLBACK:
                evidence.add(conn, _evidence(found, plan, verdict, arm.name))
        _tell(conn, f"{found.pipeline}/{found.name}", after.value, {"winner": verdict.winner, "said": verdict.said})
    return _kept(done, plan)


def _evidence(found: experiments.Experiment, plan: Plan, verdict: Verdict, arm: str) -> evidence.NewEvidence:
    passed = None if verdict.winner is None else arm == verdict.winner
    figures = {
        "experiment": found.name,
        "outcome": plan.outcome.name,
        "control": plan.control.name,
        "kind": verdict.kind,
        "winner": verdict.winner,
        "said": verdict.said,
        "units": verdict.look.units.get(arm, 0),
        "days": verdict.look.days,
        "effects": [e for e in msgspec.to_builtins(verdict.look.effects) if arm in {e["arm"], e["over"]}],
        "per_month": verdict.per_month,
    }
    by = f"experiment {found.name}"
    return evidence.NewEvidence(
        pipeline=found.pipeline, subject=arm, kind="verdict", by=by, passed=passed, figures=figures
    )


def _kept(found: experiments.Experiment, plan: Plan) -> Standing:
    if found.verdict is None:
        said = f"{found.state.value} since {found.started_at:%Y-%m-%d %H:%M} UTC"
        return _bare(found, plan, said)
    verdict = msgspec.convert(found.verdict, Verdict)
    return msgspec.structs.replace(_bare(found, plan, verdict.said), verdict=verdict, look=verdict.look)


def _standing(found: experiments.Experiment, plan: Plan, wait: Wait) -> Standing:
    return msgspec.structs.replace(_bare(found, plan, wait.because), look=wait.look, days_left=wait.days_left)


def _bare(found: experiments.Experiment, plan: Plan, said: str) -> Standing:
    return Standing(
        pipeline=found.pipeline,
        name=found.name,
        state=found.state,
        started_at=found.started_at,
        said=said,
        plan=plan,
    )


def _find(pipeline: str, name: str | None, workspace: Workspace) -> experiments.Experiment:
    with workspace.ledger.read() as conn:
        if name is not None:
            return experiments.get(conn, pipeline, name)
        known = experiments.of_pipeline(conn, pipeline)
    if not known:
        raise NotFoundError(
            f"Pipeline {pipeline!r} has no experiment.", hint="begin one: penstock experiment start --help"
        )
    return known[0]


def _tell(conn: sa.Connection, target: str, verb: str, details: dict[str, Any]) -> None:
    events.append(conn, actor=person(), action=f"experiment.{verb}", target=target, details=details)


def _graph(pipeline: str, arms: Sequence[str], workspace: Workspace) -> Graph:
    """Return the graph of the control, after all arms are known to be there."""
    graphs: list[Graph] = []
    for arm in arms:
        if arm == FALLBACK:
            continue
        ref = parse_ref(arm)
        if not isinstance(ref, ReleaseRef) or ref.pipeline != pipeline:
            raise InputError(
                f"{arm!r} is no release of {pipeline!r}.", hint=f"write an arm as {pipeline}@3 or {FALLBACK}"
            )
        with workspace.ledger.read() as conn:
            found = releases.get(conn, ref)
        graphs.append(read_manifest(found.manifest_digest, workspace).graph)
    if not graphs:
        live = find_release(pipeline, workspace)
        graphs.append(read_manifest(live.manifest_digest, workspace).graph)
    if FALLBACK in arms:
        _refuse_without_fallback(graphs)
    return graphs[0]


def _refuse_without_fallback(graphs: Sequence[Graph]) -> None:
    for graph in graphs:
        fallbacks = [node for node in graph.nodes if node.role == "fallback"]
        for node in graph.nodes:
            if node.role == "serve" and not any(node.name in one.options.get("serves", ()) for one in fallbacks):
                raise NotFoundError(
                    f"Function {node.name!r} of {graph.pipeline!r} has no fallback, so it cannot be an arm.",
                    hint="declare one that takes the same fields, with @pipeline.fallback(...)",
                )


def _dealt(pipeline: str, arms: Sequence[str], workspace: Workspace) -> tuple[str, ...]:
    """Return the arms as `penstock serve` deals keys to them; empty where it cannot."""
    with workspace.ledger.read() as conn:
        live = releases.live(conn, pipeline)
    others = [arm for arm in arms if live is None or arm != str(live.ref)]
    if live is None or len(others) != 1 or len(arms) != 2:
        return ()
    return (others[0], str(live.ref))


def _unfit_arm(found: experiments.Experiment, workspace: Workspace) -> str:
    """Return what a server said of an arm that it cannot serve, all of whose keys get the live release; "" for none."""
    with workspace.ledger.read() as conn:
        told = events.page(conn, target=f"{found.pipeline}/{found.name}")
    return next((str(event.details["reason"]) for event in told if event.action == ARM_UNFIT), "")


def _is_dealt(plan: Plan, pipeline: str, workspace: Workspace) -> bool:
    return not plan.dealt or _dealt(pipeline, [arm.name for arm in plan.arms], workspace) == plan.dealt


def _outcome(graph: Graph, name: str | None) -> Node:
    known = [node for node in graph.nodes if node.role == "outcome"]
    found = [node for node in known if name in {None, node.name}]
    if len(found) == 1:
        return found[0]
    names = ", ".join(node.name for node in known)
    if not known:
        hint = "declare @pipeline.outcome(within=..., value=...), then run"
        raise NotFoundError(f"Pipeline {graph.pipeline!r} has no outcome.", hint=hint)
    if name is None:
        raise InputError("It is not clear which outcome decides.", hint=f"give --outcome, one of {names}")
    raise NotFoundError(f"Pipeline {graph.pipeline!r} has no outcome {name!r}.", hint=f"it has {names}")


def _metric(graph: Graph, name: str, margin: float | None = None) -> Metric:
    if name in LOGGED:
        return Metric(name=name, higher_is_better=False, margin=margin)
    node = _outcome(graph, name)
    is_good = (_value(node) or 0.0) >= 0
    return Metric(name=name, higher_is_better=is_good, waits=node.options.get("within") is not None, margin=margin)


def _within_s(node: Node) -> float:
    within = node.options.get("within")
    return parse_duration(within) if isinstance(within, str) else 0.0


def _value(node: Node) -> float | None:
    value = node.options.get("value")
    return float(value) if isinstance(value, int | float) else None
