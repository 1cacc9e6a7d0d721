"""The copies that faults are planted in: each arm has a project and source files of its own, arranged step by step."""

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import InputError
from penstock.pipeline.graph import Graph, Node, texts
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace, open_store
from penstock.serving.processes.ask import Ask
from penstock.worker.asking import ask_for_retrain
from penstock.worker.rehearsal.arms import source_settings
from penstock.worker.rehearsal.faults.code import with_bad_answers
from penstock.worker.rehearsal.faults.files import Source, read_source, spoiled, write
from penstock.worker.rehearsal.faults.plans import BURST, Fault, FaultName, lay_out
from penstock.worker.rehearsal.records import ArmName, Plan

_SETTINGS = "penstock.toml"
_APART = timedelta(milliseconds=1)
_WITHOUT = "rehearse without --plant"


@dataclass(slots=True)
class Ground:
    """The copies of one arm.

    Attributes:
        root: The project as it is: nothing is changed there.
        copy: The arm's own project.
        served: The serve function whose code is spoiled.
        field: Its field that says who asks.
        path: The arm's own source file of the dataset with times.
        params: Run parameters by which the arm reads its files.
    """

    plan: Plan
    faults: tuple[Fault, ...]
    root: Path
    copy: Path
    served: Node
    field: str
    source: Source
    path: Path
    params: dict[str, Any]
    arranged: tuple[FaultName, ...] | None = None

    def arrange(self, workspace: Workspace, step: int, name: ArmName) -> None:
        """Let source and code be as they are at the end of a step; done twice, nothing changes.

        Raises:
            InputError: The code cannot be spoiled.
        """
        on = tuple(fault.name for fault in self.faults if fault.is_on(step))
        if on == self.arranged:
            return
        write(spoiled(self.source, self.faults, self.plan, step), self.path)
        is_bad = "bad_release" in on
        text = (self.root / self.served.file).read_text(encoding="utf-8")
        function = self.served.function.partition(":")[2]
        (self.copy / self.served.file).write_text(
            with_bad_answers(text, function, self.field, self.source.busiest(self.field)) if is_bad else text, "utf-8"
        )
        if is_bad and name == "policy":
            said = "a change was merged, and is released as any other"
            ask_for_retrain(workspace, self.plan.pipeline, kind="webhook", key=f"merged-{step}", said=said)
        self.arranged = on

    def crowd(self, asks: list[Ask], step: int) -> list[Ask]:
        """Return the requests of a step: many times as many where there is a burst."""
        is_burst = any(fault.name == "burst" and fault.is_on(step) for fault in self.faults)
        if not is_burst:
            return asks
        found: list[Ask] = []
        for ask in asks:
            for _ in range(BURST):
                # Ids are made of moments, so each needs one of its own.
                least = found[-1].at + _APART if found and found[-1].at is not None else ask.at
                at = ask.at if ask.at is None or least is None else max(ask.at, least)
                found.append(msgspec.structs.replace(ask, at=at))
        return found


def prepare(plan: Plan, *, root: Path, folder: Path, name: ArmName) -> Ground:
    """Make the copies of an arm, and return what arranges them.

    Args:
        plan: The rehearsal; `plan.plant` names the faults.
        root: The project as it is.
        folder: Where the rehearsal keeps everything.
        name: The arm.

    Raises:
        InputError: The pipeline's source is no file, or a fault has nothing to be planted in.
    """
    with open_store(source_settings(plan, root=root, folder=folder), Clock()) as workspace:
        graph = find_graph(workspace, plan.pipeline)
    faults = lay_out(plan.plant, plan.steps)
    copy = folder / name / "project"
    for name_of_file in [*(one.path for one in graph.files), _SETTINGS]:
        if (root / name_of_file).is_file():
            (copy / name_of_file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name_of_file, copy / name_of_file)
    files, source = source_of(plan, graph, root)
    asked = [(n, p.name) for n in graph.nodes if n.role == "serve" for p in n.params if p.name in source.rows.columns]
    if not asked:
        raise InputError(
            f"No faults can be planted in {plan.pipeline!r}: nobody asks it by a column of its rows.", hint=_WITHOUT
        )
    if any(fault.name == "genre" for fault in faults):
        _ = source.largest_group  # tells now what cannot be planted later
    timed = next(iter(files))
    own = folder / name / "files" / files[timed].name
    own.parent.mkdir(parents=True, exist_ok=True)
    if not own.exists():
        write(spoiled(source, faults, plan, -1), own)
    params = {f"{dataset}.path": str(path) for dataset, path in (files | {timed: own}).items()}
    return Ground(plan, faults, root, copy, *asked[0], source, own, params)


def source_of(plan: Plan, graph: Graph, root: Path) -> tuple[dict[str, Path], Source]:
    """Return the files of the datasets that are read from files, the one with times first, and what they hold.

    Raises:
        InputError: There is no such dataset.
    """
    nodes = [node for node in graph.nodes if node.role == "dataset"]
    nodes.sort(key=lambda node: node.options.get("time") is None)
    found = {node.name: path for node in nodes if (path := _path(node, plan, root)) is not None}
    timed = graph.node(next(iter(found))) if found else None
    if timed is None or timed.options.get("time") is None:
        raise InputError(
            f"No faults can be planted in {plan.pipeline!r}: its dataset with times has no parameter `path` of a "
            "parquet or CSV file.",
            hint=_WITHOUT,
        )
    return found, read_source(list(found.values()), texts(timed.options.get("key")))


def _path(node: Node, plan: Plan, root: Path) -> Path | None:
    given = plan.params.get(f"{node.name}.path")
    default = next((param.default for param in node.params if param.name == "path"), None)
    path = root / str(given or default) if given or default else None
    return path.resolve() if path is not None and path.suffix in {".parquet", ".csv"} and path.is_file() else None
