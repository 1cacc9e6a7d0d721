"""`penstock up`: the worker, in the foreground until Ctrl-C."""

import sys
from typing import Annotated

import msgspec
import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.core.settings import parse_duration
from penstock.project.workspace import open_workspace
from penstock.serving.observe.events import log_events
from penstock.worker.tick import pipelines_of
from penstock.worker.up import Beat, Up, stopped_by_signals


def up(
    *,
    every: Annotated[str, typer.Option(help="Time between looks.")] = "30s",
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Keep pipelines fresh until Ctrl-C: take in rows, join truth, look at windows, retrain, release.

    Any number of them may run, on one machine or on several with one ledger: they share the work, and what one that
    dies leaves behind is taken over. With --json a line tells of each look.

    Example:
        penstock up
        penstock up --every 5m
    """
    log_events(is_terminal=sys.stderr.isatty())
    with open_workspace(project) as workspace:
        worker = Up(workspace, every_s=parse_duration(every), on_beat=_tell if as_json else None)
        names = pipelines_of(workspace)
        if not as_json:
            kept = ", ".join(names) or "nothing yet: no pipeline is released or scheduled"
            print(f"Keeping {kept}; looks every {every}.  (Ctrl-C stops)", flush=True)
        with stopped_by_signals(worker):
            worker.run()
    if not as_json:
        print("Stopped; retrains that were under way begin again with the next worker.")


def _tell(beat: Beat) -> None:
    print(msgspec.json.encode(beat).decode(), flush=True)
