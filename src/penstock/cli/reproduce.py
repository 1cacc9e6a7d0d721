"""`penstock reproduce`: make a release again and compare the bytes."""

from typing import Annotated

import typer
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Project
from penstock.cli.tables import counted, open_console, write_json
from penstock.project.reproducing import Reproduction
from penstock.project.reproducing import reproduce as make_again
from penstock.project.workspace import open_workspace

Release = Annotated[str, typer.Argument(help="The release, as movies@3.", show_default=False)]


def reproduce(release: Release, as_json: AsJson = False, project: Project = HERE) -> int:
    """Make a release again from its own code, data versions and parameters, and compare every output byte by byte.

    Nothing is recorded and nothing released. Ends with 1 when an output differs.

    Example:
        penstock reproduce movies@3
    """
    with open_workspace(project, to_look=True) as workspace:
        found = make_again(release, workspace)
    if as_json:
        write_json(found)
    else:
        _print(found)
    return 0 if found.same else 1


def _print(found: Reproduction) -> None:
    console = open_console()
    if found.same:
        console.print(f"{found.release} was made again: all {counted(found.compared, 'output')} have the same bytes.")
    else:
        console.print(Text(f"{found.release} cannot be made again as it is.", style="bold"))
    for name in found.differing:
        console.print(f"  other bytes: {name}")
    for node, failure in found.failures.items():
        console.print(f"  failed: {node}: {failure.message}")
    for package in found.environment:
        console.print(f"  another version here: {package}")
