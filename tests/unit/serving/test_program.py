"""A release becomes callable in this process, from its snapshot and nothing else."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from penstock.core.errors import ArtifactError, NotFoundError, StepError
from penstock.serving.program.load import Program, answers, load_program
from penstock.serving.refusals import RequestError
from penstock.store.blobs import Blobs
from serving_release import CODE, make_manifest, make_node, own_imports


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    with own_imports():
        yield


@pytest.fixture
def program(tmp_path: Path) -> Program:
    blobs = Blobs(tmp_path / "blobs")
    loaded = load_program(make_manifest(blobs), blobs, tmp_path / "code")
    del sys.modules["app_code"]
    return loaded


def test_answers_are_plain_json_without_the_fallback(program: Program) -> None:
    """What the gate compares is the serve function's own answer."""
    found = answers(program, "recommend", [{"user_id": 1, "k": 1}, {"user_id": 2, "k": 0}])
    assert found == [[{"movie_id": 0, "title": "Movie 0", "score": 1.0}], []]
    with pytest.raises(StepError, match="'guarded' failed: RuntimeError"):
        answers(program, "guarded", [{"wait_ms": -1}])


def test_a_failing_function_is_answered_by_its_fallback(program: Program) -> None:
    """The answer says so."""
    assert program.answer("guarded", b'{"wait_ms": -1}').fallback
    assert program.answer("guarded", b'{"wait_ms": 0}').json == b'"model"'


def test_without_a_fallback_the_users_frames_come_first(program: Program) -> None:
    """The error shows where the user's code failed, not how it was called."""
    with pytest.raises(StepError, match="ValueError") as caught:
        program.answer("fragile", b'{"text": "x"}')
    assert caught.value.message.lstrip().startswith('File "')
    assert "serving/program.py" not in caught.value.message
    assert "in fragile" in caught.value.message


def test_an_unknown_function_or_field_is_refused(program: Program) -> None:
    """Names come from the release."""
    with pytest.raises(NotFoundError, match="no serve function 'backup'"):
        program.answer("backup", b"{}")
    with pytest.raises(RequestError, match="unknown field `z`"):
        program.answer("which", b'{"n": 1, "z": 2}')


def test_a_release_without_an_argument_is_refused(tmp_path: Path) -> None:
    """A manifest that lacks what a function takes is not served half."""
    blobs = Blobs(tmp_path / "blobs")
    nodes = (make_node("which", "serve", {"n": "int"}, takes={"titles": "polars"}),)
    with pytest.raises(ArtifactError, match="nothing for argument 'titles'"):
        load_program(make_manifest(blobs, nodes=nodes), blobs, tmp_path / "code")


def test_a_second_release_in_one_process_is_refused(tmp_path: Path) -> None:
    """Its answers would come from the first one's code."""
    blobs = Blobs(tmp_path / "blobs")
    load_program(make_manifest(blobs), blobs, tmp_path / "code")
    with pytest.raises(StepError, match="not from the released code"):
        load_program(make_manifest(blobs, CODE + "\nmore = 1\n"), blobs, tmp_path / "code")
