"""`penstock plan-capacity`: five answers, and how a release is to be served."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.load import ReleaseName
from penstock.cli.options import HERE, AsJson, Project, Quiet
from penstock.cli.tables import counted, grid, indented, open_console, state_text, write_json
from penstock.core.errors import InputError
from penstock.core.settings import parse_duration
from penstock.project.capacity.measure import Told
from penstock.project.capacity.plan import CONSUMERS, GRAINS, Answers, CapacityPlan, parse_rate
from penstock.project.capacity.planning import Checked, check_plan, plan_for
from penstock.project.capacity.promises import parse_promise
from penstock.project.serving import served_release
from penstock.project.workspace import open_workspace
from penstock.serving.observe.events import log_events

Failed = Annotated[
    float, typer.Option(min=0.0001, max=0.5, help="Share that may fail, be refused or get the fallback.")
]
_QUESTIONS = {
    "consumer": f"Who uses the answers ({', '.join(CONSUMERS)})?",
    "rate": "How many answers at the busiest time, all applications together (as 200/s, 5000/h, 1000000/d)?",
    "rows": f"One row at a time, or many ({', '.join(GRAINS)})?",
    "applications": "How many applications ask?",
    "latency": "How soon is an answer needed (as p99=50ms)?",
}


def plan_capacity(
    pipeline: ReleaseName = None,
    *,
    consumer: Annotated[str | None, typer.Option(help=f"Who uses the answers: {', '.join(CONSUMERS)}.")] = None,
    rate: Annotated[str | None, typer.Option(help="Answers at the busiest time, as 200/s or 1000000/d.")] = None,
    rows: Annotated[str | None, typer.Option(help="One row at a time, or many.")] = None,
    applications: Annotated[int | None, typer.Option(min=1, help="How many ask.")] = None,
    latency: Annotated[str | None, typer.Option(metavar="PROMISE", help="How soon, as p99=50ms.")] = None,
    failed: Failed = 0.01,
    check: Annotated[bool, typer.Option("--check", help="Run the planned load, and compare.")] = False,
    step: Annotated[str, typer.Option(help="How long --check holds each rate at least.")] = "4s",
    quiet: Quiet = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Say how to serve a release: over HTTP, in batches, along a stream or in process; how many workers; what it costs.

    Five answers decide; in a terminal, those that are not given are asked. What a request takes is measured, or known
    from the newest load test.

    Exit codes: 0 planned, and with --check as measured; 2 wrong input; 3 no number of workers keeps the promise, or
    prediction and measurement are more than a fifth apart.

    Example:
        penstock plan-capacity movies
        penstock plan-capacity movies --consumer api --rate 200/s --applications 3 --check
    """
    log_events(is_terminal=sys.stderr.isatty())
    given = {
        "consumer": consumer,
        "rate": rate,
        "rows": rows,
        "applications": None if applications is None else str(applications),
        "latency": latency,
    }
    answers = _answers(given, failed)
    console = open_console(is_error=as_json)

    def tell(told: Told) -> None:
        if not quiet:
            console.print(told.now, soft_wrap=True)

    with open_workspace(project) as workspace:
        release = served_release(pipeline, workspace)
        plan, service = plan_for(release, answers, workspace, tell)
        checked = None
        if check:
            _refuse_unchecked(plan)
            checked = check_plan(plan, service, release, workspace, tell=tell, step_s=parse_duration(step))
    if as_json:
        write_json({"plan": plan, "checked": checked, "agrees": None if checked is None else checked.agrees})
    else:
        _print_plan(console, plan, checked)
    return 0 if plan.is_possible and (checked is None or checked.passed) else 3


