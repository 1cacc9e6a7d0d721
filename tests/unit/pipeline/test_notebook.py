"""Cells become one module that declares the same pipeline."""

import linecache
from collections.abc import Callable
from typing import Any

import pytest

from penstock.core.errors import DeclarationError
from penstock.pipeline.notebook import assemble, from_namespace


class Recorder:
    """Stands for a pipeline: keeps what is declared on it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.functions: list[Callable[..., Any]] = []

    def step(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.functions.append(function)
        return function

    def include(self, other: object) -> None:
        pass

    def run(self) -> int:
        return 1


def live(*cells: str) -> dict[str, Any]:
    """Run cells as a notebook would; `Pipeline` and the history are there."""
    namespace: dict[str, Any] = {"__name__": "__main__", "Pipeline": Recorder, "In": ["", *cells], "get_ipython": print}
    for number, cell in enumerate(cells):
        if not cell.lstrip().startswith(("%", "!")):
            exec(compile(cell, f"<cell {number}>", "exec"), namespace)  # noqa: S102 - this is what a notebook does
    return namespace


def made(*cells: str) -> str:
    namespace = live("movies = Pipeline('movies')", *cells)
    return from_namespace(namespace["movies"].functions, namespace)


def ran(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "nb"}
    exec(compile(source, "nb.py", "exec"), namespace)  # noqa: S102 - the module is what is tested
    return namespace


FIT = "@movies.step\ndef fit(x):\n    return helper(x)\n"


def test_only_what_the_functions_reach_is_kept_in_order() -> None:
    source = made(
        "import math\nRATE = 2", "tried = 1\nhelper = lambda x: x * RATE\nmath.pi", FIT, "run = movies.run()\nrun"
    )
    assert "tried" not in source
    assert "run" not in source
    assert "import math" not in source
    assert ran(source)["fit"](3) == 6


def test_the_last_definition_wins() -> None:
    source = made("def helper(x): return 'old'", FIT, "def helper(x): return 'new'")
    assert "old" not in source
    assert ran(source)["fit"](0) == "new"


def test_a_cell_run_twice_counts_once() -> None:
    source = made("def helper(x): return x", FIT, FIT)
    assert source.count("def fit") == 1


def test_values_keep_what_they_were_made_from() -> None:
    """A value made with an earlier definition still needs it."""
    source = made(
        "def scale(): return 2", "RATE = scale()", "def scale(): return 3", "helper = lambda x: (RATE, scale())", FIT
    )
    assert ran(source)["fit"](0) == (2, 3)


def test_changes_in_place_follow_what_they_change() -> None:
    source = made("T = [1]", "T.append(2)\nT += [3]\nD = {}\nD['a'] = T", "helper = lambda x: D['a']", FIT)
    assert ran(source)["fit"](0) == [1, 2, 3]


def test_a_fresh_value_ends_what_was_before() -> None:
    assert "append" not in made("T = [1]", "T.append(2)", "T = []", "helper = lambda x: T", FIT)


def test_magics_and_failed_cells_are_left_out() -> None:
    source = made("%matplotlib inline", "!ls", "%%bash\necho def helper", "def helper(x): return 7", FIT)
    assert ran(source)["fit"](0) == 7


def test_magics_among_python_are_cut() -> None:
    cells = [
        "movies = Pipeline('m')\n%load_ext x\nhelper = 3 \\\n  % 2\nfiles = !ls\nmovies?",
        "%%time\n@movies.step\ndef fit(x):\n    return helper",
    ]
    namespace = live("movies = Pipeline('m')\nhelper = 1\n@movies.step\ndef fit(x): return 0")
    source = assemble(namespace["movies"].functions, namespace, cells)
    assert "%load_ext" not in source
    assert (
        ran("class Pipeline:\n  def __init__(self, n): pass\n  def step(self, f): return f\n" + source)["fit"](0) == 1
    )


def test_cell_magics_as_ipython_keeps_them_are_opened() -> None:
    cell = "get_ipython().run_cell_magic('time', '', 'def helper(x): return 5\\n')"
    namespace = live("movies = Pipeline('m')\nhelper = 0", FIT)
    source = assemble(namespace["movies"].functions, namespace, ["movies = Pipeline('m')", cell, FIT])
    assert ran(source)["fit"](0) == 5


def test_included_pipelines_are_kept() -> None:
    assert "movies.include(other)" in made("other = Pipeline('other')\nmovies.include(other)", "helper = str", FIT)


def test_imports_from_the_future_come_first() -> None:
    source = made("from __future__ import annotations\nhelper = str", FIT)
    assert source.startswith("from __future__ import annotations\n")


def test_conditional_imports_and_loops_are_kept_whole() -> None:
    source = made(
        "try:\n    import nothing_there as m\nexcept ImportError:\n    import math as m",
        "S = 0\nfor i in range(4):\n    S += i",
        "helper = lambda x: (m.tau > 6, S)",
        FIT,
    )
    assert ran(source)["fit"](0) == (True, 6)


def test_values_that_no_cell_binds_are_imported_or_written_out() -> None:
    namespace = live("movies = Pipeline('m')", FIT)
    namespace["helper"] = linecache.getline
    assert "from linecache import getline as helper" in from_namespace(namespace["movies"].functions, namespace)
    namespace["helper"] = 5
    assert "helper = 5" in from_namespace(namespace["movies"].functions, namespace)


def test_a_value_that_cannot_be_written_out_is_refused() -> None:
    namespace = live("movies = Pipeline('m')", FIT)
    namespace["helper"] = object()
    with pytest.raises(DeclarationError, match="`helper` is used by the pipeline, but no cell"):
        from_namespace(namespace["movies"].functions, namespace)


def test_a_main_without_a_file_is_read_from_linecache() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "Pipeline": Recorder}
    for number, cell in enumerate(["RATE = 4", "movies = Pipeline('m')\n@movies.step\ndef fit(x): return x * RATE"]):
        name = f"<penstock-test {number}>"
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        exec(compile(cell, name, "exec"), namespace)  # noqa: S102 - this is what a console does
    assert ran(from_namespace(namespace["movies"].functions, namespace))["fit"](2) == 8
