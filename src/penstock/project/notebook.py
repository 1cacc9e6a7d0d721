"""`movies.run()` and `movies.plan()`: from a script, a module or the cells of a notebook.

A pipeline in a file is read from the file, in a process of its own, as the command line does. One made in cells is
described where it lives, and its cells, put together as one module, are kept as its code.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from penstock.core.errors import CheckError, DeclarationError, InputError, StepError
from penstock.core.refs import RunRef
from penstock.pipeline.declare import Declarations
from penstock.pipeline.describe import describe_live
from penstock.pipeline.graph import Graph
from penstock.project.planning import PlanReport, plan_graph
from penstock.project.running import RunOptions, RunReport, run_graph
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace, open_workspace


def run_pipeline(
    declared: Declarations,
    *,
    params: Mapping[str, object] | None = None,
    now: datetime | str | None = None,
    force: Sequence[str] = (),
) -> RunReport:
    """Run what changed in a pipeline of this process, and release the result when every check passed.

    Raises:
        StepError: User code failed; its traceback comes first.
        CheckError: A check did not pass, so there is no release.
        DeclarationError: The pipeline is wrong, or its own file calls this while it is imported.
    """
    options = RunOptions(params=params or {}, now=_moment(now), force=frozenset(force), cause="called from Python")
    with open_workspace(project_of(declared, "run")) as workspace:
        report = run_graph(_graph(declared, workspace), workspace, options)
    _raise_failure(report)
    return report


def plan_pipeline(
    declared: Declarations, *, params: Mapping[str, object] | None = None, now: datetime | str | None = None
) -> PlanReport:
    """Say for each node of a pipeline of this process whether it would run or be reused, and why.

    Raises:
        StepError: A dataset function failed when asked for new rows.
        DeclarationError: The pipeline is wrong, or its own file calls this while it is imported.
    """
    with open_workspace(project_of(declared, "plan")) as workspace:
        return plan_graph(_graph(declared, workspace), workspace, RunOptions(params=params or {}, now=_moment(now)))


def project_of(declared: Declarations, verb: str) -> Path:
    """Return where to look for the project: beside the pipeline's file, or here.

    Raises:
        DeclarationError: The pipeline's own file calls this while it is imported.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name.startswith("penstock.") and spec.name != "penstock.__main__":
        # A process of ours is importing the file: to run it again from here would never end.
        call = f"{declared.name}.{verb}()"
        raise DeclarationError(
            (f"{declared.module} calls {call} while it is imported.",), hint=f"if __name__ == '__main__': {call}"
        )
    file = _file_of(declared)
    return Path.cwd() if file is None else file.parent


def _file_of(declared: Declarations) -> Path | None:
    file = getattr(sys.modules.get(declared.module), "__file__", None)
    path = Path(file).resolve() if file else None
    return path if path is not None and path.is_file() else None


def _graph(declared: Declarations, workspace: Workspace) -> Graph:
    file = _file_of(declared)
    if file is not None:
        return find_graph(workspace, str(file), name=declared.name)
    graph, texts = describe_live(declared, workspace.settings.root)
    for data in texts.values():
        workspace.blobs.put(data)
    return graph


def _moment(now: datetime | str | None) -> datetime | None:
    if now is None:
        return None
    try:
        moment = datetime.fromisoformat(now) if isinstance(now, str) else now
    except ValueError as error:
        raise InputError(
            f"now={now!r} is no time.", hint="give it as '2026-03-01' or '2026-03-01T04:00:00Z'"
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _raise_failure(report: RunReport) -> None:
    hint = f"see everything it made: penstock show {RunRef(report.run_id)}"
    failure = next((f for f in report.failures.values() if f.kind != "check"), None)
    if failure is not None:
        traceback = f"{failure.traceback}\n" if failure.traceback else ""
        raise StepError(f"{traceback}{failure.message}", hint=failure.hint or hint)
    broken = [check for check in report.checks if not check.passed]
    if broken:
        run = f"{report.pipeline} run {RunRef(report.run_id)}"
        raise CheckError("\n".join(f"Check {c.name!r} failed for {run}: {c.message}" for c in broken), hint=hint)
