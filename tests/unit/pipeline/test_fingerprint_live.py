"""Functions as objects: imported, run as a script, made by functions, typed into cells."""

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from penstock.pipeline.fingerprint import Analyzer


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def module(tmp_path: Path) -> Callable[..., ModuleType]:
    def write_and_load(text: str, name: str = "movies") -> ModuleType:
        path = tmp_path / "flows" / "movies.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return load(path, name)

    return write_and_load


def test_a_script_and_an_import_agree(module: Callable[..., ModuleType], tmp_path: Path) -> None:
    """`python movies.py` and a process that imports it find the same results."""
    text = "RATE = 2\ndef fit(x): return x * RATE\n"
    digests = {Analyzer(tmp_path).fingerprint(module(text, name).fit).digest for name in ("__main__", "movies")}
    assert len(digests) == 1


def test_a_file_beside_the_pipeline_is_found(module: Callable[..., ModuleType], tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "helpers.py").write_text("def helper(x): return x\n", encoding="utf-8")
    sys.path.insert(0, str(tmp_path / "flows"))
    try:
        found = Analyzer(tmp_path).fingerprint(module("import helpers\ndef fit(x): return helpers.helper(x)\n").fit)
    finally:
        sys.path.pop(0)
        sys.modules.pop("helpers", None)
    assert found.parts["helpers:helper"].label == "`helper` in flows/helpers.py:1"


def test_wrapped_functions_count_with_their_wrapper(module: Callable[..., ModuleType], tmp_path: Path) -> None:
    text = "import functools\n@functools.cache\ndef fit(x): return x\n"
    assert "movies:fit" in Analyzer(tmp_path).fingerprint(module(text).fit).parts


@pytest.mark.parametrize("value", ["1", "'a'", "(1, [2.5])", "{'k': None}"])
def test_values_held_by_a_nested_function_count(module: Callable[..., ModuleType], tmp_path: Path, value: str) -> None:
    """Two steps made by one function in a loop are two steps."""
    text = f"def make(k):\n    def inner(x): return k\n    return inner\nfit, other = make(0), make({value})\n"
    made = module(text)
    analyzer = Analyzer(tmp_path)
    assert analyzer.fingerprint(made.fit).digest != analyzer.fingerprint(made.other).digest


def test_a_held_value_that_is_not_plain_is_a_warning(module: Callable[..., ModuleType], tmp_path: Path) -> None:
    analyzer = Analyzer(tmp_path)
    analyzer.fingerprint(module("def make(k):\n    return lambda x: k\nfit = make(object())\n").fit)
    assert "is no plain value; a change of it is not seen." in analyzer.warnings[0]


def test_a_lambda_is_found_by_its_line(module: Callable[..., ModuleType], tmp_path: Path) -> None:
    assert "movies:fit" in Analyzer(tmp_path).fingerprint(module("A = 1\nfit = lambda x: x + A\n").fit).parts


def test_functions_without_source_count_by_name_and_are_told(tmp_path: Path) -> None:
    found = Analyzer(tmp_path).fingerprint(functools.partial(len))
    assert "has no source in the project" in found.warnings[0]


def test_functions_of_packages_count_by_version(tmp_path: Path) -> None:
    assert set(Analyzer(tmp_path).fingerprint(pytest.fixture).packages) == {"pytest"}


def test_cells_are_a_module_without_a_file(tmp_path: Path) -> None:
    analyzer = Analyzer(tmp_path)
    (tmp_path / "features.py").write_text("def helper(x): return x\n", encoding="utf-8")
    analyzer.add_module("notebook", "from features import helper\ndef fit(x):\n    return helper(x)\n")
    assert "features:helper" in analyzer.fingerprint_named("notebook", "fit").parts


def test_equal_code_gives_equal_fingerprints_in_any_order(tmp_path: Path) -> None:
    """What was fingerprinted before does not matter, cycles included."""
    text = "".join(f"def f{i}(x): return f{(i * 7 + 1) % 10}(x) + f{(i + 5) % 10}(x)\n" for i in range(10))
    (tmp_path / "movies.py").write_text(text, encoding="utf-8")
    forward, backward = Analyzer(tmp_path), Analyzer(tmp_path)
    one = [forward.fingerprint_named("movies", f"f{i}") for i in range(10)]
    two = [backward.fingerprint_named("movies", f"f{i}") for i in reversed(range(10))]
    assert one == two[::-1]
