"""Two exports to one name: whoever is second says so, and harms nothing."""

from pathlib import Path

import pytest
from released_parts import make_manifest

from penstock.core.errors import InputError
from penstock.releases.archive import export_release
from penstock.releases.manifest import encode_manifest
from penstock.store.blobs import Blobs


class Overtaken(Blobs):
    """Blobs of an exporter that another one overtakes: the other's file is there before this one's is packed."""

    target: Path

    def path(self, digest: str, *, size_bytes: int | None = None) -> Path:
        self.target.write_bytes(b"theirs")
        return super().path(digest, size_bytes=size_bytes)


def test_a_file_that_came_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """Of two exports to one name the second says so, however close they are; nothing half-written stays."""
    blobs = Blobs(tmp_path / "blobs")
    manifest = make_manifest(blobs)
    folder = tmp_path / "out"
    folder.mkdir()
    slow = Overtaken(blobs.root)
    slow.target = folder / "movies.penstock"
    with pytest.raises(InputError, match="exists already"):
        export_release(blobs.put(encode_manifest(manifest)), slow, slow.target)
    assert slow.target.read_bytes() == b"theirs"
    assert list(folder.iterdir()) == [slow.target]