def _answers(given: dict[str, str | None], failed: float) -> Answers:
    missing = [name for name, value in given.items() if value is None]
    if missing and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(
            f"Of the five answers, {len(missing)} {'is' if len(missing) == 1 else 'are'} missing.",
            hint=f"say {', '.join(f'--{name}' for name in missing)}, or ask in a terminal",
        )
    said = {name: value if value is not None else typer.prompt(_QUESTIONS[name]) for name, value in given.items()}
    consumer = next((one for one in CONSUMERS if one == said["consumer"]), None)
    grain = next((one for one in GRAINS if one == said["rows"]), None)
    if consumer is None:
        raise InputError(f"There is no consumer {said['consumer']!r}.", hint=f"say one of {', '.join(CONSUMERS)}")
    if grain is None:
        raise InputError(f"--rows {said['rows']!r} is neither.", hint=f"say {' or '.join(GRAINS)}")
    if not said["applications"].isdecimal() or not int(said["applications"]):
        raise InputError(f"{said['applications']!r} is no number of applications.", hint="say a number, as 3")
    return Answers(
        consumer=consumer,
        rate_per_s=parse_rate(said["rate"]),
        grain=grain,
        applications=int(said["applications"]),
        promise=parse_promise(said["latency"], failed=failed),
    )


def _refuse_unchecked(plan: CapacityPlan) -> None:
    if plan.mode != "online":
        raise InputError(
            f"A plan to answer {plan.mode} is not checked by a load test.", hint="leave --check out, or plan for an API"
        )
    if not plan.is_possible:
        raise InputError(
            "No number of workers keeps this promise, so there is nothing to check.", hint="promise less, as p99=500ms"
        )


def _print_plan(console: Console, plan: CapacityPlan, checked: Checked | None) -> None:
    on = f" on {counted(plan.machines, 'machine')} like this one" if plan.machines > 1 else ""
    said = f"{plan.mode}, {counted(plan.workers, 'worker')}{on}"
    if not plan.is_possible:
        said = f"{plan.mode}, but not with this promise"
    console.print(Text(f"{plan.release}: {said}", style="bold"), soft_wrap=True)
    for reason in plan.reasons:
        console.print(f"  {reason}", soft_wrap=True)
    figures = {
        "filled": f"{plan.filled:.0%}, {plan.cores_used:.2g} cores busy",
        "in time": "" if plan.predicted_ms is None else f"{plan.predicted_ms:.3g} ms expected",
        "at most": f"{plan.highest_per_s:,.4g} a second",
        "rows in a call": "" if plan.batch_rows is None else f"at most {plan.batch_rows:,} (serve.batch_rows)",
        "cost": "no price is set (cost.cpu_hour)" if plan.cost_month is None else _cost(plan),
        "do": "; ".join(plan.commands),
    }
    console.print()
    console.print(indented(grid("left", "whole", "fold"), [pair for pair in figures.items() if pair[1]]))
    if checked is not None:
        _print_checked(console, checked)


def _cost(plan: CapacityPlan) -> str:
    return f"{plan.cost_month or 0:,.2f} a month, {plan.cost_per_1000 or 0:.4g} per thousand answers"


def _print_checked(console: Console, checked: Checked) -> None:
    console.print()
    workers = counted(checked.workers, "worker")
    kept = "kept" if checked.step.verdict == "holds" else f"NOT KEPT ({checked.step.verdict})"
    console.print(f"Measured with {workers} at {checked.rate_per_s:,.4g} a second: the promise was {kept}.")
    rows = [
        (
            state_text("passed" if one.agrees else "failed", console) if one.decides else Text(""),
            one.what,
            f"{one.predicted:,.4g} predicted",
            "not measured" if one.measured is None else f"{one.measured:,.4g} measured",
            "" if one.ratio is None else f"{one.ratio:.0%}",
        )
        for one in checked.compared
    ]
    console.print(indented(grid("left", "whole", "left", "right", "right", "right"), rows))
    agree = "agree within 20 %" if checked.agrees else "are more than 20 % apart"
    console.print(Text(f"Prediction and measurement {agree}.", style="bold"))
