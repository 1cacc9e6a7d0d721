"""A folder from which `docker build` makes an image that serves one release."""

import json
import re
import shlex
from pathlib import Path

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.core.refs import parse_name
from penstock.core.settings import LoopPolicy, parse_duration
from penstock.project.exporting import entrypoint
from penstock.project.exporting.folder import new_folder
from penstock.project.exporting.names import check_image, image_name
from penstock.project.moving import find_release
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.archive import export_release
from penstock.releases.environment import lock_text
from penstock.releases.manifest import Manifest
from penstock.store.ledger.releases import Release

HOME = "/var/lib/penstock"
USER = 10001
_APP = "/app"
_PYTHON = re.compile(r"3\.[0-9]{1,3}\.[0-9]{1,3}")
# Libraries whose wheels expect one of the system that slim images lack.
_NEEDS_OPENMP = frozenset({"lightgbm", "implicit", "xgboost"})
_IGNORED = "*\n!entrypoint.py\n!penstock.toml\n!release.penstock\n!requirements.lock\n!wheels\n"


class ExportedImage(Record, frozen=True, kw_only=True):
    """A folder to build an image from.

    Attributes:
        image: What the image is called by the commands in its README.
    """

    release: str
    hash: str
    path: str
    image: str


def export_image(
    release: str, workspace: Workspace, *, out: Path | None = None, image: str | None = None
) -> ExportedImage:
    """Write a folder with a Dockerfile and all it copies: the release, its exact lock, what starts it.

    Args:
        release: "movies@3", or "movies" for the live one.
        workspace: The project.
        out: The folder; `movies-3-image` in the current directory by default.
        image: What the image is called; "movies:3-HASH" by default.

    Raises:
        InputError: The folder exists already, or the release's environment cannot be locked.
        NotFoundError: There is no such release.
        DamagedError: A blob of the release is damaged or gone.
    """
    found = find_release(release, workspace)
    parse_name(found.pipeline, what="pipeline")
    manifest = read_manifest(found.manifest_digest, workspace)
    lock = lock_text(manifest)
    name = check_image(image or image_name(found.pipeline, found.version, found.hash))
    text = dockerfile(found, manifest)
    target = out or Path(f"{found.pipeline}-{found.version}-image")
    with new_folder(target) as folder:
        export_release(found.manifest_digest, workspace.blobs, folder / "release.penstock")
        (folder / "wheels").mkdir()
        (folder / "wheels" / "README").write_text("Wheels of packages in requirements.lock that no index has.\n")
        (folder / "requirements.lock").write_text(lock)
        (folder / "entrypoint.py").write_bytes(Path(entrypoint.__file__).read_bytes())
        (folder / "penstock.toml").write_text(policy_toml(found.pipeline, workspace.settings.policy(found.pipeline)))
        (folder / "Dockerfile").write_text(text)
        (folder / ".dockerignore").write_text(_IGNORED)
        (folder / "README.md").write_text(_readme(found, name))
    return ExportedImage(release=str(found.ref), hash=found.hash, path=str(target), image=name)


def dockerfile(release: Release, manifest: Manifest) -> str:
    """Return the Dockerfile of a release. Arguments are JSON, as Docker reads them, never text put into a line.

    Raises:
        InputError: The release names no Python that there are images of.
    """
    python = str(manifest.environment.get("python", ""))
    if not _PYTHON.fullmatch(python):
        raise InputError(
            f"{release.ref} was made with Python {python!r}, of which there is no image.",
            hint="make a new release with a released version of Python",
        )
    packages = manifest.environment.get("packages", {})
    lines = [
        f"FROM python:{python}-slim",
        _set("PENSTOCK_HOME", HOME),
        _set("PYTHONDONTWRITEBYTECODE", "1"),
        _set("HOME", "/tmp"),  # noqa: S108  # the only other place that can be written
    ]
    if _NEEDS_OPENMP & packages.keys():
        lines.append(_do("RUN", "apt-get", "update"))
        lines.append(_do("RUN", "apt-get", "install", "--yes", "--no-install-recommends", "libgomp1"))
    lines += [
        f"WORKDIR {_APP}",
        _do("RUN", "useradd", "--uid", str(USER), "--no-create-home", "--shell", "/usr/sbin/nologin", "penstock"),
        _do("RUN", "install", "-d", "-o", str(USER), "-g", str(USER), HOME),
        _do("COPY", "requirements.lock", f"{_APP}/"),
        _do("COPY", "wheels", f"{_APP}/wheels/"),
        _do(
            *("RUN", "python", "-m", "pip", "install", "--no-cache-dir", "--no-deps"),
            *("--find-links", f"{_APP}/wheels", "-r", f"{_APP}/requirements.lock"),
        ),
        _do("COPY", "entrypoint.py", "penstock.toml", "release.penstock", f"{_APP}/"),
        f"USER {USER}:{USER}",
        _do("VOLUME", HOME),
        f"EXPOSE {entrypoint.PORT}",
        "STOPSIGNAL SIGTERM",
        "HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 "
        + _do("CMD", "python", "-P", f"{_APP}/entrypoint.py", "--check"),
        _do("ENTRYPOINT", "python", "-P", f"{_APP}/entrypoint.py", str(release.ref)),
        _do("CMD", *listening()),
    ]
    return "\n".join(lines) + "\n"


def listening() -> tuple[str, ...]:
    """Return the options with which a container listens: on every address, which needs keys, on its port."""
    return ("--host", "0.0.0.0", "--port", str(entrypoint.PORT))  # noqa: S104  # refused at start without keys


def policy_toml(pipeline: str, policy: LoopPolicy) -> str:
    """Return the settings of a server in a container: the few that are no part of the release."""
    lines = [f"# What a server of {pipeline} is told beside its release."]
    if policy.explore:
        lines += [f"[{json.dumps(pipeline)}]", f"explore = {json.dumps(policy.explore)}"]
    if policy.serve.keep is not None:
        parse_duration(policy.serve.keep)
        lines += [f"[{json.dumps(pipeline)}.serve]", f"keep = {json.dumps(policy.serve.keep)}"]
    return "\n".join(lines) + "\n"


def _do(instruction: str, *arguments: str) -> str:
    return f"{instruction} {json.dumps(list(arguments))}"


def _set(name: str, value: str) -> str:
    return f"ENV {name}={json.dumps(value)}"


def _readme(release: Release, image: str) -> str:
    built = shlex.quote(image)
    return f"""# {release.ref} as a container

Build and run it; `PENSTOCK_SERVE_KEYS` holds the keys of which a caller must show one (32 characters at least):

    docker build --tag {built} .
    export PENSTOCK_SERVE_KEYS="$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')"
    docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \\
        --volume {release.pipeline}-predictions:{HOME} --env PENSTOCK_SERVE_KEYS --publish 127.0.0.1:8000:8000 {built}
    curl --silent http://localhost:8000/readyz

- `requirements.lock` is the exact environment that the release was made in. Wheels that no index has go into `wheels/`.
- Callers that ask for another name than localhost need it said: `--name api.example` after the image, with
  `--host 0.0.0.0 --port 8000`.
- Predictions are kept in `{HOME}`: without a volume they go with the container.
"""
