"""`penstock doctor` and `penstock gc` on stores with real damage: what is found, what is said, what is mended."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import SHOP, make_shop
from penstock.core.digest import digest_bytes
from penstock.project.moving import find_release
from penstock.project.serving import predict
from penstock.project.workspace import read_manifest
from penstock.store.ledger import runs
from project_folder import Project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_shop(tmp_path_factory.mktemp("made") / "shop")


@pytest.fixture
def shop(made: Project, tmp_path: Path) -> Project:
    """A copy of a project with one release."""
    return made.copied(tmp_path / "shop")


def doctor(project: Project, *options: str) -> tuple[int, dict[str, Any]]:
    done = project.command("doctor", "--json", *options)
    return done.returncode, json.loads(done.stdout)


def told(found: dict[str, Any]) -> str:
    return " ".join(f"{fault['message']} {fault['mend']}" for fault in found["faults"])


def model_blob(project: Project) -> Path:
    with project.opened() as workspace:
        manifest = read_manifest(find_release("shop", workspace).manifest_digest, workspace)
        return workspace.blobs.path(manifest.artifacts["book/book"].digest)


def flip(path: Path, place: int = -1) -> None:
    """Change one bit and nothing of the size, as a failing disk does."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_sound_store_is_said_to_be_sound(shop: Project) -> None:
    """Right after a release nothing is wrong, read from the outside and byte by byte."""
    for options in ([], ["--deep"]):
        code, found = doctor(shop, *options)
        assert (code, found["faults"]) == (0, [])
    assert "Nothing is wrong." in shop.command("doctor").stdout


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_broken_artifact_is_named_with_its_maker_and_made_again(shop: Project, damage: str) -> None:
    """Producer, release and the command that rebuilds are named; repair and one run bring the same release back."""
    blob = model_blob(shop)
    before = blob.read_bytes()
    flip(blob) if damage == "flipped" else blob.unlink()

    code, found = doctor(shop)
    assert code == 1
    assert "r1/book" in told(found)
    assert "shop@1" in told(found)
    assert "penstock doctor --repair, then penstock run shop" in told(found)

    _, mended = doctor(shop, "--repair")
    assert any("Forgot the result of shop/book" in line for line in mended["mended"])
    kept_aside = list((shop.root / ".penstock" / "damaged").glob("*"))
    assert len(kept_aside) == (1 if damage == "flipped" else 0)

    report = shop.run()
    assert (report.release, report.is_new_release) == ("shop@1", False)
    assert blob.read_bytes() == before
    assert doctor(shop, "--deep")[0] == 0


def test_damage_in_the_lake_is_found_by_reading_every_byte(shop: Project) -> None:
    """A flipped byte of a table keeps its size: the quick look passes it, the deep one names the file."""
    (part,) = (shop.root / ".penstock" / "lake" / "shop" / "prices").glob("*.parquet")
    flip(part, 8)
    assert doctor(shop)[0] == 0
    code, found = doctor(shop, "--deep")
    assert code == 1
    assert part.name in told(found)


def run_and_plan_refuse(shop: Project, said: str) -> None:
    """Both name what is amiss and end with 4, and nothing is taken in."""
    before = sorted((shop.root / ".penstock" / "lake").rglob("*"))
    for words in (("plan",), ("run",)):
        done = shop.command(*words)
        assert done.returncode == 4, done
        assert said in done.stderr
        assert "restore .penstock/lake/shop/prices from a backup" in done.stderr
    assert sorted((shop.root / ".penstock" / "lake").rglob("*")) == before
    code, found = doctor(shop)
    assert code == 1
    assert said in told(found)


def test_a_table_without_its_log_is_not_taken_in_anew(shop: Project) -> None:
    """Rows of years may not come again from their source: what is gone is said, and a restored log mends it."""
    log = shop.root / ".penstock" / "lake" / "shop" / "prices" / "_delta_log"
    log.rename(shop.root / "aside")
    run_and_plan_refuse(shop, "The ledger knows prices@1 of shop, but the lake holds nothing of it.")
    (shop.root / "aside").rename(log)
    assert shop.run().release == "shop@1"
    assert doctor(shop)[0] == 0


def test_a_table_behind_the_ledger_is_not_built_upon(shop: Project) -> None:
    """A lake restored from before the last intake would give the number of a known version to other rows."""
    table = shop.root / ".penstock" / "lake" / "shop" / "prices"
    shutil.copytree(table, shop.root / "older")
    shop.change(
        '"item": ["tea", "milk"], "price": [3.0, 1.0]', '"item": ["tea", "jam"], "price": [3.0, 2.0]', "shop.py"
    )
    assert shop.run().outcome.datasets["prices"].version == 2
    shutil.rmtree(table)
    (shop.root / "older").rename(table)
    run_and_plan_refuse(shop, "The ledger knows prices@2 of shop, but the lake holds prices@1.")


def test_a_table_with_other_rows_is_not_built_upon(shop: Project, tmp_path: Path) -> None:
    """The lake of another store has the same numbers, but not the same rows."""
    other = Project(tmp_path / "other")
    other.root.mkdir()
    other.write(SHOP.replace("[3.0, 1.0]", "[3.0, 2.0]"), "shop.py")
    assert other.run().release == "shop@1"
    shutil.rmtree(shop.root / ".penstock" / "lake")
    shutil.copytree(other.root / ".penstock" / "lake", shop.root / ".penstock" / "lake")
    run_and_plan_refuse(shop, "The lake holds other rows as prices@1 of shop than the ledger knows.")


