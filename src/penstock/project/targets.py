"""Finds the pipeline a person means: by name, by file, or the only one in the directory."""

from pathlib import Path

import msgspec

from penstock.core.digest import digest_bytes
from penstock.core.errors import InputError, NotFoundError
from penstock.pipeline.graph import CodeFile, Graph
from penstock.pipeline.inspection import find_target, inspect_project
from penstock.project.workspace import Workspace


def find_graph(workspace: Workspace, target: str | None = None, *, name: str | None = None) -> Graph:
    """Return the graph of the pipeline meant.

    Args:
        workspace: The project.
        target: Name of a pipeline, path of its file, or None where there is only one.
        name: Which pipeline of the file, where it may hold several.

    Raises:
        NotFoundError: There is no such pipeline or file.
        InputError: Several pipelines are there and none is named.
        DeclarationError: The pipeline is wrong; every mistake is named.
    """
    root = workspace.settings.root
    name = target if target is not None and not _is_path(target) else name
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
    return _with_included(found[0], workspace)


def _with_included(graph: Graph, workspace: Workspace) -> Graph:
    """Return the graph with the further files that the engineer wants in the code snapshot."""
    root = workspace.settings.root
    listed = {file.path: file for file in graph.files}
    for pattern in workspace.settings.policy(graph.pipeline).include:
        paths = [path for path in sorted(root.glob(pattern)) if path.is_file()]
        if not paths:
            raise InputError(
                f"No file matches {pattern!r}, which `include` of {graph.pipeline!r} names.",
                hint="mend the pattern in penstock.toml; it is relative to that file",
            )
        for path in paths:
            name = path.relative_to(root).as_posix()
            listed[name] = CodeFile(path=name, digest=digest_bytes(path.read_bytes()))
    return msgspec.structs.replace(graph, files=tuple(listed[name] for name in sorted(listed)))


def _is_path(target: str) -> bool:
    return target.endswith(".py") or "/" in target or "\\" in target
