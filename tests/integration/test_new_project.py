"""`penstock new`: a project that works, made from the one example there is."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.project.targets import find_graph
from penstock.project.workspace import open_workspace
from project_folder import Project

EXAMPLE = Path(__file__).parents[2] / "examples" / "movies"


def test_a_new_project_is_the_example(tmp_path: Path) -> None:
    """Byte for byte what stands under examples/, read as a pipeline without a mistake, with the next steps said."""
    done = Project(tmp_path).command("new", "movies")
    assert done.returncode == 0
    assert "cd movies" in done.stdout
    assert "penstock run" in done.stdout
    made = {path.name: path.read_bytes() for path in (tmp_path / "movies").iterdir()}
    assert made["movies.py"] == (EXAMPLE / "movies.py").read_bytes()
    assert set(made) == {path.name for path in EXAMPLE.iterdir() if path.suffix in {".py", ".toml", ".md"}}
    with open_workspace(tmp_path / "movies") as workspace:
        assert find_graph(workspace).pipeline == "movies"


def test_a_directory_of_ones_own_choice(tmp_path: Path) -> None:
    """--to says where; --json says what was written."""
    done = json.loads(Project(tmp_path).command("new", "movies", "--to", "deep/er", "--json").stdout)
    assert done["directory"] == "deep/er"
    assert sorted(done["files"]) == sorted(path.name for path in (tmp_path / "deep" / "er").iterdir())


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_nothing_is_written_over(tmp_path: Path, kind: str) -> None:
    """What is there stays as it is, and the hint says how to go on."""
    kept = tmp_path / "movies" if kind == "file" else tmp_path / "movies" / "movies.py"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine", encoding="utf-8")
    done = Project(tmp_path).command("new", "movies")
    assert done.returncode == 2
    assert "--to" in done.stderr
    assert kept.read_text(encoding="utf-8") == "mine"


def test_an_unknown_example_names_those_there_are(tmp_path: Path) -> None:
    """The hint lists the examples."""
    done = Project(tmp_path).command("new", "churn")
    assert done.returncode == 2
    assert "movies" in done.stderr
