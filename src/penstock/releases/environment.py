"""The environment a release was made in: its exact versions, as a lock file, and what differs from them here.

Belongs here: versions of installed distributions. What code imports is found by `pipeline.fingerprint`.
"""

import importlib.metadata
import platform
import re
from pathlib import PurePath
from typing import Any

from penstock.core.errors import InputError
from penstock.core.installed import is_installed
from penstock.releases.manifest import Manifest

_SEPARATORS = re.compile(r"[-_.]+")
_LINE = {field: re.compile(rf"^{field}:[ \t]*(\S+)", re.MULTILINE) for field in ("Name", "Version")}
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")


def _is_vendored(folder: str) -> bool:
    """Whether a folder of distributions is inside one that is installed, which puts it on the path, as Ray does."""
    return is_installed(PurePath(folder).parent)


def environment() -> dict[str, Any]:
    """Return the exact versions of Python and of every installed distribution, by normalised name."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        if _is_vendored(str(distribution.locate_file(""))):
            continue
        # Two lines of each file: parsing all of them takes longer than a run in which nothing changed.
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        name, version = _LINE["Name"].search(text), _LINE["Version"].search(text)
        if name is not None and version is not None:
            found.setdefault(_normal(name[1]), version[1])  # the first on the path is what is imported
    return {"python": platform.python_version(), "packages": dict(sorted(found.items()))}


def imported(manifest: Manifest) -> dict[str, str]:
    """Return the released versions of the packages that the pipeline's code imports."""
    locked: dict[str, str] = manifest.environment.get("packages", {})
    names = sorted({_normal(name) for node in manifest.graph.nodes for name in node.code.packages})
    return {name: locked.get(name, "not installed") for name in names}


def environment_differences(manifest: Manifest) -> list[str]:
    """Say which packages that the code of a release imports are of another version here.

    Returns:
        One text per package (and for Python), as "scikit-learn 1.5.2 -> 1.6.0"; empty when nothing differs.
    """
    released = manifest.environment
    differing = []
    if "python" in released and released["python"] != platform.python_version():
        differing.append(f"python {released['python']} -> {platform.python_version()}")
    for name, before in imported(manifest).items():
        now = _installed(name)
        if before != now:
            differing.append(f"{name} {before} -> {now}")
    return differing


def lock_text(manifest: Manifest) -> str:
    """Return the environment of a release as a requirements file of exact versions, for `pip install -r`.

    Raises:
        InputError: A name or version is none, so that pip would read it as something else.
    """
    packages: dict[str, str] = manifest.environment.get("packages", {})
    for name, version in packages.items():
        # Imported manifests were written by others: a line like "--index-url ..." must not reach pip.
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            raise InputError(
                f"The environment of a release of {manifest.pipeline!r} has an unusable entry: {name!r} {version!r}.",
                hint="make a new release with `penstock run`",
            )
    python = str(manifest.environment.get("python", "")).strip()
    if not _VERSION.fullmatch(python):
        raise InputError(
            f"The environment of a release of {manifest.pipeline!r} names no Python version.",
            hint="make a new release with `penstock run`",
        )
    lines = [f"# {manifest.pipeline}: the environment of the release, Python {python}"]
    lines += [f"{name}=={version}" for name, version in sorted(packages.items())]
    return "\n".join(lines) + "\n"


def _normal(name: str) -> str:
    """Return a distribution's name as PEP 503 normalises it."""
    return _SEPARATORS.sub("-", name).lower()


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
