"""What a person does with a pipeline: plan, run, look, compare, release, serve. The command line and notebooks call this.

Belongs here: composing the rooms below, and what to say about it. Does not: printing, parsing of command lines.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "workspace": ["Workspace", "open_workspace"],
        "running": ["RunReport", "run_pipeline"],
        "planning": ["PlanReport", "plan_pipeline"],
        "showing": ["list_releases", "list_runs", "show_run"],
        "comparing": ["diff"],
        "serving": ["predict", "serve_pipeline"],
        "moving": ["export_to", "import_from"],
        "scaffold": ["new_project"],
        "doctor": ["examine"],
        "demo": ["demonstrate"],
    },
)
