"""`penstock new`: a working project from an example."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from penstock.cli.options import AsJson
from penstock.project.scaffold import new_project


def new(
    example: Annotated[str, typer.Argument(help="Name of the example.")] = "movies",
    *,
    to: Annotated[Path | None, typer.Option(help="Directory to make; named like the example by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a working project from the example: one pipeline file, its policy, and a sample of data.

    Example:
        penstock new movies
        penstock new movies --to recommender
    """
    made = new_project(example, Path(example) if to is None else to)
    if as_json:
        print(msgspec.json.encode(made).decode())
        return
    print(f"Made {made.directory}/ with {', '.join(made.files)}.\n")
    for command, what in (
        (f"cd {made.directory}", ""),
        ("python sample.py data", "write a sample; or put your own ratings and titles into data/"),
        ("penstock plan", "what would run, and why"),
        ("penstock run", "run it; a release is made when every check passes"),
        ("penstock serve", "answer over HTTP"),
    ):
        print(f"  {command:<24}{what}".rstrip())
