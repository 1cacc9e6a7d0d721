"""A release as a file: out of one project, into another, and what is no release refused.

Hostile files are the business of `tests/unit/releases`; here whole commands and two real projects.
"""

import json
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import make_shop
from penstock.core.errors import CheckError, InputError, NotFoundError
from penstock.project.moving import export_to, find_release, import_from
from penstock.project.serving import predict
from penstock.releases.manifest import decode_manifest, encode_manifest
from penstock.store.ledger import events
from project_folder import Project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_shop(tmp_path_factory.mktemp("made") / "shop")


@pytest.fixture
def shop(made: Project, tmp_path: Path) -> Project:
    """A copy of a project with one release."""
    return made.copied(tmp_path / "shop")


@pytest.fixture
def there(tmp_path: Path) -> Project:
    (tmp_path / "there").mkdir()
    return Project(tmp_path / "there")


@pytest.fixture
def file(shop: Project, tmp_path: Path) -> Path:
    with shop.opened() as workspace:
        return Path(export_to("shop@1", workspace, target=tmp_path / "shop-1.penstock").path)


def test_a_release_answers_elsewhere_as_at_home(shop: Project, there: Project) -> None:
    """Exported and imported by command, it has the same hash, is live at once, and gives the same answer."""
    out = json.loads(shop.command("export", "shop", "--json").stdout)
    taken = json.loads(there.command("import", str(shop.root / out["path"]), "--json").stdout)
    assert taken == {"release": "shop@1", "hash": out["hash"], "is_new": True, "is_live": True, "live": "shop@1"}
    assert json.loads(there.command("predict", '{"item": "tea"}').stdout) == 3.0
    with there.opened() as workspace, workspace.ledger.read() as conn:
        assert "release.imported" in {event.action for event in events.page(conn)}


def test_importing_again_changes_nothing(there: Project, file: Path) -> None:
    """The hash says that it is there: no new version, no new event."""
    with there.opened() as workspace:
        import_from(file, workspace)
        with workspace.ledger.read() as conn:
            before = len(events.page(conn))
        again = import_from(file, workspace)
        with workspace.ledger.read() as conn:
            assert len(events.page(conn)) == before
    assert (again.release, again.is_new, again.is_live) == ("shop@1", False, True)


def test_what_is_live_stays_live_unless_asked(shop: Project, there: Project, file: Path) -> None:
    """A pipeline that serves something goes on with it; --live switches."""
    shop.change("factor: float = 1.0", "factor: float = 2.0", "shop.py")
    assert shop.run().release == "shop@2"
    with shop.opened() as workspace, there.opened() as other:
        newer = export_to("shop@2", workspace, target=file.with_name("shop-2.penstock"))
        import_from(file, other)
        taken = import_from(Path(newer.path), other)
        assert (taken.release, taken.is_live, taken.live) == ("shop@2", False, "shop@1")
        assert predict("shop", b'{"item": "tea"}', other).answer == 3.0
        assert import_from(Path(newer.path), other, live=True).is_live
        assert predict("shop", b'{"item": "tea"}', other).answer == 6.0


def test_the_same_release_is_the_same_file(shop: Project, file: Path, tmp_path: Path) -> None:
    """Bytes depend on the release only, so files can be compared by their digest."""
    with shop.opened() as workspace:
        again = export_to("shop", workspace, target=tmp_path / "again.penstock")
    assert Path(again.path).read_bytes() == file.read_bytes()


def test_export_never_writes_over_a_file(shop: Project, file: Path) -> None:
    """A file that is there stays as it is."""
    with shop.opened() as workspace, pytest.raises(InputError, match="exists already"):
        export_to("shop@1", workspace, target=file)


def test_a_release_whose_checks_failed_is_refused(there: Project, file: Path) -> None:
    """A sound file around a manifest that says a check failed: such a release cannot have been made."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    manifest = decode_manifest(entries["manifest.json"])
    failed = msgspec.structs.replace(manifest.checks[0], passed=False)
    entries["manifest.json"] = encode_manifest(msgspec.structs.replace(manifest, checks=(failed,)))
    hostile = file.with_name("hostile.penstock")
    with zipfile.ZipFile(hostile, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with there.opened() as workspace:
        with pytest.raises(CheckError, match="did not pass"):
            import_from(hostile, workspace)
        with pytest.raises(NotFoundError, match="no release"):
            find_release("shop", workspace)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 half"])
def test_other_files_are_refused(there: Project, tmp_path: Path, content: bytes) -> None:
    """Anything that is not a release file gets one clear error."""
    path = tmp_path / "other"
    path.write_bytes(content)
    done = there.command("import", str(path))
    assert done.returncode == 2
    assert "not a release file" in done.stderr