def test_a_killed_run_is_recognised_and_marked(shop: Project) -> None:
    """A run whose process was killed is said to be dead, and repair marks it lost."""
    shop.change("factor: float = 1.0", "factor: float = 2.0", "shop.py")
    assert shop.command("run", PENSTOCK_FAULT="release_before_commit:kill").returncode == -9
    code, found = doctor(shop)
    assert code == 1
    assert "'r2' is marked running, but its process is dead" in told(found)
    code, found = doctor(shop, "--repair")
    assert (code, found["faults"]) == (0, [])
    assert "Marked r2 lost: its process is dead." in found["mended"]
    with shop.opened() as workspace, workspace.ledger.read() as conn:
        assert runs.get(conn, 2).state.value == "lost"


def test_code_that_was_edited_where_it_is_laid_out_is_laid_out_again(shop: Project) -> None:
    """A snapshot is what was snapshotted; an edit of the copy is found, and the copy made again from the blobs."""
    (laid_out,) = (shop.root / ".penstock" / "code").glob("*/shop.py")
    flip(laid_out)
    assert doctor(shop)[0] == 1
    assert doctor(shop, "--repair")[0] == 0
    with shop.opened() as workspace:
        assert predict(None, b'{"item": "tea"}', workspace).answer == 3.0


def test_an_imported_release_that_broke_is_to_be_imported_again(shop: Project, tmp_path: Path) -> None:
    """Where nothing can make it again, the advice is to import the file again; doing so mends it."""
    assert shop.command("export", "shop", "--to", str(tmp_path / "shop.penstock")).returncode == 0
    there = Project(tmp_path / "there")
    there.root.mkdir()
    assert there.command("import", str(tmp_path / "shop.penstock")).returncode == 0
    model_blob(there).unlink()
    code, found = doctor(there)
    assert code == 1
    assert "import shop@1 again" in told(found)
    assert there.command("import", str(tmp_path / "shop.penstock")).returncode == 0
    assert doctor(there, "--deep")[0] == 0


def test_a_damaged_ledger_is_refused_and_its_backup_offered(shop: Project) -> None:
    """A release and a repair make a backup each; when the ledger is damaged later, every command names the newest."""
    assert doctor(shop, "--repair")[0] == 0
    ledger = shop.root / ".penstock" / "ledger.db"
    *_, backup = sorted(ledger.parent.glob("ledger.db.backup-*"))
    for wal in ledger.parent.glob("ledger.db-*"):
        wal.unlink()
    ledger.write_bytes(b"no ledger at all" * 4096)
    done = shop.command("doctor")
    assert done.returncode == 4
    assert str(backup) in done.stderr


def test_only_what_nothing_needs_is_swept(shop: Project) -> None:
    """Shown first, spared while young, then removed; what releases and results stand on stays and answers."""
    with shop.opened() as workspace:
        orphan = workspace.blobs.put(b"left by a step that died")
        everything = set(workspace.blobs.digests())
    assert "Nothing to remove" in shop.command("gc").stdout
    assert orphan in shop.command("gc", "--grace", "0s").stdout
    done = json.loads(shop.command("gc", "--grace", "0s", "--delete", "--json").stdout)
    assert orphan in done["blobs"]
    with shop.opened() as workspace:
        assert set(workspace.blobs.digests()) == everything - set(done["blobs"])
        assert predict("shop@1", b'{"item": "milk"}', workspace).answer == 1.0
    assert doctor(shop, "--deep")[0] == 0
    assert shop.run().is_new_release is False


def test_code_that_is_planned_again_is_not_swept(shop: Project) -> None:
    """However long ago it was laid out: the run that begins with it is not recorded yet."""
    shop.change("factor: float = 1.0", "factor: float = 2.0", "shop.py")
    store = shop.root / ".penstock"
    known = set((store / "code").iterdir())
    shop.plan()
    (laid_out,) = set((store / "code").iterdir()) - known
    for path in (laid_out, *(store / "blobs").rglob("*")):
        os.utime(path, (0, 0))
    code = digest_bytes((shop.root / "shop.py").read_bytes())
    left = shop.command("gc", "--grace", "1d").stdout
    assert laid_out.name in left
    assert code in left
    shop.plan()
    left = shop.command("gc", "--grace", "1d").stdout
    assert laid_out.name not in left
    assert code not in left


def test_nothing_is_swept_while_something_cannot_be_followed(shop: Project) -> None:
    """A damaged listing hides what it refers to, so sweeping waits until it is mended."""
    flip(model_blob(shop))
    done = shop.command("gc", "--grace", "0s", "--delete")
    assert done.returncode == 4
    assert "Nothing was removed" in done.stderr
    assert "penstock doctor" in done.stderr


def test_a_store_without_anything_is_sound(tmp_path: Path) -> None:
    """A project before its first run has nothing wrong with it."""
    project = Project(tmp_path)
    project.write(SHOP, "shop.py")
    assert doctor(project)[0] == 0
    assert "Nothing to remove" in project.command("gc").stdout
