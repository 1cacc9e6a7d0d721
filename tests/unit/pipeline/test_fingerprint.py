"""A fingerprint covers what a function reaches, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from penstock.core.errors import DeclarationError, NotFoundError
from penstock.pipeline.fingerprint import Analyzer
from penstock.pipeline.graph import Fingerprint

Take = Callable[..., Fingerprint]

HEAD = """
from penstock import Pipeline
movies = Pipeline("movies")
"""


@pytest.fixture
def take(tmp_path: Path) -> Take:
    """Write files (`lib__features=` for lib/features.py) and fingerprint `fit` of movies.py."""

    def write_and_take(_name: str = "fit", **files: str) -> Fingerprint:
        for name, text in files.items():
            path = tmp_path / (name.replace("__", "/").replace("/init", "/__init__") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")
        return Analyzer(tmp_path).fingerprint_named("movies", _name)

    return write_and_take


def changes(take: Take, before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the keys of the parts that differ between two versions of a project."""
    old, new = take(**before).parts, take(**(before | after)).parts
    return {key for key in old | new if (key in old and old[key].digest) != (key in new and new[key].digest)}


FEATURES = """
import math
SCALE = 3
def _genre_weights(rows):
    '''Weights.'''
    return {row: math.sqrt(row) * SCALE for row in rows}
def unrelated():
    return 1
"""
MOVIES = HEAD + "from features import _genre_weights\n@movies.step\ndef fit(rows):\n    return _genre_weights(rows)\n"


@pytest.mark.parametrize(
    "features",
    [
        FEATURES.replace("SCALE = 3", "# why\nSCALE = (\n    3\n)\n\n\n"),
        FEATURES.replace("'''Weights.'''", '"""Other words,\n    on two lines."""'),
        FEATURES.replace("'''Weights.'''", ""),
        FEATURES.replace("math.sqrt(row) * SCALE", "(math.sqrt( row )) \\\n * SCALE  # scaled\n"),
        FEATURES.replace("return 1", "return 2"),
        "X = 1\n" + FEATURES,
    ],
    ids=["comment", "docstring", "no docstring", "layout", "unreached", "lines shift"],
)
def test_words_layout_and_unreached_code_do_not_count(take: Take, features: str) -> None:
    """A comment, a docstring, a reformat, a neighbour: nothing is run again."""
    assert take(movies=MOVIES, features=FEATURES).digest == take(movies=MOVIES, features=features).digest


@pytest.mark.parametrize(
    ("features", "part"),
    [
        (FEATURES.replace("SCALE = 3", "SCALE = 4"), "features:SCALE"),
        (FEATURES.replace("SCALE = 3", "SCALE = 3.0"), "features:SCALE"),
        (FEATURES.replace("* SCALE", "/ SCALE"), "features:_genre_weights"),
        (FEATURES + "SCALE += 1\n", "features:SCALE#2"),
        (FEATURES + "print('imported')\n", "features:*"),
        (FEATURES + "math.tau = 7\n", "features:*"),
        (FEATURES.replace("def _g", "@unrelated\ndef _g"), "features:_genre_weights"),
        (FEATURES.replace("(rows)", "(rows: list[int])"), "features:_genre_weights"),
    ],
)
def test_a_reached_change_counts_and_is_named(take: Take, features: str, part: str) -> None:
    """What a function reaches two modules away counts, whatever form it takes."""
    assert part in changes(take, {"movies": MOVIES, "features": FEATURES}, {"features": features})


def test_a_label_says_what_and_where(take: Take) -> None:
    parts = take(movies=MOVIES, features=FEATURES).parts
    assert parts["features:_genre_weights"].label == "`_genre_weights` in features.py:4"


def test_a_helper_two_modules_away_changes_exactly_the_nodes_that_reach_it(take: Take) -> None:
    files = {
        "movies": HEAD
        + "import features\n@movies.step\ndef fit(x):\n    return features.top(x)\n"
        + "@movies.step\ndef other(x):\n    return features.aside(x)\n",
        "features": "from deep.er import helper\ndef top(x):\n    return helper(x)\ndef aside(x):\n    return x\n",
        "deep__er": "def helper(x):\n    return x + 1\n",
    }
    fit, other = take("fit", **files), take("other", **files)
    edited = files | {"deep__er": "def helper(x):\n    return x + 2\n"}
    assert take("fit", **edited).digest != fit.digest
    assert take("other", **edited).digest == other.digest


