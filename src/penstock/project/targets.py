"""Finds the pipeline a person means: by name, by file, or the only one in the directory."""

from pathlib import Path

from penstock.core.errors import InputError, NotFoundError
from penstock.pipeline.graph import Graph
from penstock.pipeline.inspect import find_target, inspect_project
from penstock.project.workspace import Workspace


def find_graph(workspace: Workspace, target: str | None = None) -> Graph:
    """Return the graph of the pipeline meant.

    Args:
        workspace: The project.
        target: Name of a pipeline, path of its file, or None where there is only one.

    Raises:
        NotFoundError: There is no such pipeline or file.
        InputError: Several pipelines are there and none is named.
        DeclarationError: The pipeline is wrong; every mistake is named.
    """
    root = workspace.settings.root
    name = target if target is not None and not _is_path(target) else None
    file: Path | str = (
        Path(target).resolve()
        if target is not None and _is_path(target)
        else find_target(root, pipeline=name, policies=workspace.settings.policies)
    )
    graphs = inspect_project(root, file, workspace.home / "cache")
    found = [g for g in graphs if name is None or g.pipeline == name]
    names = [g.pipeline for g in graphs]
    if not found:
        raise NotFoundError(f"There is no pipeline {name!r} in {file}.", hint=f"it has {', '.join(names)}")
    if len(found) > 1:
        raise InputError(f"{file} holds several pipelines.", hint=f"say which: {', '.join(names)}")
    return found[0]


def _is_path(target: str) -> bool:
    return target.endswith(".py") or "/" in target or "\\" in target
