"""`run_check`: what a person reads when a check fails, and that a broken check never passes."""

import importlib.util
import linecache
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from penstock.checks.asserts import run_check
from penstock.core.records import CheckResult, Interval

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Import a module from a file of its own, as checks come from a code snapshot."""

    def _load(source: str) -> ModuleType:
        path = tmp_path / "project.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        linecache.checkcache(str(path))
        spec = importlib.util.spec_from_file_location("project", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return _load


class Quality:
    """Stands for an evaluation: what matters is the shape of the expression."""

    def __init__(self) -> None:
        self.calls = 0

    def lift(self, model: str, *, over: str) -> Interval:
        self.calls += 1
        assert (model, over) == ("recommender", "most_watched_lately")
        return Interval(mean=0.0003, low=-0.0012, high=0.0018, n=840)


def test_a_failed_assert_shows_source_and_values(load: Load) -> None:
    """The message names the expression, its value, and the interval that the value was taken from."""
    module = load("""
        def better(quality):
            assert quality.lift("recommender", over="most_watched_lately").low > 0
    """)
    quality = Quality()
    result = run_check(module.better, {"quality": quality})
    assert result.message == (
        "assert quality.lift('recommender', over='most_watched_lately').low > 0: "
        ".low = -0.0012 (lift = 0.0003 [-0.0012, 0.0018], n=840)"
    )
    assert not result.passed
    assert quality.calls == 1
    assert result.evidence["kind"] == "assert"
    assert result.evidence["line"] == 3
    assert result.evidence["traceback"].startswith("Traceback")
    assert "asserts.py" not in result.evidence["traceback"]


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("0 < x < 3", "assert 0 < x < 3: x = 5"),
        ("x == 5 and x < y", "assert x == 5 and x < y: x = 5, y = 2"),
        ("x < y or x == 4", "assert x < y or x == 4: x = 5, y = 2"),
        ("not x", "assert not x: x = 5"),
        ("names[1] == 'c'", "assert names[1] == 'c': names[1] = 'b' (names = list of 2)"),
        ("len(names) == 3", "assert len(names) == 3: len(names) = 2, names = list of 2"),
        ("x + y == 8", "assert x + y == 8: x + y = 7, x = 5, y = 2"),
        ("-x > 0", "assert -x > 0: -x = -5, x = 5"),
        ("all(v > 3 for v in numbers)", "assert all((v > 3 for v in numbers)): all((v > 3 for v in numbers)) = False"),
        ("(z := x - 5)", "assert (z := (x - 5)): (z := (x - 5)) = 0"),
        ("numbers == [1, 3]", "assert numbers == [1, 3]: numbers = list(1, 2)"),
        ("x == 0.1", "assert x == 0.1: x = 5"),
        ("text == ''", f"assert text == '': text = '{'a' * 80}'... (200 long)"),
    ],
)
def test_values_of_every_kind_of_expression(load: Load, test: str, expected: str) -> None:
    """Names, calls, chains, subscripts, arithmetic: each shows the value it had, and short circuits stay."""
    module = load(f"""
        def check(x, y, names, numbers, text):
            assert {test}
    """)
    values = {"x": 5, "y": 2, "names": ["a", "b"], "numbers": [1, 2], "text": "a" * 200}
    assert run_check(module.check, values).message == expected


def test_what_is_short_circuited_is_not_evaluated(load: Load) -> None:
    """`and` and `or` stop where Python stops, and each call is made once."""
    module = load("""
        def check(called):
            assert called(False) and called(True) or called(0) == 1, "none of them"
    """)
    calls: list[object] = []

    def called(value: object) -> object:
        calls.append(value)
        return value

    result = run_check(module.check, {"called": called})
    assert calls == [False, 0]
    assert result.message.startswith("none of them (assert ")


def test_rows_never_appear(load: Load) -> None:
    """Frames, series, arrays and lists of text are shown by shape or count."""
    module = load("""
        def check(frame, array):
            assert frame["email"].to_list() == [] and array.sum() == 0
    """)
    frame = pl.DataFrame({"email": ["ada@example.org", "bob@example.org"]})
    message = run_check(module.check, {"frame": frame, "array": np.arange(3)}).message
    assert "ada" not in message
    assert "list of 2" in message
    assert "DataFrame of shape (2, 1)" in message


def test_closures_defaults_globals_and_nested_functions_keep_working(load: Load) -> None:
    """The rewritten function sees the very cells and globals of the original."""
    module = load("""
        LIMIT = 3
        def make():
            factor = 2
            def check(x, *, slack=1):
                def inner(v):
                    assert v * factor < LIMIT + slack
                nonlocal factor
                factor += 1
                inner(x)
            def current():
                return factor
            return check, current
        check, current = make()
    """)
    vars(module)["LIMIT"] = 5
    assert run_check(module.check, {"x": 1}).passed
    result = run_check(module.check, {"x": 2})
    assert module.current() == 4
    values = "v * factor = 8, LIMIT + slack = 6, v = 2, factor = 4, LIMIT = 5, slack = 1"
    assert result.message == f"assert v * factor < LIMIT + slack: {values}"


def test_an_assert_in_a_helper_shows_its_source_and_names(load: Load) -> None:
    """A function the check calls is not rewritten; its assert is still quoted, with the values of its names."""
    module = load("""
        def helper(count):
            assert count > 10

        def check(x):
            helper(x)
    """)
    result = run_check(module.check, {"x": 4})
    assert result.message == "assert count > 10: count = 4"
    assert result.evidence["line"] == 3


def test_a_passing_check_leaves_its_numbers(load: Load) -> None:
    """Evidence says how many asserts ran and what the last comparison of each compared."""
    module = load("""
        def check(scores):
            for score in scores:
                assert 0 <= score
            assert len(scores) > 2
    """)
    result = run_check(module.check, {"scores": [0.5, 0.25, 0.75]})
    assert result.passed
    assert result.message == "4 asserts held"
    assert result.evidence == {
        "asserts": 4,
        "compared": [{"assert": "0 <= score", "values": [0, 0.75]}, {"assert": "len(scores) > 2", "values": [3, 2]}],
    }


def test_an_exception_is_a_failed_check_with_the_users_traceback(load: Load) -> None:
    """A check that breaks does not pass, and shows the user's own frames first."""
    module = load("""
        def check(frame):
            assert frame["nothing"].sum() > 0
    """)
    result = run_check(module.check, {"frame": {}})
    assert not result.passed
    assert result.evidence["kind"] == "error"
    assert result.message == "the check broke: KeyError: 'nothing'"
    assert 'assert frame["nothing"].sum() > 0' in result.evidence["traceback"]
    assert "line 3, in check" in result.evidence["traceback"]


