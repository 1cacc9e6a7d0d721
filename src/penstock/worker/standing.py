"""How a pipeline stands, with what a worker would decide now: what `penstock status` and the pages show."""

from datetime import datetime

from penstock.core.lazy import import_quickly
from penstock.project.status import Status
from penstock.project.status import status as find_status
from penstock.project.workspace import Workspace
from penstock.worker.foresight import foresee


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
