"""`penstock run`: live progress, then what it came to."""

from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.evidence import print_checks, print_failures, print_quality
from penstock.cli.options import (
    HERE,
    AsJson,
    Now,
    Params,
    PipelineName,
    Project,
    Quiet,
    read_names,
    read_params,
    read_time,
)
from penstock.cli.progress import watch
from penstock.cli.tables import open_console, seconds, write_json
from penstock.core.errors import StoreError
from penstock.core.records import CheckResult, Failure, Record
from penstock.core.refs import RunRef
from penstock.project.quality import Quality, quality_of
from penstock.project.running import RunOptions, RunReport, run_graph
from penstock.project.targets import find_graph
from penstock.project.workspace import open_workspace

EngineName = Literal["local", "ray"]
CHECK_FAILED = 3


class RunTold(Record, frozen=True, kw_only=True):
    """What `penstock run --json` writes.

    Attributes:
        state: "succeeded" or "failed".
        release: The release that stands after the run, or None.
        nodes: Final state by node of the user's.
    """

    run: str
    pipeline: str
    state: str
    duration_s: float
    release: str | None
    is_new_release: bool
    nodes: dict[str, str]
    datasets: dict[str, str]
    checks: tuple[CheckResult, ...]
    failures: dict[str, Failure]
    quality: tuple[Quality, ...]


def run(
    pipeline: PipelineName = None,
    param: Params = None,
    now: Now = None,
    force: Annotated[
        list[str] | None, typer.Option("--force", metavar="NODE", help="Run a node although its result is kept.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NODE", help="Run a node and what it needs; makes no release."),
    ] = None,
    without_champion: Annotated[
        bool, typer.Option("--without-champion", help="Release without comparing with the live release; recorded.")
    ] = False,
    engine: Annotated[EngineName | None, typer.Option("--engine", help="Where steps run.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Most processes at once.")] = None,
    quiet: Quiet = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show built-in checks and summaries too.")] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Run what changed, and release the result if every check passes.

    Exit codes: 0 done, 1 code or data failed, 2 wrong input, 3 a check failed, 4 the store failed, 130 cancelled.

    Example:
        penstock run
        penstock run movies -p recommender.candidates=200
        penstock run --force recommender --now 2026-03-01
    """
    options = RunOptions(
        params=read_params(param),
        now=read_time(now),
        force=read_names(force),
        only=read_names(only),
        without_champion=without_champion,
        engine=engine,
        workers=workers,
    )
    console = open_console()
    with open_workspace(project) as workspace:
        began = workspace.clock.monotonic_s()
        graph = find_graph(workspace, pipeline)
        with watch(graph, console, is_quiet=quiet or as_json, is_verbose=verbose) as listener:
            report = run_graph(graph, workspace, options, listener)
        duration_s = workspace.clock.monotonic_s() - began
    if as_json:
        write_json(told(report, duration_s))
    else:
        print_report(console, report, duration_s)
    return exit_code(report)


def told(report: RunReport, duration_s: float) -> RunTold:
    """Return a report as plain data."""
    return RunTold(
        run=str(RunRef(report.run_id)),
        pipeline=report.pipeline,
        state=report.state,
        duration_s=round(duration_s, 3),
        release=report.release,
        is_new_release=report.is_new_release,
        nodes={name: state.value for name, state in report.outcome.nodes.items() if ":" not in name},
        datasets={name: str(version) for name, version in report.outcome.datasets.items()},
        checks=report.checks,
        failures=report.failures,
        quality=quality_of(report.outcome, report.manifest.graph),
    )


def exit_code(report: RunReport) -> int:
    """Return 0 for a run that succeeded, 4 where the store failed, 3 when checks alone stopped it, 1 otherwise."""
    if report.state == "succeeded":
        return 0
    kinds = {failure.kind for failure in report.failures.values()} - {"check"}
    if kinds:
        return StoreError.exit_code if "store" in kinds else 1
    return CHECK_FAILED if any(not check.passed for check in report.checks) else 1


def print_report(console: Console, report: RunReport, duration_s: float) -> None:
    """Print what a run came to: quality, checks, failures, and the release last, where the eye rests."""
    print_quality(console, quality_of(report.outcome, report.manifest.graph))
    print_checks(console, report.checks)
    print_failures(console, report.failures)
    console.print()
    console.print(_verdict(report, duration_s), soft_wrap=True)


def _verdict(report: RunReport, duration_s: float) -> Text:
    run, took = RunRef(report.run_id), f"in {seconds(duration_s)}"
    if report.state != "succeeded":
        why = ", ".join(name for name in report.failures if ":" not in name)
        why = f"{why} did not succeed" if why else "a check did not pass"
        return Text("No release: ", style="bold red").append(
            f"{why} ({seconds(duration_s)}). See everything: penstock show {run}", style="not bold default"
        )
    if report.release is None:
        return Text(f"Done {took}.", style="bold green").append(
            " A run of some nodes makes no release.", style="not bold default"
        )
    serves = any(node.role == "serve" for node in report.manifest.graph.nodes)
    then = f" Serve it: penstock serve {report.pipeline}" if serves else f" Look at it: penstock show {report.release}"
    done = (
        f"Released {report.release} {took}."
        if report.is_new_release
        else f"{report.release} stands, {took}: nothing changed."
    )
    return Text(done, style="bold green").append(then, style="not bold default")
