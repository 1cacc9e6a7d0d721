"""What a person does with a pipeline: plan, run, show, diff, release, serve. Commands and notebooks call this.

Belongs here: composing the rooms below, and what to say about it. Does not: printing, parsing of command lines.
"""

from typing import TYPE_CHECKING

from penstock.core.lazy import lazy_words

if TYPE_CHECKING:
    from penstock.project.notebook import plan_pipeline, run_pipeline
    from penstock.project.planning import PlanReport
    from penstock.project.running import RunReport
    from penstock.project.workspace import Workspace, open_workspace

__all__ = ["PlanReport", "RunReport", "Workspace", "open_workspace", "plan_pipeline", "run_pipeline"]

# Each is imported when first used: a file that only declares a pipeline needs neither a ledger nor a lake.
__getattr__ = lazy_words(
    __name__,
    {
        "PlanReport": "penstock.project.planning",
        "RunReport": "penstock.project.running",
        "Workspace": "penstock.project.workspace",
        "open_workspace": "penstock.project.workspace",
        "plan_pipeline": "penstock.project.notebook",
        "run_pipeline": "penstock.project.notebook",
    },
)
