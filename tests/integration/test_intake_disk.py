"""A full disk and a directory that cannot be written: one clear error, and nothing finished is lost."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from penstock.core.errors import DiskFullError, StoreError
from penstock.store.lake import IntakeRules, Lake


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def _noise(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"x": np.random.default_rng(0).standard_normal(rows)})


def test_a_disk_that_fills_up_loses_nothing_finished(small_disk: Path) -> None:
    """The error says so, its files are gone, the version before is read, and a smaller intake still fits."""
    table = Lake(small_disk).table("p", "d")
    first = table.intake(iter([_noise(10_000)]), IntakeRules())
    assert first is not None
    with pytest.raises(DiskFullError, match="No space is left under"):
        table.intake(iter([_noise(900_000)] * 3), IntakeRules(expected_version=1))
    assert table.check() == []
    assert table.scan(first).collect().height == 10_000
    assert table.intake(iter([_noise(10_000)]), IntakeRules(expected_version=1)) is not None


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error names the directory and says what to do."""
    if os.geteuid() == 0:
        # The superuser may write anywhere a plain directory is, so the path is barred by a file instead.
        (tmp_path / "p").write_text("")
    else:
        tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"p/d.*(Not a directory|Permission denied)"):
        Lake(tmp_path).table("p", "d").intake(iter([_noise(1)]), IntakeRules())
    tmp_path.chmod(0o700)