@pytest.mark.parametrize(
    ("body", "passed", "message"),
    [
        ("return None", True, "0 asserts held"),
        ("return True", True, "0 asserts held"),
        ("return False", False, "the check returned False"),
        ("return 0.5", False, "the check returned 0.5 \\(float\\)"),
        ("return {'rows': 3}", True, "held"),
        ("return {'passed': False, 'message': 'too few', 'rows': 3}", False, "too few"),
        ("return {'frame': object()}", False, "not plain JSON"),
        ("yield 1", False, "generator"),
        ("raise SystemExit(0)", False, "the check broke: SystemExit: 0"),
    ],
)
def test_what_a_check_may_return(load: Load, body: str, passed: bool, message: str) -> None:
    """Nothing, a bool or plain evidence; anything else is a broken check, which fails."""
    module = load(f"""
        def check():
            {body}
    """)
    result = run_check(module.check, {}, name="mine")
    assert (result.name, result.passed) == ("mine", passed)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(result.message)


def test_a_coroutine_fails(load: Load) -> None:
    """An `async def` check never ran its body, so it cannot have held."""
    module = load("""
        async def check():
            assert False
    """)
    assert run_check(module.check, {}).evidence == {"kind": "error"}


def test_a_result_is_taken_over_under_the_checks_name(load: Load) -> None:
    """A check may make its own record; it cannot pose as built in."""
    made = CheckResult(name="other", passed=True, message="fine", built_in=True)
    result = run_check(lambda: made, {}, name="mine")
    assert result == CheckResult(name="mine", passed=True, message="fine")


def test_a_file_changed_since_the_import_is_not_run_in_its_place(load: Load, tmp_path: Path) -> None:
    """The source counts only if it is the code that was imported."""
    module = load("""
        def check(x):
            assert x > 3
    """)
    (tmp_path / "project.py").write_text("\ndef check(x):\n    assert x < 3\n", encoding="utf-8")
    linecache.checkcache(str(tmp_path / "project.py"))
    assert not run_check(module.check, {"x": 1}).passed
    assert run_check(module.check, {"x": 4}).passed


def test_a_check_asserts_under_optimised_python(load: Load) -> None:
    """`python -O` strips asserts; a check keeps its own."""
    module = load("""
        def check(x):
            assert x > 3
    """)
    code = "import project; from penstock.checks.asserts import run_check as run; print(run(project.check, {'x': 1}))"
    assert module.__file__ is not None
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], cwd=Path(module.__file__).parent, capture_output=True, text=True, check=True
    )
    assert "passed=False" in done.stdout
