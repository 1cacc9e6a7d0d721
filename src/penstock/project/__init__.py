"""What a person does with a pipeline: plan, run, show, diff, release, serve. Commands and notebooks call this.

Belongs here: composing the rooms below, and what to say about it. Does not: printing, parsing of command lines.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.project.notebook import plan_pipeline, run_pipeline
    from penstock.project.planning import PlanReport
    from penstock.project.running import RunReport
    from penstock.project.workspace import Workspace, open_workspace

__all__ = ["PlanReport", "RunReport", "Workspace", "open_workspace", "plan_pipeline", "run_pipeline"]

# Each is imported when first used: a file that only declares a pipeline needs neither a ledger nor a lake.
_HOMES = {
    "PlanReport": "planning",
    "RunReport": "running",
    "Workspace": "workspace",
    "open_workspace": "workspace",
    "plan_pipeline": "notebook",
    "run_pipeline": "notebook",
}


def __getattr__(word: str) -> object:
    if word not in _HOMES:
        raise AttributeError(f"module 'penstock.project' has no attribute {word!r}")
    value: object = getattr(importlib.import_module(f"penstock.project.{_HOMES[word]}"), word)
    globals()[word] = value
    return value
