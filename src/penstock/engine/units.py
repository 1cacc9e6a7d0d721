"""Turns a node whose inputs are there into units of work with cache keys. Pure: reads a run, changes nothing."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.core.digest import digest_value
from penstock.core.records import Artifact, DatasetVersion
from penstock.engine.platform_nodes import all_needed_by, task_of
from penstock.engine.protocol import Given, Kind
from penstock.engine.state import Job, Kept, NodeRun, RunView, Unit
from penstock.pipeline import keys
from penstock.pipeline.graph import Edge, Form, Node, rows_form
from penstock.pipeline.keys import KeyParts, node_key

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CHAMPION = "champion"


def needs(node: Node, job: Job) -> set[str]:
    """Return the nodes that must be done before `node` can be expanded."""
    found = {edge.node for edge in node.edges if edge.node} | set(node.after)
    words = {edge.source for edge in node.edges if edge.form == "word"}
    if "now" in words and job.now is None and node.role != "dataset":
        found |= {n.name for n in job.graph.nodes if n.role == "dataset" and n.options.get("time")}
    if node.role == "evaluate":
        found |= {n.name for n in job.graph.nodes if n.role in {"model", "baseline"}}
    return found


def logical_now(view: RunView) -> datetime:
    """Return the logical time: the caller's; else the newest time in the data; else the day the run began.

    In UTC, and with a time zone exactly if the time columns of the data have one, so that both can be compared.
    """
    times = [
        datetime.fromisoformat(run.dataset.watermark)
        for run in view.runs.values()
        if run.dataset is not None and run.node.options.get("time") and isinstance(run.dataset.watermark, str)
    ]
    midnight = view.job.started_at.replace(hour=0, minute=0, second=0, microsecond=0)
    now = view.job.now or max(times, key=_in_utc, default=midnight)
    has_zone = not times or any(t.tzinfo is not None for t in times)
    return _in_utc(now) if has_zone else _in_utc(now).replace(tzinfo=None)


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def needs_split(node: Node, view: RunView) -> tuple[Edge, ...]:
    """Return the frames to cut by key before this fan-out can start; empty when there is nothing to cut."""
    if node.each is None or view.runs[node.name].split is not None:
        return ()
    return tuple(e for e in node.edges if e.node and not _comes_in_parts(e, node, view) and _has_column(e, node, view))


def _comes_in_parts(edge: Edge, node: Node, view: RunView) -> bool:
    return view.runs[edge.node].node.each is not None and view.runs[edge.node].node.each == node.each


def _has_column(edge: Edge, node: Node, view: RunView) -> bool:
    run = view.runs[edge.node]
    if run.dataset is not None:
        return any(name == node.each for name, _ in run.dataset.schema)
    columns = run.output(edge.source).meta.get("columns", [])
    return any(column[0] == node.each for column in columns)


def split_unit(node: Node, edges: tuple[Edge, ...], view: RunView) -> Unit:
    """Return the unit that cuts frames to one artifact per key."""
    given = tuple(given_for(edge, "", view) for edge in edges)
    return _unit((node, "#split"), "split", given, view, extra={"column": node.each})


def units_of(node: Node, view: RunView) -> list[Unit]:
    """Return the units of a node whose needs are done (and whose frames are split)."""
    kind: Kind = task_of(node)  # type: ignore[assignment]  # the option holds a Kind as text
    if node.role == "evaluate":
        return [_evaluation_unit(node, model, view) for model in _models(view.job)]
    if node.each is not None:
        keys = _keys(node, view)
        return [_part_unit(node, part, key, view) for part, key in keys.items()]
    given = tuple(given_for(edge, "", view) for edge in node.edges)
    extra = dict(node.options) if kind not in {"call", "check", "intake"} else {}
    if kind == "answer":
        given, extra["sources"] = (*given, *_samples(node, view)), len(given)
    return [_unit((node, ""), kind, given, view, extra=extra)]


def roles_of(job: Job) -> dict[str, Any]:
    """Return which models are candidates, which baselines, and whether a champion takes part."""
    graph = job.graph
    return {
        "candidates": [n.name for n in graph.nodes if n.role == "model"],
        "baselines": [n.name for n in graph.nodes if n.role == "baseline"],
        "champion": CHAMPION if _champion_model(job) else None,
    }


def _models(job: Job) -> list[str]:
    names = [n.name for n in job.graph.nodes if n.role in {"model", "baseline"}]
    return [*names, CHAMPION] if _champion_model(job) else names


def _champion_model(job: Job) -> str | None:
    if job.champion is None:
        return None
    return next((n.name for n in job.graph.nodes if n.role == "model" and n.name in job.champion.models), None)


def _evaluation_unit(node: Node, model: str, view: RunView) -> Unit:
    given = tuple(
        _model_given(edge, model, view) if edge.source == "model" and edge.form == "word" else
        given_for(edge, "", view)
        for edge in node.edges
    )  # fmt: skip
    return _unit((node, model), "call", given, view)


def _model_given(edge: Edge, model: str, view: RunView) -> Given:
    champion = _champion_model(view.job)
    if model == CHAMPION and champion is not None and view.job.champion is not None:
        return Given(argument=edge.argument, form="value", released={champion: view.job.champion.models[champion]})
    run = view.runs[model]
    if run.node.each is not None:
        return _all_parts(edge, run, run.node.outputs[0], "parts")
    return Given(argument=edge.argument, form="value", artifact=run.output(run.node.outputs[0]))


def _keys(node: Node, view: RunView) -> dict[str, Any]:
    """Return the keys of a fan-out that every one of its cut inputs has, as text and as they are."""
    own = view.runs[node.name].split
    sets: list[dict[str, Any]] = [own.facts["keys"]] if own is not None else []
    in_parts = [e for e in node.edges if e.node and _comes_in_parts(e, node, view)]
    sets += [_keys(view.runs[e.node].node, view) for e in in_parts]
    common = set.intersection(*(set(s) for s in sets)) if sets else set()
    typed = {k: v for s in reversed(sets) for k, v in s.items()}
    return {part: typed[part] for part in sorted(common)}


def _part_unit(node: Node, part: str, key: Any, view: RunView) -> Unit:
    split = view.runs[node.name].split
    given: list[Given] = []
    for edge in node.edges:
        if edge.form == "key":
            given.append(Given(argument=edge.argument, form="key", value=key))
        elif split is not None and edge.argument in split.parts.get(part, {}):
            artifact = split.parts[part][edge.argument]
            given.append(Given(argument=edge.argument, form=edge.form, artifact=artifact))
        else:
            given.append(given_for(edge, part, view))
    return _unit((node, part), "call", tuple(given), view)


def given_for(edge: Edge, part: str, view: RunView) -> Given:
    """Return what an edge delivers."""
    if edge.form == "word":
        return _word(edge, view)
    run = view.runs[edge.node]
    if run.dataset is not None:
        return Given(argument=edge.argument, form=edge.form, dataset=run.dataset)
    if run.node.role == "evaluate":
        rows = {model: kept.outputs[edge.source] for model, kept in run.kept.items()}
        return Given(
            argument=edge.argument,
            form="evaluation",
            parts=rows,
            value={"options": dict(run.node.options), "roles": roles_of(view.job)},
        )
    if run.node.each is not None:
        if part:
            return Given(argument=edge.argument, form=edge.form, artifact=run.kept[part].outputs[edge.source])
        return _all_parts(edge, run, edge.source, edge.form)
    return Given(argument=edge.argument, form=edge.form, artifact=run.output(edge.source))


def _all_parts(edge: Edge, run: NodeRun, output: str, form: Any) -> Given:
    parts = {part: kept.outputs[output] for part, kept in sorted(run.kept.items()) if part != "#split"}
    return Given(argument=edge.argument, form=form, parts=parts)


def _word(edge: Edge, view: RunView) -> Given:
    match edge.source:
        case "now":
            return Given(argument=edge.argument, form="word", value=logical_now(view).isoformat())
        case "champion":
            models = view.job.champion.models if view.job.champion is not None else None
            return Given(argument=edge.argument, form="word", released=models or None)
        case _:
            return Given(argument=edge.argument, form="word")


def _samples(node: Node, view: RunView) -> tuple[Given, ...]:
    """Return frames whose columns are named like the request's required fields, nearest to the function first.

    Only frames the function rests on: what else has run by now depends on timing, and the cache key must not.
    """
    if node.options["examples"]:
        return ()
    if any(rows_form(f["type"]) for f in node.options["fields"]):
        return _sampled_rows(node, view)
    wanted = {f["name"] for f in node.options["fields"] if f["required"]}
    needed = all_needed_by(view.job.graph, node.name)
    found: list[Given] = []
    for run in reversed([r for name, r in view.runs.items() if name in needed]):
        for name, given, columns in _frames(run):
            if wanted & columns:
                found.append(Given(argument=f"sample:{name}", form="lazy", artifact=given[0], dataset=given[1]))
                wanted -= columns
    return tuple(found)


def _sampled_rows(node: Node, view: RunView) -> tuple[Given, ...]:
    """Return what the model under a function of rows was fitted on: the first frame or 2-D array given to it."""
    graph = view.job.graph
    ranks = {"model": 0, "baseline": 1, "step": 2}
    known = {n.name: n for n in graph.nodes}
    sources = [known[edge.node] for edge in node.edges if edge.node in known]
    for source in sorted((n for n in sources if n.role in ranks), key=lambda n: ranks[n.role]):
        for edge in source.edges:
            run = view.runs.get(edge.node)
            if run is None:
                continue
            if run.dataset is not None:
                return (Given(argument="sample:rows", form="lazy", dataset=run.dataset),)
            artifact = run.output(edge.source)
            if artifact.rows and (artifact.meta.get("columns") or len(artifact.meta.get("shape", ())) == 2):
                form: Form = "lazy" if artifact.meta.get("columns") else "value"
                return (Given(argument="sample:rows", form=form, artifact=artifact),)
    return ()


def _frames(run: NodeRun) -> list[tuple[str, tuple[Artifact | None, DatasetVersion | None], set[str]]]:
    if run.dataset is not None:
        return [(run.node.name, (None, run.dataset), {name for name, _ in run.dataset.schema})]
    # In declared order and by the first part's name: a fresh result and a kept one list theirs differently.
    kept = run.kept[min(run.kept)] if run.kept else Kept()
    made = [(name, kept.outputs[name]) for name in run.node.outputs if name in kept.outputs]
    return [
        (name, (artifact, None), {c[0] for c in artifact.meta.get("columns", [])})
        for name, artifact in made
        if artifact.rows
    ]


def _unit(
    work: tuple[Node, str],
    kind: Kind,
    given: tuple[Given, ...],
    view: RunView,
    *,
    extra: dict[str, Any] | None = None,
) -> Unit:
    (node, part), extra = work, extra or {}
    is_called = kind in {"call", "intake", "peek", "check"}
    params = view.job.params.get(node.name, {}) if is_called else {}
    parts = KeyParts(
        node=f"{view.job.graph.pipeline}/{node.name}",
        role=f"{node.role}:{kind}:{part}",
        code=node.code,
        params=params,
        inputs={g.argument: _input(g, view) for g in given if g.form != "word"},
        words={g.argument: _word_given(g, view.job) for g in given if g.form == "word" and g.argument != "since"},
        options={**extra, "outputs": list(node.outputs), "forms": {g.argument: g.form for g in given}},
        python=PYTHON,
    )
    return Unit(node, part, kind, given, parts, node_key(parts), params, extra)


def _input(given: Given, view: RunView) -> keys.Given:
    dataset = given.dataset
    if dataset is None:
        return keys.Given(digest=_digest(given), label=given.argument)
    previous = view.runs[dataset.dataset].previous if dataset.dataset in view.runs else None
    change = ""
    if previous is not None and previous.digest != dataset.digest:
        rows = "row" if dataset.rows_added == 1 else "rows"
        change = f"{dataset.dataset} has {dataset.rows_added:,} new {rows} since {previous}"
    return keys.Given(digest=dataset.digest, label=str(dataset), change=change)


def _digest(given: Given) -> str:
    if given.artifact is not None:
        return given.artifact.digest
    if given.dataset is not None:
        return given.dataset.digest
    if given.parts is not None:
        return digest_value({"value": given.value, "parts": {k: a.digest for k, a in given.parts.items()}})
    if given.released is not None:
        return digest_value({k: [m.artifact.digest, Path(m.code_dir).name] for k, m in given.released.items()})
    return digest_value(given.value)


def _word_given(given: Given, job: Job) -> keys.Given:
    if given.argument == "champion":
        champion = job.champion
        label = champion.release if champion is not None else "none"
        return keys.Given(digest=champion.hash if champion is not None else "", label=label)
    return keys.Given(digest=digest_value(given.value), label=str(given.value))
