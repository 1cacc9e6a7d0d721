"""Whether lake and ledger are of the same time: what the ledger knows of a dataset, the lake must hold.

Where it does not, an intake would start anew, or give the number of a known version to other rows.
"""

from collections.abc import Iterable

from penstock.core.errors import NotFoundError, StoreError
from penstock.core.records import DatasetVersion
from penstock.pipeline.graph import Node
from penstock.project.workspace import Workspace
from penstock.store.ledger import datasets


def refuse_disagreement(pipeline: str, nodes: Iterable[Node], workspace: Workspace) -> None:
    """Refuse to go on where the lake is not of the ledger's time.

    Args:
        pipeline: The pipeline.
        nodes: Those of it that are asked for; datasets among them are compared.
        workspace: Its project.

    Raises:
        StoreError: The lake holds less than the ledger knows, or other rows.
    """
    names = [node.name for node in nodes if node.role == "dataset"]
    for name in names:
        found = disagreement(pipeline, name, workspace)
        if found is not None:
            raise StoreError(found, hint=way_out(pipeline, name, workspace))


def disagreement(pipeline: str, dataset: str, workspace: Workspace) -> str | None:
    """Return in a sentence how the lake differs from what the ledger knows of a dataset; None where it does not.

    A lake that is ahead is right: a process that died between the two commits leaves it so.

    Raises:
        DamagedError: The log of the table cannot be read.
    """
    with workspace.ledger.read() as conn:
        known = datasets.newest(conn, pipeline, dataset)
    if known is None:
        return None
    table = workspace.lake.table(pipeline, dataset)
    latest = table.latest()
    if latest is None or latest.version < known.version:
        there = "nothing of it" if latest is None else str(latest)
        return f"The ledger knows {known} of {pipeline}, but the lake holds {there}."
    try:
        same: DatasetVersion = latest if latest.version == known.version else table.version(known.version)
    except NotFoundError:  # another tool has cleaned the log: the version cannot be compared any more
        return None
    if same.digest != known.digest:
        return f"The lake holds other rows as {known} of {pipeline} than the ledger knows."
    return None


def way_out(pipeline: str, dataset: str, workspace: Workspace) -> str:
    """Return what to do about a disagreement."""
    home = workspace.home
    root = workspace.settings.root
    shown = home.relative_to(root) if home.is_relative_to(root) else home
    return (
        f"restore {shown}/lake/{pipeline}/{dataset} from a backup, or lake and ledger from one; "
        f"or give the dataset a new name: it is then taken in anew"
    )