@pytest.mark.parametrize(
    ("head", "call"),
    [
        ("from pkg.sub import helper", "helper(x)"),
        ("from pkg.sub import helper as h", "h(x)"),
        ("import pkg.sub", "pkg.sub.helper(x)"),
        ("import pkg.sub as s", "s.helper(x)"),
        ("from pkg import sub", "sub.helper(x)"),
        ("from pkg import helper", "helper(x)"),
        ("import pkg", "pkg.helper(x)"),
        ("from pkg.sub import *", "helper(x)"),
        ("from pkg import *", "helper(x)"),
        ("import pkg.sub as s", "getattr(s, 'helper')(x)"),
        ("import pkg.sub as s", "getattr(s, x)(x)"),
        ("try:\n    from pkg.sub import helper\nexcept ImportError:\n    helper = None", "helper(x)"),
        ("from importlib import import_module", "import_module('pkg.sub').helper(x)"),
        ("import pkg.sub as s\nh = s.helper", "h(x)"),
        ("import pkg.sub as s\nh = lambda x: s.helper(x)", "h(x)"),
        ("from pkg.sub import helper\nTABLE = {'a': helper}", "TABLE['a'](x)"),
        ("from pkg.sub import helper\nif (h := helper):\n    pass", "h(x)"),
        ("from pkg.sub import helper\nfor h in [helper]:\n    pass", "h(x)"),
        ("from pkg.sub import helper\n(a, *h) = 1, helper", "h[0](x)"),
        ("from pkg.sub import helper\nclass A:\n    def m(self, x):\n        return helper(x)", "A().m(x)"),
        ("from pkg.sub import helper\nclass B:\n    h = helper\nclass A(B): pass", "A.h(x)"),
        ("from pkg.sub import helper\nREG = []\nREG.append(helper)", "REG[0](x)"),
        ("from pkg.sub import helper\nREG = {}\nREG['a'] = helper", "REG['a'](x)"),
        ("from pkg.sub import helper\ndef g(x, f=helper):\n    return f(x)", "g(x)"),
        ("from pkg.sub import helper\nprint(helper)", "x"),
        ("import pkg.sub", "[pkg.sub.helper(pkg) for pkg_ in x]"),
    ],
)
def test_every_way_to_a_helper_is_followed(take: Take, head: str, call: str) -> None:
    files = {
        "movies": f"{HEAD}{head}\n@movies.step\ndef fit(x):\n    return {call}\n",
        "pkg__init": "from .sub import helper\n",
        "pkg__sub": "def helper(x):\n    return x\ndef other():\n    return 0\n",
    }
    assert changes(take, files, {"pkg__sub": "def helper(x):\n    return -x\n"}) >= {"pkg.sub:helper"}


@pytest.mark.parametrize(
    "body",
    [
        "def fit(x):\n    from pkg.sub import helper as h\n    return h(x)",
        "def fit(x):\n    import pkg.sub\n    return pkg.sub.helper(x)",
        "def fit(x):\n    import pkg.sub as s\n    return (lambda: s.helper)(x)",
    ],
)
def test_imports_inside_functions_are_followed(take: Take, body: str) -> None:
    files = {"movies": f"{HEAD}@movies.step\n{body}\n", "pkg__sub": "def helper(x):\n    return x\n"}
    assert changes(take, files, {"pkg__sub": "def helper(x):\n    return -x\n"}) == {"pkg.sub:helper"}


@pytest.mark.parametrize(
    "body",
    [
        "def fit(weights):\n    return weights",
        "def fit(x):\n    weights = 1\n    return weights",
        "def fit(x):\n    return [weights for weights in x]",
        "def fit(x):\n    return (lambda weights: weights)(x)",
        "def fit(x):\n    for weights, y in x:\n        pass\n    return weights",
        "def fit(x):\n    with x as weights:\n        return weights",
        "def fit(x):\n    match x:\n        case [weights, *_]:\n            return weights",
        "def fit(x):\n    import math as weights\n    return weights.tau",
        "def fit(x):\n    if (weights := x):\n        return weights",
        "def fit(x):\n    def inner():\n        nonlocal weights\n        weights = 2\n    weights = 1",
        "def fit(x):\n    return x.weights(weights=1)",
    ],
)
def test_a_local_name_is_not_the_module_s(take: Take, body: str) -> None:
    """Python's rules of scope decide: a variable called like a helper does not reach it."""
    files = {"movies": f"{HEAD}def weights(x):\n    return 1\n@movies.step\n{body}\n"}
    assert "movies:weights" not in take(**files).parts


