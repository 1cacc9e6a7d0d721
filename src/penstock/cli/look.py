"""`penstock runs`, `show` and `releases`: what was done, with its evidence."""

import sys
from collections.abc import Iterator
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.evidence import print_checks, print_failures, print_kept, print_quality
from penstock.cli.options import HERE, AsJson, Project
from penstock.cli.tables import (
    against_usual,
    first_line,
    grid,
    indented,
    open_console,
    seconds,
    size,
    state_text,
    when,
    why,
    write_json,
)
from penstock.core.clock import Clock
from penstock.core.errors import NotFoundError
from penstock.core.states import RunState
from penstock.project.showing import (
    NodeShown,
    ReleaseShown,
    RunShown,
    Try,
    list_releases,
    list_runs,
    newest_run,
    show_lock,
    show_run,
)
from penstock.project.showing import show as find_shown
from penstock.project.workspace import open_workspace
from penstock.releases.replay.records import ReplayShown

StateName = Literal["running", "succeeded", "failed", "cancelled", "lost"]
Filter = Annotated[str | None, typer.Argument(metavar="[PIPELINE]", help="Only those of this pipeline.")]


def runs(
    pipeline: Filter = None,
    state: Annotated[StateName | None, typer.Option("--state", help="Only runs in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = 20,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """List the newest runs: how each ended, how long it took, and the release that stood after it.

    Example:
        penstock runs
        penstock runs movies --state failed
    """
    wanted = None if state is None else RunState(state)
    with open_workspace(project, to_look=True) as workspace:
        found = list_runs(workspace, pipeline=pipeline, state=wanted, limit=limit)
        now = workspace.clock.now()
    if as_json:
        write_json(found)
        return 0
    console = open_console()
    if not found:
        console.print("No runs. Make one: penstock run")
        return 0
    table = grid("whole", "whole", "whole", "whole", "right", "whole", "fold")
    for line in found:
        told = (against_usual(line.factor, line.usual_cpu_s), first_line(line.said))
        said = Text("; ".join(text for text in told if text), style="dim")
        state_of = state_text(line.state, console)
        table.add_row(
            line.run,
            state_of,
            line.pipeline,
            when(line.started_at, now),
            seconds(line.duration_s),
            line.release or "",
            said,
        )
    console.print(table)
    return 0


def releases(pipeline: Filter = None, as_json: AsJson = False, project: Project = HERE) -> int:
    """List the releases, newest first, and which of them is live.

    Example:
        penstock releases
        penstock releases movies --json
    """
    with open_workspace(project, to_look=True) as workspace:
        found = list_releases(workspace, pipeline=pipeline)
        now = workspace.clock.now()
    if as_json:
        write_json(found)
        return 0
    console = open_console()
    if not found:
        console.print("No releases. A run whose checks all pass makes one: penstock run")
        return 0
    table = grid("whole", "whole", "whole", "whole", "whole")
    for line in found:
        live = Text("live", style="bold green") if line.is_live else Text("")
        table.add_row(
            line.release, live, when(line.made_at, now), line.run or "imported", Text(line.hash[:12], style="dim")
        )
    console.print(table)
    return 0


def show(
    reference: Annotated[
        str | None, typer.Argument(metavar="[RUN|RELEASE]", help="As r41 or movies@3; the newest run when left out.")
    ] = None,
    log: Annotated[str | None, typer.Option("--log", metavar="NODE", help="Show what this node printed.")] = None,
    lock: Annotated[bool, typer.Option("--lock", help="Print a release's environment, for pip install -r.")] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Show a run or a release: nodes with time and memory, failures, checks with their evidence, quality.

    Example:
        penstock show
        penstock show r41 --log recommender
        penstock show movies@3 --json
        penstock show movies@3 --lock > requirements.lock
    """
    with open_workspace(project, to_look=True) as workspace:
        if lock:
            sys.stdout.write(show_lock(reference or "", workspace))
            return 0
        if reference is None:
            found: RunShown | ReleaseShown = show_run(newest_run(workspace), workspace)
        else:
            found = find_shown(reference, workspace)
        clock = workspace.clock
    if log is not None:
        _show_log(found, log, as_json=as_json)
    elif as_json:
        write_json(found)
    elif isinstance(found, ReleaseShown):
        _print_release(found, clock)
    else:
        _print_run(open_console(), found, clock)
    return 0


def _show_log(found: RunShown | ReleaseShown, node: str, *, as_json: bool) -> None:
    run = found.made_in if isinstance(found, ReleaseShown) else found
    tries = [t for t in run.tries if t.node == node] if run is not None else []
    if not tries:
        known = sorted({t.node for t in run.tries}) if run is not None else []
        hint = f"nodes that ran: {', '.join(known)}" if known else "every result was reused; look at an earlier run"
        raise NotFoundError(f"Node {node!r} did not run here, so it printed nothing.", hint=hint)
    if as_json:
        write_json(tries)
        return
    for one in tries:
        if len(tries) > 1:
            print(f"--- {_name(one)}, attempt {one.number} ({one.state})")
        print(one.log, end="" if one.log.endswith("\n") or not one.log else "\n")


def _print_run(console: Console, run: RunShown, clock: Clock) -> None:
    state = state_text(run.state, console)
    state.rstrip()
    took = f"took {seconds(run.duration_s)}" if run.duration_s is not None else "not over"
    compared = against_usual(run.factor, run.usual_cpu_s)
    took = f"{took}, {compared}" if compared else took
    about = f"  {run.pipeline}, {when(run.started_at, clock.now())}, {took}, {run.cause}"
    console.print(
        Text(f"{run.run}  ", style="bold").append_text(state).append(about, style="not bold default"), soft_wrap=True
    )
    if run.now is not None:
        console.print(f"  now = {run.now}")
    given = [f"{node}.{name} = {value!r}" for node, params in run.params.items() for name, value in params.items()]
    if given:
        console.print(f"  {', '.join(given)}", style="dim")
    console.print()
    _print_nodes(console, run.nodes)
    for name, one in run.answers.items():
        compared = against_usual(one.factor, one.usual_cpu_s)
        took = f"  an answer of {name}: {one.cpu_s * 1000:.3g} ms CPU, {size(one.peak_bytes)}"
        console.print(f"{took}, {compared}" if compared else took, style="dim")
    print_quality(console, run.quality)
    print_checks(console, run.checks, is_long=True)
    failed = [t for t in run.tries if t.failure is not None]
    print_failures(console, {f"{_name(t)} {t.number}": t.failure for t in failed if t.failure is not None})
    if run.error is not None and not failed and run.error.kind != "check":
        print_failures(console, {"run": run.error})
    console.print()
    stands = f"Release: {run.release}" if run.release is not None else "No release."
    console.print(stands, style="bold")


def _print_nodes(console: Console, nodes: tuple[NodeShown, ...]) -> None:
    table = grid("left", "whole", "left", "right", "right", "right", "fold")
    heads = ("", "", "", "wall", "cpu", "memory", "")
    table.add_row(*(Text(head, style="dim") for head in heads))
    for node in nodes:
        if node.is_platform and node.state in {"succeeded", "reused"}:
            continue
        made = ", ".join(f"{name}: {what}" if name != node.node else what for name, what in node.made.items())
        parts = f"{node.parts} parts" if node.parts > 1 and node.role != "evaluate" else ""
        compared = against_usual(node.factor, node.usual_cpu_s)
        about = "; ".join(text for text in (made, parts, compared, why(node.state, node.reason)) if text)
        table.add_row(
            "",
            state_text(node.state, console),
            node.node,
            seconds(node.wall_s),
            seconds(node.cpu_s),
            size(node.peak_bytes),
            Text(about, style="dim"),
        )
    console.print(table)


def _stand_in_text(found: ReleaseShown) -> Iterator[str]:
    for function, proofs in found.stand_ins.items():
        for argument, proven in proofs.items():
            model = f"{argument} of {function}"
            if proven.kind == "original":
                yield f"{model} itself ({', '.join(f'not {kind}: {why}' for kind, why in proven.refused.items())})"
            else:
                told = f"equal on {proven.rows:,} rows within {proven.relative:g}, at most {proven.difference:g} apart"
                yield f"{model} {proven.kind} ({told})"


def _print_release(found: ReleaseShown, clock: Clock) -> None:
    console = open_console()
    live = Text("live", style="bold green") if found.is_live else Text("not live", style="dim")
    heading = Text(f"{found.release}  ", style="bold").append_text(live)
    made = f"  made {when(found.made_at, clock.now())} by {found.run or 'import'}, hash {found.hash[:12]}"
    console.print(heading.append(made, style="not bold default"), soft_wrap=True)
    if found.goal:
        console.print(f"  {found.goal}")
    table = grid("left", "whole", "fold")
    rows = {
        "data": ", ".join(found.datasets.values()),
        "code": ", ".join(found.files),
        "environment": f"Python {found.python}, {found.packages} packages",
        "now": found.now or "",
        "answers by": "; ".join(_stand_in_text(found)),
    }
    for name, value in rows.items():
        if value:
            table.add_row("", Text(name, style="dim"), value)
    console.print(table)
    if found.replay is not None:
        _print_replay(console, found.replay, clock)
    print_kept(console, found.evidence, clock.now())
    if found.made_in is None:
        print_checks(console, found.checks, is_long=True)
    else:
        console.print()
        _print_run(console, found.made_in, clock)


def _print_replay(console: Console, found: ReplayShown, clock: Clock) -> None:
    one = found.replay
    console.print()
    told = f"Recorded requests, replayed {when(found.at, clock.now())} by {found.by}"
    console.print(Text(told, style="bold" if found.passed else "bold red"), soft_wrap=True)
    console.print(f"  against {one.against}: {one.headline}", soft_wrap=True)
    losses = {"answers lost": one.lost, "answers gained": one.gained}
    rows = [(name, f"{count:,}", "") for name, count in losses.items() if count]
    rows += [(s.name, f"{s.changed:,} of {s.n:,}", f"{s.lift:.1f} times") for s in one.slices if s.is_sure]
    if rows:
        console.print(indented(grid("left", "left", "right", "whole"), rows))
    if one.examples:
        console.print(f"  the largest: {', '.join(e.prediction_id for e in one.examples[:3])}", soft_wrap=True)


def _name(one: Try) -> str:
    return f"{one.node} {one.part}".rstrip()
