"""Answers are compared while serving: a sample of them, and the originals answer from the first that differs."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parents[2]))
from penstock.releases.manifest import Manifest
from penstock.releases.manifest import StandIn as Proven
from penstock.serving.program.load import Program, load_program
from penstock.serving.program.stand_ins.comparison import Comparison, Counts
from penstock.serving.program.stand_ins.model import switch_of
from penstock.serving.program.stand_ins.proof import proven_for
from penstock.store import codecs
from penstock.store.blobs import Blobs
from serving_release import make_manifest, make_node, own_imports
from stand_in_models import normal_rows, watched

ROWS = normal_rows(300, 2)
CODE = """
import itertools

import numpy as np

counter = itertools.count()


def risk(model, *, a: float, b: float) -> float:
    return float(model.predict_proba(np.array([[a, b]]))[0, 1])


def moody(model, *, a: float, b: float) -> float:
    return float(model.predict_proba(np.array([[a, b]]))[0, 1]) + next(counter)


def touchy(model, *, a: float, b: float) -> float:
    if type(model).__name__ == "LogisticRegression":
        raise ValueError("only fast")
    return risk(model, a=a, b=b)


def plain(*, a: float) -> float:
    return a
"""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Manifest, Program]]:
    """A release with a proven equivalent, bound as in a worker; one per module, as Python keeps its code."""
    home = tmp_path_factory.mktemp("home")
    blobs = Blobs(home / "blobs")
    model = LogisticRegression().fit(ROWS, ROWS[:, 0] + ROWS[:, 1] > 6)
    proven = proven_for(watched(model, ROWS, blobs), blobs)
    names = ("risk", "moody", "touchy")
    nodes = tuple(make_node(n, "serve", {"a": "float", "b": "float"}, takes={"model": "value"}) for n in names)
    kept = codecs.save(model, blobs)
    manifest = make_manifest(
        blobs,
        CODE,
        nodes=(*nodes, make_node("plain", "serve", {"a": "float"})),
        serving={name: {"model": kept} for name in names},
    )
    manifest = msgspec.structs.replace(manifest, stand_ins={name: {"model": proven} for name in names})
    with own_imports():
        yield manifest, load_program(manifest, blobs, home / "code")


@pytest.fixture(autouse=True)
def _on(released: tuple[Manifest, Program]) -> None:
    for function in released[1].functions.values():
        for one in function.stand_ins:
            switch_of(one).most = 1 << 62


def _asked(program: Program, name: str = "risk") -> tuple[Any, Any]:
    function = program.function(name)
    return function, function.fields.parse(b'{"a": 1.5, "b": 2.5}')


def _comparison(released: tuple[Manifest, Program], share: float = 1.0) -> Comparison:
    return Comparison(released[1], released[0], share, seed=0)


def test_the_original_answers_beside_its_equivalent(released: tuple[Manifest, Program]) -> None:
    """Both are bound to the same function, and both are asked the same."""
    function, fields = _asked(released[1])
    assert len(function.stand_ins) == 1
    assert function.original.stand_ins == ()
    assert function.original.call(fields) == pytest.approx(function.call(fields), rel=1e-6)


def test_equal_answers_are_counted(released: tuple[Manifest, Program]) -> None:
    """S9: how many were compared can be seen."""
    function, fields = _asked(released[1])
    comparison = _comparison(released)
    assert comparison.compare(function, fields, function.values(fields)) is None
    assert comparison.counts["risk"] == Counts(compared=1)
    assert switch_of(function.stand_ins[0]).most > 0


def test_on_a_difference_the_original_answers_for_good(
    released: tuple[Manifest, Program], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is counted and said in an event without the value, and no later answer comes from the equivalent."""
    function, fields = _asked(released[1])
    comparison = _comparison(released)
    wrong = type(function.values(fields))([0.123456])
    difference = comparison.compare(function, fields, wrong)
    assert difference is not None
    assert (difference.function, difference.what) == ("risk", "answer[0] is another number")
    assert comparison.counts["risk"] == Counts(compared=1, differing=1)
    said = capsys.readouterr().out
    assert "stand_in_differed" in said
    assert "0.123456" not in said
    assert function.call(fields) == function.original.call(fields)
    assert switch_of(function.stand_ins[0]).most == 0


def test_a_function_that_never_says_the_same_twice_is_not_blamed(released: tuple[Manifest, Program]) -> None:
    """A random or counting function differs by itself: nothing can be told of its model."""
    function, fields = _asked(released[1], "moody")
    comparison = _comparison(released)
    assert comparison.compare(function, fields, function.values(fields)) is None
    assert comparison.counts["moody"] == Counts(undecided=1)
    assert switch_of(function.stand_ins[0]).most > 0


def test_an_original_that_fails_where_the_equivalent_answers_is_a_difference(
    released: tuple[Manifest, Program],
) -> None:
    """An error is an answer too."""
    function, fields = _asked(released[1], "touchy")
    difference = _comparison(released).compare(function, fields, function.values(fields))
    assert difference is not None
    assert difference.what == "answer is str of the original, list of the equivalent"


@pytest.mark.parametrize(
    ("share", "least", "most"), [(0.0, 0, 0), (1.0, 20_000, 20_000), (0.01, 150, 260), (1e-9, 1, 1)]
)
def test_a_share_is_due_and_the_first_in_any_case(
    share: float, least: int, most: int, released: tuple[Manifest, Program]
) -> None:
    """Of 20,000 answers about the share, chosen by dice; the first after the start unless nothing is compared."""
    function, _ = _asked(released[1])
    comparison = _comparison(released, share)
    due = [comparison.is_due(function) for _ in range(20_000)]
    assert due[0] is (share > 0)
    assert least <= sum(due) <= most
    assert not comparison.is_due(released[1].function("plain"))


def test_comparisons_from_many_threads_are_all_counted(released: tuple[Manifest, Program]) -> None:
    """Each is counted once."""
    function, fields = _asked(released[1])
    comparison, values = _comparison(released), function.values(fields)

    def compare() -> None:
        for _ in range(25):
            assert comparison.compare(function, fields, values) is None
            comparison.is_due(function)

    threads = [threading.Thread(target=compare) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert comparison.counts["risk"] == Counts(compared=200)


def test_a_release_without_equivalents_has_nothing_to_compare(tmp_path: Path) -> None:
    """Old manifests have no such field, and read as before."""
    plain = Proven(kind="original")
    assert (plain.artifact, plain.sample, plain.rows) == (None, None, 0)
    assert np.isfinite(ROWS).all()
    manifest = make_manifest(Blobs(tmp_path / "blobs"), nodes=())
    assert manifest.stand_ins == {}
    assert Comparison(Program(pipeline="p", goal="", functions={}), manifest, 1.0).counts == {}
