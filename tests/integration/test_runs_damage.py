"""Artifacts, ledger and disk go bad: every read notices, says who made the thing, and the next run makes it again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import DiskFullError, LedgerError
from penstock.project.mending import examine
from penstock.project.running import RunOptions, run_graph
from penstock.project.targets import find_graph
from penstock.store.ledger import runs
from project_folder import Project
from run_processes import CHAIN, add_day, all_attempts, chain_project, end, live_hash, start

DAMAGES = ("flip", "flip in secret", "truncate", "delete")


def _damage(path: Path, how: str) -> None:
    path.chmod(0o600)
    data, times = bytearray(path.read_bytes()), path.stat()
    match how:
        case "delete":
            path.unlink()
            return
        case "truncate":
            path.write_bytes(data[:-3])
        case _:
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    if how == "flip in secret":  # as a bad disk does: no time changes; and this machine has been restarted since
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        os.removexattr(path, "user.penstock.verified")


@pytest.fixture
def chain(tmp_path: Path) -> Project:
    project = chain_project(tmp_path)
    assert project.run().release == "chain@1"
    return project


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_artifact_is_named_with_its_maker_and_made_again(how: str, chain: Project) -> None:
    """Its readers do not start; the result is forgotten, so that the next run makes it and goes on."""
    before = live_hash(chain)
    with chain.opened() as workspace:
        report = chain.run()
        artifact = report.outcome.kept["doubled"][""].outputs["doubled"]
        _damage(workspace.blobs.root / artifact.digest[:2] / artifact.digest[2:], how)
    if how == "delete":  # what is gone is seen before anything starts
        again = chain.run(force=frozenset({"total"}))
        assert again.nodes["doubled"] == "succeeded"
    else:
        broken = chain.run(force=frozenset({"total"}))
        failure = broken.failures["total"]
        assert failure.kind == "damaged"
        assert artifact.digest in failure.message
        assert "'doubled'" in failure.message
        assert "made by r1/doubled" in failure.message
        assert failure.hint == "run again to rebuild it: penstock run chain"
        assert broken.nodes["total_is_positive"] == "skipped"
        assert [a.number for a in all_attempts(chain) if a.run_id == broken.run_id and a.node == "total"] == [1]
        again = chain.run()
        assert again.nodes["doubled"] == "succeeded"
    assert (again.state, again.release) == ("succeeded", "chain@1")
    assert live_hash(chain) == before
    with chain.opened() as workspace:
        assert examine(workspace, deep=True).faults == ()


def test_a_damaged_dataset_stops_its_readers(chain: Project) -> None:
    """A row file that lost its end is an error that names the dataset, not fewer rows."""
    (file,) = (chain.root / ".penstock" / "lake" / "chain" / "events").rglob("*.parquet")
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-10])
    report = chain.run(force=frozenset({"doubled"}))
    assert report.state == "failed"
    assert file.name in str(report.failures)


def test_a_damaged_ledger_is_refused_with_its_backup(chain: Project) -> None:
    """Nothing is run on a ledger that cannot be trusted; the way back is said."""
    with chain.opened() as workspace:
        backup = workspace.ledger.back_up()
    ledger = chain.root / ".penstock" / "ledger.db"
    data = bytearray(ledger.read_bytes())
    data[: 4096 * 4] = os.urandom(4096 * 4)
    ledger.write_bytes(data)
    for rest in ("-wal", "-shm"):
        Path(f"{ledger}{rest}").unlink(missing_ok=True)
    code, output = end(start(chain))
    assert code == 4, output
    assert "is damaged" in " ".join(output.split())
    assert str(backup) in "".join(output.split("\n")) or str(backup) in " ".join(output.split())
    with pytest.raises(LedgerError, match="damaged"):
        chain.run()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


BIG = """

@chain.step
def big(*, mebibytes: int = 0) -> str:
    return os.urandom(mebibytes * 2**19).hex()
"""


def _on(small_disk: Path, root: Path) -> Project:
    project = Project(root, "chain")
    project.write(CHAIN + BIG, "chain.py")
    project.write(f'[penstock]\nhome = "{small_disk}/home"\n', "penstock.toml")
    add_day(project, 1)
    return project


def test_a_disk_that_fills_up_with_an_artifact_is_named(small_disk: Path, tmp_path: Path) -> None:
    """The step fails with the space it needed, nothing half-written stays, others go on, and room mends it."""
    project = _on(small_disk, tmp_path)
    report = project.run(params={"big.mebibytes": 16})
    failure = report.failures["big"]
    assert "No space" in failure.message
    assert "total" in {name for name, state in report.nodes.items() if state == "succeeded"}
    assert list((small_disk / "home" / "tmp").glob("blob-*")) == []
    _assert_sound(project)
    assert project.run(params={"big.mebibytes": 1}).release == "chain@1"


def test_a_disk_too_full_for_the_ledger_is_named(small_disk: Path, tmp_path: Path) -> None:
    """The command says so and ends; what was recorded can be read; with room it goes on by itself."""
    project = _on(small_disk, tmp_path)
    assert project.run().release == "chain@1"
    add_day(project, 2)
    filler = small_disk / "filler"
    with project.opened() as workspace:
        graph = find_graph(workspace, "chain")
        with workspace.ledger.read() as conn:  # whoever reads already goes on reading
            _fill(filler)
            with pytest.raises(DiskFullError, match=r"(disk is full|No space)"):
                run_graph(graph, workspace, RunOptions(params={}))
            assert [r.state.value for r in runs.page(conn)] == ["succeeded"]
        filler.unlink()
        assert run_graph(graph, workspace, RunOptions(params={})).release == "chain@2"
    _assert_sound(project)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass


def _assert_sound(project: Project) -> None:
    with project.opened() as workspace:
        found = examine(workspace, deep=True).faults
    assert [f for f in found if f.room != "disk"] == []  # the small disk itself is remarked upon
