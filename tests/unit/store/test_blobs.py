"""Blobs: bytes are kept once, whole, and never given back changed."""

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from blake3 import blake3

from penstock.core.clock import Clock
from penstock.core.errors import DamagedError, DiskFullError, StoreError
from penstock.store.blobs import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def damage(path: Path, *, at: int = 0) -> None:
    """Flip one bit of the file as a failing disk would: no rename, no new file."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000, 5_000_000])
def test_bytes_come_back_under_their_blake3_digest(blobs: Blobs, size: int) -> None:
    data = os.urandom(size)
    digest = blobs.put(data)
    assert digest == blake3(data).hexdigest()
    assert blobs.read(digest) == data
    assert digest in blobs
    assert list(blobs.digests()) == [digest]
    assert list(blobs.temporary.iterdir()) == []


def test_a_blob_is_a_read_only_file_named_by_its_digest(blobs: Blobs) -> None:
    digest = blobs.put(b"abc")
    path = blobs.path(digest)
    assert path == blobs.root / digest[:2] / digest[2:]
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_the_same_bytes_are_kept_once(blobs: Blobs, tmp_path: Path) -> None:
    digest = blobs.put(b"abc" * 1000)
    inode = blobs.path(digest).stat().st_ino
    twin = tmp_path / "twin"
    twin.write_bytes(b"abc" * 1000)
    with blobs.sink() as sink:
        sink.write(b"abc" * 1000)
        assert blobs.keep(sink) == digest
    assert blobs.put(b"abc" * 1000) == blobs.put_file(twin) == digest
    assert blobs.path(digest).stat().st_ino == inode
    assert not twin.exists()


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_file_is_taken_over(blobs: Blobs, tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(size))
    inode = file.stat().st_ino
    digest = blobs.put_file(file)
    assert not file.exists()
    assert blobs.path(digest).stat().st_ino == inode


def test_a_link_is_copied_not_followed_into_the_store(blobs: Blobs, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"abc")
    link.symlink_to(target)
    assert blobs.read(blobs.put_file(link)) == b"abc"
    assert target.read_bytes() == b"abc"


def test_a_flipped_bit_is_refused_with_both_digests(blobs: Blobs) -> None:
    digest = blobs.put(b"x" * 200_000)
    damage(blobs.path(digest), at=150_000)
    found = blake3(blobs.path(digest).read_bytes()).hexdigest()
    for look in (blobs.check, blobs.verify, blobs.read):
        with pytest.raises(DamagedError, match=f"{digest}.*{found}"):
            look(digest)


def test_a_flip_that_hides_from_the_clock_is_found_by_a_full_look(blobs: Blobs) -> None:
    digest = blobs.put(b"x" * 200_000)
    path = blobs.path(digest)
    before = path.stat()
    damage(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DamagedError, match=digest):
        blobs.verify(digest)


def test_a_short_or_missing_file_is_refused(blobs: Blobs) -> None:
    digest = blobs.put(b"x" * 1000)
    path = blobs.path(digest)
    path.chmod(0o600)
    os.truncate(path, 999)
    with pytest.raises(DamagedError, match=r"has 999 bytes, 1000 were stored"):
        blobs.path(digest, size_bytes=1000)
    with pytest.raises(DamagedError, match=digest):
        blobs.check(digest)
    path.unlink()
    with pytest.raises(DamagedError, match="is missing"):
        blobs.check(digest)


def test_putting_the_bytes_again_mends_a_damaged_blob(blobs: Blobs) -> None:
    digest = blobs.put(b"x" * 1000)
    damage(blobs.path(digest))
    assert blobs.put(b"x" * 1000) == digest
    assert blobs.read(digest) == b"x" * 1000


def test_another_process_sees_damage_too(blobs: Blobs) -> None:
    digest = blobs.put(b"x" * 1000)
    assert Blobs(blobs.root).check(digest).is_file()
    damage(blobs.path(digest))
    with pytest.raises(DamagedError, match=digest):
        Blobs(blobs.root).check(digest)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "a" * 63, "A" * 64, "g" * 64])
def test_only_a_digest_names_a_blob(blobs: Blobs, name: str) -> None:
    with pytest.raises(DamagedError, match="is not a digest"):
        blobs.path(name)


@pytest.mark.parametrize("point", ["blob_mid_write", "blob_after_fsync"])
@pytest.mark.parametrize("action", ["kill", "error", "full"])
def test_a_fault_while_writing_leaves_no_blob(tmp_path: Path, point: str, action: str) -> None:
    code = (
        "import sys, pathlib; from penstock.store.blobs import Blobs;Blobs(pathlib.Path(sys.argv[1])).put(b'x' * 10**6)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "blobs")],
        env={**os.environ, "PENSTOCK_FAULT": f"{point}:{action}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    blobs = Blobs(tmp_path / "blobs")
    assert list(blobs.digests()) == []
    left = list(blobs.temporary.iterdir())
    if action == "kill":
        later = Blobs(blobs.root, Clock(now=lambda: datetime.now(UTC) + timedelta(hours=1)))
        assert later.stale_temporaries(60) == left
        assert len(left) == 1
    else:
        assert left == []
        assert ("DiskFullError" if action == "full" else "StoreError") in done.stderr


def test_a_full_disk_says_how_many_bytes_were_needed(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_FAULT", "blob_mid_write:full")
    with pytest.raises(DiskFullError, match="1234567 bytes needed"):
        blobs.put(b"x" * 1234567)
    assert list(blobs.temporary.iterdir()) == []


def test_a_directory_that_refuses_is_a_store_error(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    (tmp_path / "tmp").write_text("a file where a directory should be")
    with pytest.raises(StoreError, match="failed: File exists"):
        blobs.put(b"abc")


def test_what_is_used_again_begins_its_grace_anew(blobs: Blobs) -> None:
    """A run that finds its code kept already may take as long to record it as one that has just put it."""
    used, unused = blobs.put(b"used again"), blobs.put(b"unused")
    later = Blobs(blobs.root, Clock(now=lambda: Clock().now() + timedelta(days=2)))
    assert later.renew([used])
    assert not later.renew([used, "0" * 64])
    assert later.sweep((), grace_s=3600, dry_run=False) == [unused]


def test_sweep_removes_what_nothing_keeps_after_its_grace(blobs: Blobs) -> None:
    kept, lost = blobs.put(b"kept"), blobs.put(b"lost")
    later = Blobs(blobs.root, Clock(now=lambda: datetime.now(UTC) + timedelta(hours=2)))
    assert blobs.sweep({kept}, grace_s=3600, dry_run=False) == []
    assert later.sweep({kept}, grace_s=3600) == [lost]
    assert lost in blobs
    assert later.sweep({kept}, grace_s=3600, dry_run=False) == [lost]
    assert list(blobs.digests()) == [kept]


def test_putting_bytes_again_renews_their_grace(blobs: Blobs) -> None:
    digest = blobs.put(b"abc")
    old = blobs.path(digest).stat().st_mtime - 7200
    os.utime(blobs.path(digest), (old, old))
    later = Blobs(blobs.root)
    later.verify(digest)  # reading may count as access, so the age is set again
    os.utime(blobs.path(digest), (old, old))
    assert later.sweep((), grace_s=3600) == [digest]
    assert later.put(b"abc") == digest
    assert later.sweep((), grace_s=3600) == []


def test_delete_is_final_and_idempotent(blobs: Blobs) -> None:
    digest = blobs.put(b"abc")
    blobs.delete(digest)
    blobs.delete(digest)
    assert digest not in blobs


def test_writing_leaves_nothing_behind(blobs: Blobs) -> None:
    with blobs.writing() as path:
        path.mkdir()
        (path / "file").write_bytes(b"abc")
    assert not path.exists()
    with blobs.writing() as path:
        path.write_bytes(b"abc")
        digest = blobs.put_file(path)
    assert blobs.read(digest) == b"abc"


def test_many_processes_may_put_the_same_bytes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from penstock.store.blobs import Blobs; b = Blobs(pathlib.Path(sys.argv[1]));"
        "print([b.put(bytes([i]) * 100_000) for i in range(20)])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "blobs")]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {writer.communicate()[0] for writer in writers}
    assert all(writer.returncode == 0 for writer in writers)
    assert len(answers) == 1
    blobs = Blobs(tmp_path / "blobs")
    assert len(list(blobs.digests())) == 20
    for digest in blobs.digests():
        blobs.verify(digest)
