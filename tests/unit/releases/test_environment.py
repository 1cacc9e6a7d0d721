"""The exact versions a release was made with, and what differs from them here."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from released_parts import make_manifest

from penstock.core.errors import InputError
from penstock.releases.environment import environment, environment_differences, lock_text
from penstock.releases.manifest import Manifest
from penstock.store.blobs import Blobs


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_manifest(Blobs(tmp_path / "blobs"))


def in_environment(manifest: Manifest, packages: dict[str, Any], python: str | None = None) -> Manifest:
    found = {"python": python or platform.python_version(), "packages": packages}
    return msgspec.structs.replace(manifest, environment=found)


def test_the_environment_names_exact_versions() -> None:
    """Of Python and of everything installed, by normalised name."""
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["packages"]["polars"] == version("polars")
    assert found["packages"]["typing-extensions"] == version("typing_extensions")
    assert list(found["packages"]) == sorted(found["packages"])


def test_the_same_environment_differs_in_nothing(manifest: Manifest) -> None:
    """No warning where all is as it was."""
    assert environment_differences(in_environment(manifest, environment()["packages"])) == []


def test_only_packages_that_the_code_imports_are_named(manifest: Manifest) -> None:
    """A release need not care for the rest of its machine."""
    other = in_environment(manifest, {"polars": "1.29.0", "scikit-learn": "0.1"})
    assert environment_differences(other) == [f"polars 1.29.0 -> {version('polars')}"]


def test_a_package_or_python_may_be_gone_or_another(manifest: Manifest) -> None:
    """Each is said in words."""
    node = manifest.graph.nodes[0]
    code = msgspec.structs.replace(node.code, packages={"No_Such.Package": "1.0"})
    graph = msgspec.structs.replace(manifest.graph, nodes=(msgspec.structs.replace(node, code=code),))
    other = in_environment(msgspec.structs.replace(manifest, graph=graph), {"no-such-package": "1.0"}, python="3.10.1")
    assert environment_differences(other) == [
        f"python 3.10.1 -> {platform.python_version()}",
        "no-such-package 1.0 -> not installed",
    ]


def test_a_lock_pins_every_version(manifest: Manifest) -> None:
    """It is what pip reads."""
    assert lock_text(manifest) == (
        "# movies: the environment of the release, Python 3.11.7\npolars==1.30.0\nscikit-learn==1.5.2\n"
    )


@pytest.mark.parametrize(
    "packages",
    [
        {"--index-url http://evil": "1"},
        {"polars": "1.0\n--index-url http://evil"},
        {"polars": "1.0 ; python_version > '3'"},
        {"polars @ http://evil/x.whl": "1"},
        {"polars": ""},
        {"": "1.0"},
        {"polars": "1.0\n"},
    ],
    ids=repr,
)
def test_an_imported_release_cannot_speak_to_pip(packages: dict[str, str], manifest: Manifest) -> None:
    """A lock of a release made by others holds names and versions, or is refused."""
    with pytest.raises(InputError, match="unusable entry"):
        lock_text(in_environment(manifest, packages))
    with pytest.raises(InputError, match="names no Python version"):
        lock_text(in_environment(manifest, {}, python="3.11\n-r /etc/passwd"))


def test_what_an_installed_package_brings_inside_itself_is_not_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T6: a release has one hash, whether Ray, which puts a folder of its own on the path, was imported or not."""
    before = environment()
    vendored = tmp_path / "site-packages" / "ray" / "thirdparty_files"
    (vendored / "colours-0.4.6.dist-info").mkdir(parents=True)
    (vendored / "colours-0.4.6.dist-info" / "METADATA").write_text("Name: colours\nVersion: 0.4.6\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(vendored))
    assert environment() == before
    monkeypatch.syspath_prepend(str(vendored.rename(tmp_path / "mine")))
    assert environment()["packages"]["colours"] == "0.4.6"
