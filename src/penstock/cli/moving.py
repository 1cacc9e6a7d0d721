"""`penstock export` and `penstock import`: a release as one file."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.project.doctor import in_units
from penstock.project.moving import export_to, import_from
from penstock.project.workspace import open_workspace


def export(
    release: Annotated[str, typer.Argument(help="The release, as movies@3; movies is its live one.")],
    *,
    to: Annotated[Path | None, typer.Option(help="The file; movies-3.penstock by default.")] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Write a release to one file: its code, its models and what serving needs, under its hash; no data sets.

    Example:
        penstock export movies@3
        penstock export movies --to /media/stick/movies.penstock
    """
    with open_workspace(project) as workspace:
        done = export_to(release, workspace, target=to)
    if as_json:
        print(msgspec.json.encode(done).decode())
        return
    print(f"Wrote {done.release} to {done.path} ({in_units(done.size_bytes)}), hash {done.hash[:12]}.")
    print(f"Elsewhere: penstock import {done.path}")


def import_(
    file: Annotated[Path, typer.Argument(help="What penstock export wrote.")],
    *,
    live: Annotated[bool, typer.Option("--live", help="Serve it from now on.")] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Take in a release from a file; it is served when asked for with --live, or when nothing is served yet.

    A release holds code that serving it runs: import only what comes from people you trust.

    Example:
        penstock import movies-3.penstock
        penstock import movies-3.penstock --live
    """
    with open_workspace(project) as workspace:
        done = import_from(file, workspace, live=live)
    if as_json:
        print(msgspec.json.encode(done).decode())
        return
    known = "" if done.is_new else ", which was there already"
    print(f"Took in {done.release}{known}, hash {done.hash[:12]}.")
    pipeline = done.release.partition("@")[0]
    if done.is_live:
        print(f"It is live: penstock serve {pipeline}")
    else:
        print(f"{done.live} stays live. To serve this one: penstock import {file} --live")
