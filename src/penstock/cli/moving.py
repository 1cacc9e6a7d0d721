"""`penstock export` and `penstock import`: a release as one file, and what serves it elsewhere."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.core.errors import InputError
from penstock.core.refs import ReleaseRef, parse_ref
from penstock.project.doctor import in_units
from penstock.project.exporting.image import ExportedImage, export_image
from penstock.project.exporting.kubernetes import ExportedManifests, export_kubernetes
from penstock.project.moving import Exported, export_to, import_from
from penstock.project.workspace import open_workspace

Form = Literal["file", "image", "kubernetes"]
_OPTIONS: dict[Form, frozenset[str]] = {
    "file": frozenset({"--to"}),
    "image": frozenset({"--out", "--image"}),
    "kubernetes": frozenset({"--out", "--image", "--keep"}),
}


def export(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[image|kubernetes] RELEASE",
            help="The release, as movies@3; movies is its live one. With a word before it, what serves it elsewhere.",
        ),
    ],
    *,
    to: Annotated[Path | None, typer.Option(help="The file; movies-3.penstock by default.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of image or kubernetes; movies-3-image by default.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="REF", help="What the image is called, as registry.example/movies:3.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Kubernetes: keep predictions on a claim of this size, as 20Gi.")
    ] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Write a release to one file, or what it takes to serve it elsewhere: an image's folder, Kubernetes manifests.

    The file holds its code, its models and what serving needs, under its hash; no data sets.

    Example:
        penstock export movies@3
        penstock export movies --to /media/stick/movies.penstock
        penstock export image movies
        penstock export kubernetes movies --image registry.example/movies:3
    """
    form, release = _meant(words)
    given = {"--to": to, "--out": out, "--image": image, "--keep": keep}
    _refuse_foreign(form, {name for name, value in given.items() if value is not None})
    with open_workspace(project) as workspace:
        match form:
            case "file":
                _tell_file(export_to(release, workspace, target=to), as_json=as_json)
            case "image":
                _tell_image(export_image(release, workspace, out=out, image=image), as_json=as_json)
            case "kubernetes":
                _tell_kubernetes(
                    export_kubernetes(release, workspace, out=out, image=image, keep=keep), as_json=as_json
                )


def _meant(words: list[str]) -> tuple[Form, str]:
    """Return the form and the release; one word alone is always a release, whatever its name."""
    match words:
        case [release]:
            return "file", release
        case [("image" | "kubernetes") as form, release]:
            return form, release
        case [release, other]:
            hint = f"to write {release} to a file: penstock export {release} --to {other}"
            raise InputError(f"{release!r} is nothing that a release is exported as.", hint=hint)
        case _:
            raise InputError(f"{len(words)} words are too many.", hint="penstock export [image|kubernetes] RELEASE")


def _refuse_foreign(form: Form, given: set[str]) -> None:
    if foreign := sorted(given - _OPTIONS[form]):
        what = "a file" if form == "file" else form
        raise InputError(
            f"{foreign[0]} says nothing about {what}.", hint=f"it takes {', '.join(sorted(_OPTIONS[form]))}"
        )


def _tell_file(done: Exported, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(done).decode())
        return
    print(f"Wrote {done.release} to {done.path} ({in_units(done.size_bytes)}), hash {done.hash[:12]}.")
    print(f"Elsewhere: penstock import {done.path}")


def _tell_image(done: ExportedImage, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(done).decode())
        return
    print(f"Wrote an image's folder of {done.release} to {done.path}, hash {done.hash[:12]}.")
    print(f"Build it: docker build --tag {shlex.quote(done.image)} {shlex.quote(done.path)}")


def _tell_kubernetes(done: ExportedManifests, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(done).decode())
        return
    print(f"Wrote {len(done.files)} manifests of {done.release} to {done.path}; they run {done.image}.")
    print(f"A pod is granted {done.memory}.")
    print(f"See {done.path}/README.md, then: kubectl apply -f {shlex.quote(done.path)}")


def import_(
    file: Annotated[Path, typer.Argument(help="What penstock export wrote.")],
    *,
    live: Annotated[bool, typer.Option("--live", help="Serve it from now on.")] = False,
    wanted: Annotated[
        str | None, typer.Option("--as", metavar="RELEASE", help="Keep its number, as movies@3; the next by default.")
    ] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Take in a release from a file; it is served when asked for with --live, or when nothing is served yet.

    A release holds code that serving it runs: import only what comes from people you trust.

    Example:
        penstock import movies-3.penstock
        penstock import movies-3.penstock --live
    """
    ref = None if wanted is None else parse_ref(wanted)
    if ref is not None and not isinstance(ref, ReleaseRef):
        raise InputError(f"--as {wanted!r} is a run, not a release.", hint="write a release as movies@12")
    with open_workspace(project) as workspace:
        done = import_from(file, workspace, live=live, wanted=ref)
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
