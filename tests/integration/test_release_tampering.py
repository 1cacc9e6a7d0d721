"""A release that is not what was released is never served, and one that meets other packages says so."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "releases"))
from released_parts import make_manifest

from penstock.core.errors import DamagedError, DiskFullError
from penstock.core.refs import ReleaseRef
from penstock.releases.archive import export_release, import_release
from penstock.releases.manifest import decode_manifest, encode_manifest
from penstock.serving.processes.background import start
from penstock.serving.processes.supervisor import LiveRelease, ServeOptions
from penstock.serving.program.load import answers, load_program
from penstock.store import codecs
from penstock.store.blobs import Blobs


@pytest.fixture(autouse=True)
def own_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the user's module before and after: one release per process is the rule elsewhere."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "released_code", raising=False)


def load(home: Path, digest: str) -> list[Any]:
    """Load the release as a worker does, with nothing known of its blobs, and ask it."""
    sys.modules.pop("released_code", None)
    blobs = Blobs(home / "blobs")
    program = load_program(decode_manifest(blobs.read(digest)), blobs, home / "code")
    return answers(program, "find", [{"movie_id": 1}])


def test_any_flipped_byte_of_a_served_blob_is_refused_and_named(tmp_path: Path) -> None:
    """Manifest, code, model, each part of it, frozen frame: also beside a laid-out snapshot."""
    blobs = Blobs(tmp_path / "blobs")
    manifest = make_manifest(blobs)
    digest = blobs.put(encode_manifest(manifest))
    served = [digest, *(f.digest for f in manifest.graph.files)]
    for artifact in manifest.serving["find"].values():
        served += codecs.blobs_of(artifact, blobs)
    assert len(served) == 5
    assert load(tmp_path, digest) == ["AlienAlien"]
    for one in served:
        path = blobs.path(one)
        whole = path.read_bytes()
        path.chmod(0o600)
        for place in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(DamagedError, match=one):
                load(tmp_path, digest)
        path.write_bytes(whole)
    assert load(tmp_path, digest) == ["AlienAlien"]


def test_a_changed_code_snapshot_is_refused(tmp_path: Path) -> None:
    """The folder that is imported from is a cache; other bytes in it are never run."""
    blobs = Blobs(tmp_path / "blobs")
    digest = blobs.put(encode_manifest(make_manifest(blobs)))
    load(tmp_path, digest)
    (laid_out,) = (tmp_path / "code").rglob("released_code.py")
    laid_out.chmod(0o600)
    laid_out.write_text("def find(titles, model, *, movie_id): return 'mine'\n")
    with pytest.raises(DamagedError, match=r"holds other bytes than it should in 'released_code\.py'"):
        load(tmp_path, digest)


def test_serving_says_once_that_packages_differ(tmp_path: Path) -> None:
    """However many workers load the release; nothing is said where nothing differs."""
    blobs = Blobs(tmp_path / "blobs")
    manifest = make_manifest(blobs)
    release = LiveRelease(ref=ReleaseRef("movies", 1), manifest=blobs.put(encode_manifest(manifest)))
    with capture_logs() as logs:
        server = start(
            ServeOptions(pipeline="movies", home=tmp_path, current_release=lambda: release, port=0, workers=2)
        )
        server.stop()
    said = [entry for entry in logs if entry["event"] == "release_environment_differs"]
    assert len(said) == 1
    assert said[0]["release"] == "movies@1"
    assert any(text.startswith("polars 1.30.0 -> ") for text in said[0]["differing"])
    assert not any("scikit-learn" in text for text in said[0]["differing"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_fills_up_leaves_no_release_file(small_disk: Path, tmp_path: Path) -> None:
    """The error says what is needed; an import into a full store leaves whole blobs only."""
    blobs = Blobs(tmp_path / "here" / "blobs")
    manifest = make_manifest(blobs)
    large = codecs.save({"text": "x" * 2**18}, blobs)
    manifest = msgspec.structs.replace(manifest, serving={"find": {"model": large}})
    digest = blobs.put(encode_manifest(manifest))
    with pytest.raises(DiskFullError, match="No space to write"):
        export_release(digest, blobs, small_disk / "movies.penstock")
    assert not list(small_disk.iterdir())
    packed = export_release(digest, blobs, tmp_path / "movies.penstock")
    there = Blobs(small_disk / "blobs")
    with pytest.raises(DiskFullError, match="No space to write"):
        import_release(packed, there)
    for one in there.digests():
        there.verify(one)
    assert not list(there.temporary.iterdir())