def test_class_scope_is_not_seen_by_methods(take: Take) -> None:
    text = "RATE = 1\nclass fit:\n    RATE = 2\n    def m(self):\n        return RATE\n"
    assert "movies:RATE" in take(movies=text).parts


def test_recursion_and_cycles_between_modules_end(take: Take) -> None:
    files = {
        "movies": "import other\ndef fit(n):\n    return other.back(n) if n else fit(n - 1)\n",
        "other": "import movies\nLIMIT = 1\ndef back(n):\n    return movies.fit(n - LIMIT)\n",
    }
    assert set(take(**files).parts) >= {"movies:fit", "other:back", "other:LIMIT"}


def test_definitions_by_condition_count_whole(take: Take) -> None:
    text = "if __debug__:\n    def h(): return 1\nelse:\n    def h(): return 2\ndef fit(x): return h()\n"
    assert "movies:h" in changes(take, {"movies": text}, {"movies": text.replace("return 2", "return 3")})


def test_annotations_bring_the_classes_they_name(take: Take) -> None:
    """A `Row` named by an annotation shapes what is served, quoted or not."""
    text = "class Movie:\n    title: str\ndef fit(x) -> list['Movie']: return []\n"
    assert changes(take, {"movies": text}, {"movies": text.replace("title: str", "title: int")}) == {"movies:Movie"}


def test_other_nodes_and_their_decorators_do_not_count(take: Take) -> None:
    """The pipeline object does not tie its nodes together."""
    text = (
        MOVIES
        + "@movies.step(outputs=('a', 'b'))\ndef other(x):\n    return x\nmovies.include(movies)\nrun = movies.run()\n"
    )
    more = (
        text.replace("return x\n", "return -x\n").replace("'a', 'b'", "'a', 'c'").replace("movies.include(movies)", "")
    )
    assert take(movies=text, features=FEATURES).digest == take(movies=more, features=FEATURES).digest


def test_a_pipeline_made_elsewhere_ties_nothing_either(take: Take) -> None:
    files = {
        "base": HEAD + "@movies.step\ndef other(x): return x\n",
        "pkg__init": "from base import movies\n",
        "movies": "import base\nfrom pkg import movies\n@base.movies.step\n@movies.step(each='k')\ndef fit(x): pass\n",
    }
    assert changes(take, files, {"base": HEAD + "@movies.step\ndef other(x): return 2\n"}) == set()
    assert changes(take, files, {"movies": files["movies"].replace("each='k'", "each='j'")}) == set()


def test_another_librarys_pipeline_is_a_value_like_others(take: Take) -> None:
    text = "from sklearn.pipeline import Pipeline\npipe = Pipeline([('a', 1)])\ndef fit(x): return pipe.fit(x)\n"
    assert changes(take, {"movies": text}, {"movies": text.replace("'a', 1", "'a', 2")}) == {"movies:pipe"}


def test_the_main_block_does_not_count(take: Take) -> None:
    assert (
        take(movies=MOVIES, features=FEATURES).digest
        == take(movies=MOVIES + "if __name__ == '__main__':\n    print(movies)\n", features=FEATURES).digest
    )


def test_a_module_imported_for_what_it_does_counts(take: Take) -> None:
    """`import seeds` without a use stands there for its effect."""
    files = {"movies": "import seeds\ndef fit(x): return x\n", "seeds": "import random\nrandom.seed(1)\n"}
    assert changes(take, files, {"seeds": "import random\nrandom.seed(2)\n"}) == {"seeds:*"}


def test_star_imports_follow_all(take: Take) -> None:
    files = {
        "movies": "from lib import *\ndef fit(x): return _hidden(x)\n",
        "lib": "__all__ = ['_hidden']\ndef _hidden(x): return 1\n",
    }
    assert "lib:_hidden" in take(**files).parts


