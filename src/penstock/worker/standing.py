"""How a pipeline stands, with what a worker would decide now: what `penstock status` and the pages show."""

from datetime import datetime

from penstock.core.lazy import import_quickly
from penstock.pipeline.declare import Declarations
from penstock.project.notebook import project_of
from penstock.project.status import Status
from penstock.project.status import status as find_status
from penstock.project.workspace import Workspace, open_workspace
from penstock.worker.foresight import foresee


def stand(declared: Declarations) -> Status:
    """Return the status of a pipeline of this process, in the project beside its file.

    Raises:
        NotFoundError: Nothing is known of it yet.
        StoreError: The store cannot be read.
    """
    with open_workspace(project_of(declared, "status"), to_look=True) as workspace:
        return status_of(workspace, declared.name, workspace.clock.now())


def status_of(workspace: Workspace, name: str, now: datetime) -> Status:
    """Return the status of a pipeline with what a worker would decide now.

    Raises:
        NotFoundError: Nothing is known of such a pipeline.
        StoreError: The store cannot be read.
    """
    due = foresee(workspace, name, now)
    if due.is_weighed:  # to weigh takes as long as all else together, and matters only where something is weighed
        worth = import_quickly("penstock.worker.economics").worth(workspace, name, now)
        due = foresee(workspace, name, now, worth=worth)
    return find_status(workspace, name, now, due=due)
