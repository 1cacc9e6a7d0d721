"""Whatever goes wrong becomes words and an exit code."""

import json
from pathlib import Path

import pytest

from penstock.cli import complaints
from penstock.core import errors


def break_down() -> None:
    raise RuntimeError("gears")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.StepError("Step 'fit' failed."), 1),
        (errors.InputError("No such thing."), 2),
        (errors.CheckError("Check 'good' failed."), 3),
        (errors.StoreError("No ledger."), 4),
        (errors.LeaseLostError("Taken over."), 5),
    ],
)
def test_our_errors_say_message_and_hint(
    error: errors.PenstockError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error; standard output stays empty."""
    error.hint = "do this"
    assert complaints.tell(error, ["run"]) == code
    told = capsys.readouterr()
    assert told.err == f"Error: {error.message}\nHint: do this\n"
    assert not told.out


def test_a_fault_of_ours_is_one_line_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback is in a file of the project, which the message names."""
    (tmp_path / ".penstock" / "tmp").mkdir(parents=True)
    with pytest.raises(RuntimeError, match="gears") as raised:
        break_down()
    assert complaints.tell(raised.value, ["run", "--project", str(tmp_path), "--json"]) == 1
    told = capsys.readouterr()
    (log,) = (tmp_path / ".penstock" / "tmp").iterdir()
    assert "RuntimeError: gears" in log.read_text()
    assert "Traceback" in log.read_text()
    assert str(log) in told.err
    assert "Traceback" not in told.err
    assert json.loads(told.out)["error"]["code"] == "crash"


def test_a_fault_without_a_store_still_leaves_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert complaints.tell(RuntimeError("gears"), ["run", "--project", str(tmp_path / "nowhere")]) == 1
    (log,) = tmp_path.glob("penstock-crash-*.log")
    assert str(log) in capsys.readouterr().err


def test_being_cancelled_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    complaints.tell_cancelled(["run"])
    told = capsys.readouterr().err
    assert told.startswith("Cancelled.")
    assert "Error" not in told
