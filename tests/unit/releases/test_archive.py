"""A release as one file: whole or not there, the same bytes each time, and read as a stranger's on the way in."""

import io
import os
import signal
import stat
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from released_parts import make_manifest

from penstock.core.digest import canonical_json, digest_bytes
from penstock.core.errors import DamagedError, InputError, PenstockError
from penstock.core.records import Artifact
from penstock.pipeline.graph import CodeFile
from penstock.pipeline.snapshot import lay_out
from penstock.releases.archive import export_release, import_release, needed
from penstock.releases.manifest import Manifest, encode_manifest, manifest_hash
from penstock.store import codecs
from penstock.store.blobs import Blobs
from penstock.store.codecs.codec import Listing

JSON = "manifest.json"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "here" / "blobs")


@pytest.fixture
def manifest(blobs: Blobs) -> Manifest:
    return make_manifest(blobs)


@pytest.fixture
def there(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "there" / "blobs")


@pytest.fixture
def packed(manifest: Manifest, blobs: Blobs, tmp_path: Path) -> Path:
    return export_release(blobs.put(encode_manifest(manifest)), blobs, tmp_path / "movies-1.penstock")


def entries_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, entries: dict[Any, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore", UserWarning)  # of names that come twice
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_a_release_travels_with_what_serving_needs_and_nothing_more(
    manifest: Manifest, blobs: Blobs, packed: Path, there: Blobs
) -> None:
    """Code, models and frozen frames; no evaluation rows."""
    found, digest = import_release(packed, there)
    assert digest == manifest_hash(manifest) == manifest_hash(found)
    assert set(there.digests()) == {digest, *needed(manifest, blobs)}
    assert manifest.evaluations["quality"].rows["model"].digest not in there
    titles = codecs.load(found.serving["find"]["titles"], there, form="polars")
    assert isinstance(titles, pl.DataFrame)
    assert titles["title"].to_list() == ["Alien", "Brazil"]
    model = codecs.load(found.artifacts["model/model"], there)
    assert isinstance(model, dict)
    assert model["weights"].shape == (2, 1)


def test_the_same_release_is_the_same_file(packed: Path, there: Blobs, tmp_path: Path) -> None:
    """Whenever and wherever it is exported; also when it was imported itself."""
    _, digest = import_release(packed, there)
    for path in (there.path(d) for d in there.digests()):
        os.utime(path, (0, 0))  # no time of a file enters
    again = export_release(digest, there, tmp_path / "again.penstock")
    assert again.read_bytes() == packed.read_bytes()
    assert import_release(again, there)[1] == digest


def test_an_existing_file_is_left_alone(manifest: Manifest, blobs: Blobs, tmp_path: Path) -> None:
    """The person says another name."""
    target = tmp_path / "mine"
    target.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        export_release(blobs.put(encode_manifest(manifest)), blobs, target)
    assert target.read_bytes() == b"mine"


def test_a_damaged_release_is_not_exported(manifest: Manifest, blobs: Blobs, tmp_path: Path) -> None:
    """The blob is named and no file is left."""
    folder = tmp_path / "out"
    folder.mkdir()
    digest = blobs.put(encode_manifest(manifest))
    damage(blobs.path(manifest.artifacts["model/model"].digest))
    with pytest.raises(DamagedError, match=manifest.artifacts["model/model"].digest):
        export_release(digest, blobs, folder / "movies.penstock")
    assert not list(folder.iterdir())


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_a_killed_export_leaves_no_file_and_its_remains_go(manifest: Manifest, blobs: Blobs, tmp_path: Path) -> None:
    """The name appears whole or not at all; the next export cleans up."""
    digest = blobs.put(encode_manifest(manifest))
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "movies [1].penstock"
    program = (
        "import os, signal, sys, zipfile\n"
        "from pathlib import Path\n"
        "from penstock.releases.archive import export_release\n"
        "from penstock.store.blobs import Blobs\n"
        "close = zipfile.ZipFile.close\n"
        "zipfile.ZipFile.close = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        "export_release(sys.argv[1], Blobs(Path(sys.argv[2])), Path(sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", program, digest, str(blobs.root), str(target)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [p.name[-5:] for p in folder.iterdir()] == [".part"]
    assert export_release(digest, blobs, target) == target
    assert list(folder.iterdir()) == [target]


# What may be wrong with a file, as changes of its entries by name.
Corrupt = Callable[[dict[Any, bytes]], dict[Any, bytes]]


def _named(name: str) -> Corrupt:
    return lambda entries: entries | {name: b"x"}


def _attributed(mode: int) -> Corrupt:
    def change(entries: dict[Any, bytes]) -> dict[Any, bytes]:
        name = next(n for n in entries if n != JSON)
        entry = zipfile.ZipInfo(name)
        entry.create_system = 3
        entry.external_attr = mode << 16
        data = entries.pop(name)
        return entries | {entry: data}

    return change


def _with_manifest(data: bytes) -> Corrupt:
    return lambda entries: entries | {JSON: data}


def _edited(edit: Callable[[dict[str, Any]], object]) -> Corrupt:
    def change(entries: dict[Any, bytes]) -> dict[Any, bytes]:
        plain = msgspec.json.decode(entries[JSON])
        edit(plain)
        return entries | {JSON: msgspec.json.encode(plain)}

    return change


def _file(path: str) -> Corrupt:
    return _edited(lambda m: m["graph"]["files"][0].update(path=path))


def _digest(digest: str) -> Corrupt:
    return _edited(lambda m: m["graph"]["files"][0].update(digest=digest))


def _twice(entries: dict[Any, bytes]) -> dict[Any, bytes]:
    return entries | {zipfile.ZipInfo(JSON): entries[JSON]}


def _swapped(entries: dict[Any, bytes]) -> dict[Any, bytes]:
    one, other = [n for n in entries if n != JSON][:2]
    return entries | {one: entries[other], other: entries[one]}


def _without(entries: dict[Any, bytes]) -> dict[Any, bytes]:
    del entries[next(n for n in entries if n != JSON)]
    return entries


def _nested_zip(entries: dict[Any, bytes]) -> dict[Any, bytes]:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("../x", b"x")
    return entries | {"inner.zip": inner.getvalue()}


def _unasked(entries: dict[Any, bytes]) -> dict[Any, bytes]:
    return entries | {f"blobs/{digest_bytes(b'junk')}": b"junk"}


def _newer(m: dict[str, Any]) -> None:
    m.clear()
    m.update({"format": 3, "shape": "another"})


NO_ENTRY = "holds an entry that no release file has"
CORPUS: dict[str, tuple[Corrupt, str]] = {
    "absolute": (_named("/etc/passwd"), NO_ENTRY),
    "upwards": (_named("../../x"), NO_ENTRY),
    "upwards below blobs": (_named("blobs/../../x"), NO_ENTRY),
    "backslash": (_named("blobs\\..\\x"), NO_ENTRY),
    "drive": (_named("C:\\x"), NO_ENTRY),
    "unc": (_named("//host/share"), NO_ENTRY),
    "full width": (_named("blobs/\uff0e\uff0e/x"), NO_ENTRY),
    "directory": (_named("blobs/"), NO_ENTRY),
    "upper case digest": (_named("blobs/" + "A" * 64), NO_ENTRY),
    "long digest": (_named("blobs/" + "a" * 65), NO_ENTRY),
    "newline": (_named("blobs/" + "a" * 64 + "\n"), NO_ENTRY),
    "empty": (_named(" "), NO_ENTRY),
    "unknown": (_named("readme.txt"), NO_ENTRY),
    "nested zip": (_nested_zip, NO_ENTRY),
    "symlink": (_attributed(stat.S_IFLNK | 0o777), NO_ENTRY),
    "character device": (_attributed(stat.S_IFCHR | 0o666), NO_ENTRY),
    "block device": (_attributed(stat.S_IFBLK | 0o666), NO_ENTRY),
    "fifo": (_attributed(stat.S_IFIFO | 0o666), NO_ENTRY),
    "directory mode": (_attributed(stat.S_IFDIR | 0o777), NO_ENTRY),
    "twice": (_twice, "holds 'manifest.json' twice"),
    "not asked for": (_unasked, "which its manifest does not lead to"),
    "swapped": (_swapped, "hashes to"),
    "blob missing": (_without, "lacks blob"),
    "no manifest": (lambda e: {n: d for n, d in e.items() if n != JSON}, "it has no manifest.json"),
    "manifest empty": (_with_manifest(b""), "is not readable"),
    "manifest not JSON": (_with_manifest(b"\x80pickle"), "is not readable"),
    "manifest not UTF-8": (_with_manifest(b'{"format":1,"goal":"\xff"}'), "is not readable"),
    "manifest nested deeply": (_with_manifest(b'{"format":1,"now":' + b"[" * 100_000), "is not readable"),
    "manifest of another shape": (_with_manifest(b'{"format":1}'), "is not readable"),
    "manifest a list": (_with_manifest(b"[]"), "is not readable"),
    "format not a number": (_with_manifest(b'{"format":"1"}'), "is not readable"),
    "newer format": (_edited(_newer), "has format 3; this Penstock reads up to 2. Hint: upgrade Penstock here"),
    "older format": (_edited(lambda m: m.update(format=0)), "has format 0; this Penstock reads up to 2. Hint: export"),
    "manifest with spaces": (lambda e: e | {JSON: e[JSON].replace(b":", b": ")}, "not as Penstock writes it"),
    "names twice": (lambda e: e | {JSON: b'{"format":1,' + e[JSON][1:]}, "not as Penstock writes it"),
    "environment of another shape": (_edited(lambda m: m["environment"].update(packages=[1])), "is not readable"),
    "digest upwards": (_digest("../../x"), "which is no digest"),
    "digest short": (_digest("ab"), "which is no digest"),
    "digest absolute": (_digest("/etc/passwd"), "which is no digest"),
    "artifact digest upwards": (
        _edited(lambda m: m["artifacts"]["model/model"].update(digest="../" * 20 + "etc/passwd")),
        "which is no digest",
    ),
    "serving digest upwards": (
        _edited(lambda m: m["serving"]["find"]["titles"].update(digest="..")),
        "which is no digest",
    ),
    "rows digest upwards": (
        _edited(lambda m: m["evaluations"]["quality"]["rows"]["model"].update(digest="..")),
        "which is no digest",
    ),
    "dataset digest": (_edited(lambda m: m["datasets"]["titles"].update(digest="x")), "which is no digest"),
    "champion": (_edited(lambda m: m.update(champion="x")), "which is no digest"),
    "unknown codec": (
        _edited(lambda m: m["serving"]["find"]["titles"].update(codec="pickle")),
        "codec 'pickle', which is not known here",
    ),
    "pipeline name": (_edited(lambda m: m.update(pipeline="../x")), "'../x' is not a usable pipeline"),
    "two pipelines": (_edited(lambda m: m["graph"].update(pipeline="books")), "is of two pipelines"),
    "import root upwards": (_edited(lambda m: m["graph"].update(import_root="../..")), "imports from outside"),
    "import root absolute": (_edited(lambda m: m["graph"].update(import_root="/tmp")), "imports from outside"),
    "a file that is a directory": (
        _edited(lambda m: m["graph"]["files"].append(m["graph"]["files"][0] | {"path": "released_code.py/x.py"})),
        "as a directory too",
    ),
    "a file twice": (_edited(lambda m: m["graph"]["files"].append(m["graph"]["files"][0])), "names a file twice"),
    **{
        f"file {path!r}": (_file(path), "names a file outside its code")
        for path in (
            "/etc/x", "../x.py", "a/../../x", "a\\..\\x", "C:x.py", "", ".", "a//b.py", "./a.py", "a/", "a\0b", "a\nb",
            "a" * 256, "b/" * 600 + "a",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CORPUS)
def test_hostile_files_are_refused(case: str, packed: Path, there: Blobs, tmp_path: Path) -> None:
    """One clear error; what was written is whole blobs in the store, and nothing else anywhere."""
    corrupt, message = CORPUS[case]
    file = write(tmp_path / "bad.penstock", corrupt(entries_of(packed)))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(PenstockError) as caught:
        import_release(file, there)
    assert message in str(caught.value)
    assert caught.value.hint
    for path in set(tmp_path.rglob("*")) - before:
        assert path == there.temporary or path.is_relative_to(there.root) or path == there.root.parent
    for digest in there.digests():
        there.verify(digest)
    assert not any(there.temporary.glob("*"))


def test_a_name_that_is_cut_at_nul_is_refused(packed: Path, there: Blobs, tmp_path: Path) -> None:
    """Readers that cut and readers that do not would see different files."""
    entries = entries_of(packed)
    file = write(tmp_path / "bad.penstock", {"manifest.jsonX../x": b"x", **entries})
    file.write_bytes(file.read_bytes().replace(b"manifest.jsonX../x", b"manifest.json\0../x"))
    with pytest.raises(InputError, match="no release file has"):
        import_release(file, there)


def test_compressed_entries_are_refused(packed: Path, there: Blobs, tmp_path: Path) -> None:
    """A bomb has no way in: what an entry holds is what the file holds."""
    bomb = {JSON: b"0" * 2**24}
    file = write(tmp_path / "bomb.penstock", {**bomb}, compression=zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 2**17
    with pytest.raises(InputError, match="no release file has"):
        import_release(file, there)


def _patched(data: bytes, offset: int, value: int) -> bytes:
    """Return the file with a 32-bit field of every entry of the directory replaced."""
    found = bytearray(data)
    place = data.find(b"PK\1\2")
    while place >= 0:
        struct.pack_into("<I", found, place + offset, value)
        place = data.find(b"PK\1\2", place + 1)
    return bytes(found)


@pytest.mark.parametrize(
    ("offset", "value"), [(20, 2**31), (24, 2**31), (42, 2**31), (42, 0), (8, 1), (6, 99)],
    ids=["packed size", "size", "place", "overlapping", "encrypted", "version"],
)  # fmt: skip
def test_a_directory_that_lies_is_refused(offset: int, value: int, packed: Path, there: Blobs, tmp_path: Path) -> None:
    """Huge sizes over little data, places outside the file, entries that overlap."""
    file = tmp_path / "bad.penstock"
    file.write_bytes(_patched(packed.read_bytes(), offset, value))
    with pytest.raises((InputError, DamagedError)):
        import_release(file, there)
    assert not list(there.digests())


def test_entries_that_overlap_cannot_hold_more_than_the_file(there: Blobs, tmp_path: Path) -> None:
    """A megabyte that every entry of the directory points to is no gigabyte."""
    file = write(tmp_path / "bad.penstock", {f"blobs/{i:064x}": b"0" * 2**16 for i in range(8)})
    data = _patched(file.read_bytes(), 42, 0)
    directory = data.index(b"PK\1\2")
    end = bytearray(data[data.index(b"PK\5\6") :])
    entry = data[: 2**16 + 30 + 70]
    struct.pack_into("<I", end, 16, len(entry))
    file.write_bytes(entry + data[directory : data.index(b"PK\5\6")] + bytes(end))
    with pytest.raises(InputError, match="more than its size"):
        import_release(file, there)


def test_a_manifest_beyond_the_limit_is_not_read(
    packed: Path, there: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size is known before a byte of it is."""
    monkeypatch.setattr("penstock.releases.archive._MANIFEST_LIMIT", 100)
    with pytest.raises(InputError, match="100 at most are read"):
        import_release(packed, there)


def test_too_many_entries_are_refused(packed: Path, there: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release has thousands of files at most."""
    monkeypatch.setattr("penstock.releases.archive._ENTRIES_LIMIT", 3)
    with pytest.raises(InputError, match="a release has at most 3"):
        import_release(packed, there)


def test_listings_that_name_each_other_many_times_over_do_not_multiply(
    manifest: Manifest, blobs: Blobs, there: Blobs, tmp_path: Path
) -> None:
    """Sixty levels of two parts each are sixty blobs, not a billion billion."""
    inner = codecs.save({"a": 1}, blobs)
    for _ in range(60):
        digest = blobs.put(canonical_json(Listing(value="1", parts=(inner, inner))))
        inner = Artifact(digest=digest, codec=inner.codec, type="dict", size_bytes=1)
    bomb = msgspec.structs.replace(manifest, serving={"find": {"titles": inner}})
    file = export_release(blobs.put(encode_manifest(bomb)), blobs, tmp_path / "bomb.penstock")
    assert import_release(file, there)[0].pipeline == "movies"


def test_a_listing_that_leads_upwards_is_refused(
    manifest: Manifest, blobs: Blobs, there: Blobs, tmp_path: Path
) -> None:
    """Digests inside blobs are judged as those of the manifest are."""
    part = Artifact(digest="../../etc/passwd", codec="arrow", type="t", size_bytes=1)
    model = manifest.artifacts["popular/popular"]
    digest = blobs.put(canonical_json(Listing(value="1", parts=(part,))))
    bad = msgspec.structs.replace(
        manifest, artifacts={}, serving={"find": {"model": msgspec.structs.replace(model, digest=digest)}}
    )
    names = [manifest.graph.files[0].digest, digest]
    file = write(
        tmp_path / "bad.penstock", {JSON: encode_manifest(bad), **{f"blobs/{d}": blobs.read(d) for d in names}}
    )
    with pytest.raises(DamagedError, match="passwd"):
        import_release(file, there)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, packed: Path, there: Blobs, tmp_path: Path) -> None:
    """Wherever the copying stopped."""
    file = tmp_path / "short.penstock"
    file.write_bytes(packed.read_bytes()[: int(packed.stat().st_size * share)])
    with pytest.raises(InputError, match="is not a release file"):
        import_release(file, there)


def test_every_flipped_byte_is_refused_or_harmless(packed: Path, tmp_path: Path) -> None:
    """Never another error than ours, and never other bytes than those exported."""
    data = packed.read_bytes()
    whole = import_release(packed, Blobs(tmp_path / "whole" / "blobs"))[1]
    file = tmp_path / "flipped.penstock"
    for place in range(0, len(data), 31):
        file.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        store = Blobs(tmp_path / str(place) / "blobs", sync_below_bytes=0)
        try:
            assert import_release(file, store)[1] == whole
        except (InputError, DamagedError):
            continue


def test_a_file_that_is_not_there_is_said(there: Blobs, tmp_path: Path) -> None:
    """The person sees the name they wrote."""
    for path in (tmp_path / "none.penstock", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            import_release(path, there)


def test_nothing_outside_the_store_is_opened(packed: Path, tmp_path: Path) -> None:
    """An audit of every file that each hostile import opens for writing, or at all."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, (corrupt, _) in enumerate(CORPUS.values()):
        write(corpus / f"{number}.penstock", corrupt(entries_of(packed)))
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(corpus), str(tmp_path / "store")], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) == len(list(corpus.iterdir()))


AUDIT = """
import sys
from pathlib import Path
from penstock.core.errors import PenstockError
from penstock.releases.archive import import_release
from penstock.store.blobs import Blobs
corpus, store = Path(sys.argv[1]), Path(sys.argv[2])
store.mkdir()
libraries = [p for p in (sys.prefix, sys.base_prefix, *sys.path) if p]
opened = []
sys.addaudithook(lambda event, given: opened.append(given[0]) if event in {"open", "os.mkdir", "os.symlink"} else None)
refused = 0
for file in sorted(corpus.iterdir()):
    try:
        import_release(file, Blobs(store / "blobs"))
    except PenstockError:
        refused += 1
names = [str(Path(o).resolve()) for o in opened if isinstance(o, (str, bytes, Path))]
allowed = (str(corpus), str(store), "/proc/", *libraries)
strange = [n for n in names if not n.startswith(allowed)]
assert names and not strange, strange
print(refused)
"""


@pytest.mark.parametrize("path", ["/etc/x", "../x.py", "a/../../x"])
def test_a_release_made_here_cannot_lead_outside_either(
    path: str, manifest: Manifest, blobs: Blobs, tmp_path: Path
) -> None:
    """Laying code out refuses what import would have refused."""
    file = CodeFile(path=path, digest=manifest.graph.files[0].digest)
    with pytest.raises(DamagedError, match="outside itself"):
        lay_out({file.path: blobs.read(file.digest)}, tmp_path / "code" / "tree")
    assert not (tmp_path / "code").exists()
