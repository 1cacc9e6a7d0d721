"""A project in a folder of its own, run as a person runs it: the parts that tests of whole journeys share."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from penstock.core.clock import Clock
from penstock.core.records import DatasetVersion
from penstock.engine.events import Listener, ignore
from penstock.project.planning import PlanReport, plan_graph
from penstock.project.running import RunOptions, RunReport, run_graph
from penstock.project.serving import Address, serve_options
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace, open_workspace
from penstock.serving.processes.background import Server, start
from penstock.store import codecs
from penstock.store.ledger import releases

COMMAND = (sys.executable, "-P", "-m", "penstock")


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with pipeline files, and what is kept beside them.

    Attributes:
        root: The folder.
        name: The pipeline that is meant; None where there is one.
    """

    root: Path
    name: str | None = None

    def copied(self, root: Path) -> "Project":
        """Return a copy with all that is kept: a store may be moved as a whole."""
        return Project(Path(shutil.copytree(self.root, root, symlinks=True)), self.name)

    def write(self, text: str, file: str = "flow.py") -> Path:
        """Write a file of the project; the common indent of `text` goes."""
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    def change(self, before: str, after: str, file: str = "flow.py") -> None:
        """Replace what stands once in a file, as a person edits it."""
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, (before, text.count(before))
        path.write_text(text.replace(before, after), encoding="utf-8")

    @contextmanager
    def opened(self, clock: Clock | None = None) -> Iterator[Workspace]:
        """Open the store of the project."""
        with open_workspace(self.root, clock) as workspace:
            yield workspace

    def run(self, *, clock: Clock | None = None, listener: Listener = ignore, **options: Any) -> RunReport:
        """Run the pipeline in this process's name; user code runs in others, as always."""
        with self.opened(clock) as workspace:
            graph = find_graph(workspace, self.name)
            return run_graph(graph, workspace, RunOptions(**{"params": {}, **options}), listener)

    def plan(self, **options: Any) -> PlanReport:
        """Return what a run would do."""
        with self.opened() as workspace:
            return plan_graph(find_graph(workspace, self.name), workspace, RunOptions(**{"params": {}, **options}))

    def versions(self, pipeline: str, dataset: str) -> list[DatasetVersion]:
        """Return the versions of a dataset, the oldest first."""
        with self.opened() as workspace:
            return workspace.lake.table(pipeline, dataset).versions()

    def rows(self, version: DatasetVersion) -> pl.DataFrame:
        """Return the rows of a dataset version."""
        with self.opened() as workspace:
            return workspace.lake.table(version.pipeline, version.dataset).scan(version).collect()

    def quarantine(self, pipeline: str, dataset: str) -> pl.DataFrame:
        """Return the rows of a dataset that were set aside."""
        with self.opened() as workspace:
            return workspace.lake.table(pipeline, dataset).quarantine().collect()

    def output(self, report: RunReport, node: str, output: str | None = None, part: str = "") -> Any:
        """Return what a node made in a run."""
        artifact = report.outcome.kept[node][part].outputs[output or node]
        with self.opened() as workspace:
            return codecs.load(artifact, workspace.blobs)

    def live(self, pipeline: str) -> str | None:
        """Return the reference of the live release."""
        with self.opened() as workspace, workspace.ledger.read() as conn:
            found = releases.live(conn, pipeline)
        return None if found is None else str(found.ref)

    @contextmanager
    def served(self, target: str | None = None) -> Iterator[Server]:
        """Serve the live release from real worker processes."""
        with self.opened() as workspace, start(serve_options(target, workspace, Address(port=0))) as server:
            yield server

    def command(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the `penstock` command in the folder."""
        return subprocess.run(
            [*COMMAND, *words],
            cwd=self.root,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )


def reruns(report: RunReport) -> set[str]:
    """Return the nodes of the user's that did run, rather than being reused."""
    return {name for name, state in report.nodes.items() if state != "reused"}
