"""A snapshot holds every file a pipeline imports, and is laid out whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.core.errors import DamagedError, DeclarationError
from penstock.pipeline.fingerprint import Analyzer
from penstock.pipeline.imports import loaded_files, module_files
from penstock.pipeline.snapshot import lay_out, read_files, tree_digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "movies.py": "import lib.a\nfrom lib import b\ndef f():\n    import late\n",
        "lib/__init__.py": "",
        "lib/a.py": "from . import c\n",
        "lib/b.py": "from .deep.d import *\n",
        "lib/c.py": "import importlib\nimportlib.import_module('dynamic')\n",
        "lib/deep/d.py": "import json\nimport polars\n",
        "late.py": "import movies\n",
        "dynamic.py": "",
        "unused.py": "",
        ".hidden/x.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "project"


def test_every_imported_file_is_found(root: Path) -> None:
    found = [path.relative_to(root).as_posix() for path in module_files(root / "movies.py", root)]
    assert found == [
        "dynamic.py", "late.py", "lib/__init__.py", "lib/a.py", "lib/b.py", "lib/c.py", "lib/deep/d.py", "movies.py",
    ]  # fmt: skip


def test_an_entry_inside_a_package_is_found_with_its_packages(root: Path) -> None:
    found = {path.name for path in module_files(root / "lib" / "b.py", root)}
    assert found == {"__init__.py", "b.py", "d.py"}


def test_an_entry_outside_the_project_is_refused(root: Path) -> None:
    with pytest.raises(DeclarationError, match="lies outside the project"):
        module_files(root / "movies.py", root / "lib")


def test_loaded_files_are_those_of_the_project() -> None:
    assert Path(__file__).resolve() in loaded_files(Path(__file__).parent)


def test_a_snapshot_is_laid_out_and_kept(root: Path, tmp_path: Path) -> None:
    files = Analyzer(root).files(root / "movies.py")
    target = lay_out(read_files(root, files), tmp_path / "code" / tree_digest(files))
    assert (target / "lib" / "a.py").read_text(encoding="utf-8") == "from . import c\n"
    assert (target / "lib" / "a.py").stat().st_mode & 0o222 == 0
    assert lay_out(read_files(root, files), target) == target
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_the_digest_depends_on_paths_and_bytes(root: Path) -> None:
    before = Analyzer(root).files(root / "movies.py")
    (root / "lib" / "b.py").write_text("x = 1\n", encoding="utf-8")
    assert tree_digest(Analyzer(root).files(root / "movies.py")) != tree_digest(before)
    assert tree_digest(before) == tree_digest(before)


def test_a_file_that_changed_since_is_refused(root: Path) -> None:
    files = Analyzer(root).files(root / "movies.py")
    (root / "late.py").write_text("x = 2\n", encoding="utf-8")
    (root / "dynamic.py").unlink()
    with pytest.raises(DeclarationError, match=r"(?s)dynamic\.py: cannot be read.*late\.py: changed while"):
        read_files(root, files)


def test_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    target = lay_out({"a.py": b"a = 1\n"}, tmp_path / "code")
    (target / "a.py").chmod(0o644)
    (target / "a.py").write_bytes(b"a = 2\n")
    with pytest.raises(DamagedError, match=r"holds other bytes than it should in 'a\.py'"):
        lay_out({"a.py": b"a = 1\n"}, target)


def test_many_may_lay_out_the_same_snapshot(tmp_path: Path) -> None:
    files = {f"m{i}.py": b"x = 1\n" * 50 for i in range(20)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: lay_out(files, tmp_path / "code"), range(16)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code"]
    assert len(list((tmp_path / "code").iterdir())) == 20


def test_what_was_imported_by_other_means_can_be_added() -> None:
    here = Path(__file__).resolve()
    found = {file.path for file in Analyzer(here.parents[1]).files(here.parents[1] / "pipeline" / "test_keys.py")}
    more = Analyzer(here.parents[1]).files(here.parents[1] / "pipeline" / "test_keys.py", with_loaded=True)
    assert found == {"pipeline/test_keys.py"}
    assert "pipeline/test_snapshot.py" in {file.path for file in more}