def test_installed_packages_count_by_version_when_used(take: Take) -> None:
    """An import alone brings no package; its use in reached code does."""
    text = "import numpy as np\nimport polars as pl\ndef fit(x): return np.sin(x)\ndef other(x): return pl.lit(x)\n"
    assert set(take(movies=text).packages) == {"numpy"}


def test_a_distribution_may_be_called_otherwise_than_its_import(take: Take) -> None:
    packages = take(movies="import _pytest.mark\nimport yaml\ndef fit(x): return _pytest.mark\n").packages
    assert list(packages) == ["pytest"]


def test_changing_which_name_an_import_binds_counts(take: Take) -> None:
    text = "from math import sin as f\ndef fit(x): return f(x)\n"
    assert changes(take, {"movies": text}, {"movies": text.replace("sin", "cos")}) == {"movies:f"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "import os\ndef fit(x):\n    return os.environ['A']",
            "`fit` in movies.py:3 reads the environment (os.environ); a change of it is not seen.",
        ),
        ("from os import getenv\ndef fit(x):\n    return getenv('A')", "reads the environment (os.getenv)"),
        (
            "import importlib\ndef fit(x):\n    return importlib.import_module(x)",
            "imports a module by a name made at run time",
        ),
        ("def fit(x):\n    return eval(x)", "runs text as code (eval)"),
        ("def fit(x):\n    return open('a.txt').read()", "reads the file 'a.txt'"),
        ("CACHE = {}\ndef fit(x):\n    CACHE[x] = 1", "changes the global `CACHE`"),
        ("SEEN = []\ndef fit(x):\n    SEEN.append(x)", "changes the global `SEEN`"),
        ("N = 0\ndef fit(x):\n    global N\n    N += 1", "changes the global `N`"),
        ("def fit(x):\n    return nowhere(x)", "uses `nowhere`, which is defined nowhere that can be seen"),
        ("import no_such_package as n\ndef fit(x):\n    return n.f(x)", "neither in the project nor installed"),
        ("import lib\ndef fit(x):\n    return lib.gone(x)", "takes `gone` from lib.py"),
    ],
)
def test_what_cannot_be_seen_is_said(take: Take, text: str, sentence: str) -> None:
    warnings = take(movies=text, lib="A = 1\n").warnings
    assert len(warnings) == 1
    assert sentence in warnings[0]


def test_lawful_code_gives_no_warnings(take: Take) -> None:
    text = """
    from __future__ import annotations
    import os.path
    from typing import Literal
    class A:
        '''Doc.'''
        def m(self) -> "A":
            seen = []
            seen.append(__name__)
            self.x = super().__init__()
            return __class__
    def fit(x: Literal["no", "name"], y: "A | None" = None):
        try:
            open("out.txt", "w").write(os.path.sep)
        except OSError as error:
            print(error, A)
    """
    assert take(movies=text).warnings == ()


def test_a_file_that_is_not_python_is_named_with_its_line(take: Take) -> None:
    with pytest.raises(DeclarationError, match=r"lib\.py:2: not valid Python"):
        take(movies="import lib\ndef fit(x): return lib.a\n", lib="a = 1\ndef (:\n")


def test_a_file_with_null_bytes_is_named(take: Take) -> None:
    with pytest.raises(DeclarationError, match=r"lib\.py:1: not "):
        take(movies="import lib\ndef fit(x): return lib.a\n", lib="a = 1\0\n")


def test_an_unknown_name_is_refused(take: Take) -> None:
    with pytest.raises(NotFoundError, match=r"movies\.py defines no 'nothing'"):
        take("nothing", movies="A = 1\n")


def test_files_in_environments_are_not_the_users(take: Take) -> None:
    files = {"movies": "import lib\ndef fit(x): return lib.a\n", ".venv__lib": "a = 1\n"}
    assert "neither in the project" in take(**files).warnings[0]


def test_penstock_itself_is_not_the_users_code(take: Take) -> None:
    """Also where its source lies under the root, as in its own repository."""
    found = take(movies=MOVIES, features=FEATURES, src__penstock__init="class Pipeline: pass\n")
    assert not any(key.startswith("penstock") for key in found.parts)
