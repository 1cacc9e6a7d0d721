"""`penstock debug`: one node alone, in the foreground."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from penstock.cli.foreground import Called, without_result
from penstock.cli.options import HERE, AsJson, Now, Params, PipelineName, Project, read_params, read_time
from penstock.cli.tables import write_json
from penstock.engine.protocol import Task
from penstock.project.debugging import prepare
from penstock.project.running import RunOptions
from penstock.project.targets import find_graph
from penstock.project.workspace import open_workspace


def debug(
    node: Annotated[str, typer.Argument(help="The node to run.", show_default=False)],
    pipeline: PipelineName = None,
    part: Annotated[
        str | None,
        typer.Option(
            "--part", help="Key of a fan-out, or model of an evaluation; by default the first, or the candidate."
        ),
    ] = None,
    param: Params = None,
    now: Now = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Run one node alone in this terminal, from the files as they are now, with the inputs a run would give it.

    What it needs is made or reused first. What it returns is shown and not kept. When it fails, the debugger opens
    where it failed. With --json no debugger opens, and what the code prints goes to standard error.

    Example:
        penstock debug recommender
        penstock debug quality --part champion
    """
    options = RunOptions(params=read_params(param), now=read_time(now), cause=f"debug {node}")
    with open_workspace(project) as workspace:
        graph = find_graph(workspace, pipeline)
        prepared = prepare(graph, node, workspace, options, part=part)
        root = workspace.settings.root
    others = [name for name in prepared.parts if name != prepared.part]
    if others and part is None and not as_json:
        print(f"Part {prepared.part!r} of {len(others) + 1}; another: --part {others[0]}", flush=True)
    try:
        if as_json:
            return _told(prepared.file, root)
        return 1 if _perform(prepared.file, root) else 0
    finally:
        prepared.file.unlink(missing_ok=True)


def _told(task_file: Path, root: Path) -> int:
    """Perform a task without a terminal, write what came of it as JSON, and return the exit code."""
    report = task_file.with_suffix(".called")
    task = msgspec.json.decode(task_file.read_bytes(), type=Task)
    returncode = _perform(task_file, root, report)
    called = without_result(task, returncode)
    with contextlib.suppress(FileNotFoundError):
        called = msgspec.json.decode(report.read_bytes(), type=Called)
        report.unlink()
    write_json(called)
    return 1 if returncode else 0


def _perform(task: Path, root: Path, report: Path | None = None) -> int:
    """Perform a task in a process that has the terminal to itself, and return its exit code.

    Args:
        task: File of the task.
        root: Directory of the project.
        report: File for what came of it, instead of a terminal; what is printed goes to standard error.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the code and its debugger
    try:
        command = [sys.executable, "-P", "-m", "penstock.cli.foreground", os.fspath(task)]
        if report is None:
            return subprocess.run(command, cwd=root, check=False).returncode
        command.append(os.fspath(report))
        return subprocess.run(command, cwd=root, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
    finally:
        signal.signal(signal.SIGINT, before)
