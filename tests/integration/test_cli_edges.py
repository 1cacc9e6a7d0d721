"""The edges of the command line: wrong input, damage, signals, help and completion."""

import json
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.cli.app import COMMANDS
from project_folder import Project
from run_processes import all_attempts, all_runs, chain_project, end, executed, kill_group, processes_of, start, until

ONE = """
from penstock import Pipeline

one = Pipeline("one")

@one.step
def number(*, upto: int = 3) -> int:
    return upto
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    found = Project(tmp_path)
    found.write(ONE)
    return found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "-p", "upto=many"), "Parameter 'number.upto' is int, but 'many' was given."),
        (("run", "-p", "upot=3"), "did you mean 'upto'"),
        (("run", "-p", "upto"), "-p 'upto' sets nothing"),
        (("plan", "--now", "soon"), "--now 'soon' is no time"),
        (("run", "--force", "nothing"), "no node 'nothing'"),
        (("run", "two"), "'two'"),
        (("show", "r9"), "There is no run 'r9'"),
        (("show", "one@9"), "There is no release 'one@9'"),
        (("show", "R!"), "neither a run nor a release"),
        (("diff",), "There is no run to compare yet"),
        (("debug", "nubmer"), "did you mean 'number'"),
        (("run", "--workers", "0"), "--workers"),
        (("run", "--wrokers", "1"), "--wrokers"),
        (("rnu",), "Did you mean 'run'"),
        (("plan", "--project", "nowhere"), "nowhere"),
    ],
)
def test_wrong_input_is_one_error_and_exit_code_2(project: Project, words: tuple[str, ...], said: str) -> None:
    """Message and hint on standard error, or as JSON where that was asked for; never a traceback."""
    done = project.command(*words)
    assert done.returncode == 2, done
    assert said in done.stderr
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("run", "-p", "upto=many"), ("show", "r9"), ("run", "--workers", "0")])
def test_an_error_is_json_where_that_was_asked_for(project: Project, words: tuple[str, ...]) -> None:
    """One document on standard output, with code, message and hint."""
    done = project.command(*words, "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] in {"input", "not_found"}
    assert error["message"] in done.stderr
    assert error["hint"]


def test_every_mistake_of_a_pipeline_is_named(project: Project) -> None:
    project.write(f"{ONE}\n@one.step\ndef total(nubmer: int, now, other) -> int:\n    return nubmer\n")
    done = project.command("plan")
    assert done.returncode == 2
    assert "2 mistakes" in done.stderr
    assert "needs 'nubmer'" in done.stderr
    assert "needs 'other'" in done.stderr


def test_a_ledger_that_cannot_be_read_is_exit_code_4(project: Project) -> None:
    """A store that is no store is said, not repaired."""
    (project.root / ".penstock").mkdir()
    (project.root / ".penstock" / "ledger.db").write_bytes(b"not a database" * 1000)
    done = project.command("runs")
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_a_store_in_pieces_is_an_error_in_words(project: Project) -> None:
    assert project.command("run").returncode == 0
    blobs = project.root / ".penstock" / "blobs"
    blobs.rename(project.root / "elsewhere")
    blobs.write_text("a file where a directory should be")
    done = project.command("run")
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_a_run_cleanly(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """The run is marked cancelled, nothing of it lives on, and the next run goes on from what is finished."""
    project = chain_project(tmp_path)
    hold = tmp_path / "hold-doubled"
    hold.touch()
    process = start(project)
    until(lambda: executed(project)["doubled"])
    kill_group(process, number)
    exit_code, output = end(process)
    assert exit_code == code, output
    assert "Traceback" not in output
    assert [run.state.value for run in all_runs(project)] == ["cancelled"]
    assert "running" not in {a.state.value for a in all_attempts(project)}
    until(lambda: not processes_of(project))
    hold.unlink()
    assert end(start(project))[0] == 0
    shown = json.loads(project.command("runs", "--json").stdout)
    assert [line["state"] for line in shown] == ["succeeded", "cancelled"]


def test_a_run_whose_process_was_killed_is_shown_as_lost(tmp_path: Path) -> None:
    project = chain_project(tmp_path)
    hold = tmp_path / "hold-doubled"
    hold.touch()
    process = start(project)
    until(lambda: executed(project)["doubled"])
    process.kill()
    end(process)
    hold.unlink()
    done = project.command("runs", "--state", "lost")
    assert "r1" in done.stdout
    assert "lost" in done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_can_answer_in_json(tmp_path: Path, name: str) -> None:
    assert " --json " in Project(tmp_path).command(name, "--help").stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_has_an_example(tmp_path: Path, name: str) -> None:
    """Each command says what it does, its options, and an example that starts with `penstock`."""
    done = Project(tmp_path).command(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Example:\n" in done.stdout
    assert f"penstock {name}" in done.stdout.partition("Example:")[2]
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_help_of_all_lists_every_command(tmp_path: Path) -> None:
    done = Project(tmp_path).command()
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert "Example:" in done.stdout


def test_completion_knows_commands_and_options(tmp_path: Path) -> None:
    project = Project(tmp_path)
    shell = {"_PENSTOCK_COMPLETE": "complete_bash"}
    done = project.command(COMP_WORDS="penstock ru", COMP_CWORD="1", **shell)
    assert done.stdout.split() == ["run", "runs"]
    done = project.command(COMP_WORDS="penstock run --wor", COMP_CWORD="2", **shell)
    assert done.stdout.split() == ["--workers"]


def test_colour_is_only_for_terminals(project: Project) -> None:
    """A pipe gets no escape sequences, and ASCII signs where the locale has no others."""
    done = project.command("run", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.isascii()
    assert "+ done" in done.stdout
