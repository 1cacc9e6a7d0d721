"""The rule of the star: every parameter finds its source and its form."""

import linecache
import sys
import types
from pathlib import Path

from pipeline_files import HEAD, described, imported

from penstock import Pipeline
from penstock.pipeline.describe import describe
from penstock.pipeline.graph import Graph, decode_graph, encode_graph

DATA = "@p.dataset\ndef data() -> pl.LazyFrame: ...\n"


def forms(graph: Graph, node: str) -> dict[str, str]:
    return {edge.argument: edge.form for edge in graph.node(node).edges}


def test_forms_follow_annotations(tmp_path: Path) -> None:
    """Each library's frame is asked for by annotation; without one a dataset comes as a polars frame."""
    head = (
        "from __future__ import annotations\nfrom collections.abc import Iterator\nfrom typing import TYPE_CHECKING\n"
        "from penstock import Pipeline\nif TYPE_CHECKING:\n    import pandas as pd\n    import polars as pl\n"
        "    import pyarrow as pa\np = Pipeline('p')\n"
    )
    graph = described(
        tmp_path,
        "@p.dataset\ndef a(): ...\n@p.step\ndef number() -> int: ...\n"
        "@p.step\ndef s(a: pl.LazyFrame, number): ...\n@p.step\ndef t(a: pl.DataFrame | None, number: int): ...\n"
        "@p.step\ndef u(a: pd.DataFrame): ...\n@p.step\ndef v(a: pa.Table): ...\n"
        "@p.step\ndef w(a: Iterator[pa.RecordBatch]): ...\n@p.step\ndef x(a): ...\n",
        head=head,
    )
    assert [forms(graph, name)["a"] for name in "stuvwx"] == ["lazy", "polars", "pandas", "arrow", "batches", "polars"]
    assert forms(graph, "s")["number"] == forms(graph, "t")["number"] == "value"


def test_outputs_of_a_step_are_sources(tmp_path: Path) -> None:
    """Two outputs are taken by their own names, with the annotations of their own."""
    graph = described(
        tmp_path,
        DATA + "@p.step(outputs=('train', 'rate'))\ndef split(data, now) -> tuple[pl.DataFrame, float]: ...\n"
        "@p.model\ndef fit(train, rate: float): ...\n",
    )
    assert graph.node("split").returns == ("polars.DataFrame", "float")
    assert forms(graph, "split") == {"data": "polars", "now": "word"}
    assert [(edge.node, edge.source, edge.form) for edge in graph.node("fit").edges] == [
        ("split", "train", "polars"),
        ("split", "rate", "value"),
    ]


def test_a_fan_out_hands_on_parts(tmp_path: Path) -> None:
    """The same column gives the matching part, none gives all parts, a frame annotation joins them."""
    graph = described(
        tmp_path,
        DATA + "@p.step(each='store')\ndef rows(data: pl.DataFrame, store) -> pl.DataFrame: ...\n"
        "@p.model(each='store')\ndef fit(rows: pl.DataFrame): ...\n@p.step\ndef joined(rows: pl.LazyFrame): ...\n"
        "@p.serve\ndef ask(fit: dict[str, object], rows, *, store: str): ...\n",
    )
    assert forms(graph, "rows") == {"data": "polars", "store": "key"}
    assert forms(graph, "fit") == {"rows": "polars"}
    assert forms(graph, "joined") == {"rows": "lazy"}
    assert forms(graph, "ask") == {"fit": "parts", "rows": "parts"}


def test_parameters_keep_type_and_default(tmp_path: Path) -> None:
    """Enums are kept by value, paths as text; a parameter without a default is required."""
    graph = described(
        tmp_path,
        "import enum\nfrom pathlib import Path\nfrom typing import Literal\n"
        "class Loss(enum.Enum):\n    SOFT = 'soft'\n    HARD = 'hard'\n"
        "@p.step\ndef a(*, n: int, path: Path = Path('x/y'), loss: Loss = Loss.SOFT, sizes: list[int] = [1, 2],\n"
        "      mode: Literal['a', 'b'] = 'a', cap: float | None = None): ...\n",
    )
    assert [(param.name, param.type, param.required, param.default) for param in graph.node("a").params] == [
        ("n", "int", True, None),
        ("path", "Path", False, "x/y"),
        ("loss", "Literal['soft', 'hard']", False, "soft"),
        ("sizes", "list[int]", False, [1, 2]),
        ("mode", "Literal['a', 'b']", False, "a"),
        ("cap", "float | None", False, None),
    ]


def test_checks_stand_before_what_takes_the_same_inputs(tmp_path: Path) -> None:
    """What a check needs itself does not wait for it; answering waits for every check."""
    graph = described(
        tmp_path,
        "@p.step\ndef report(data): ...\n"
        + DATA
        + "@p.step\ndef train(data): ...\n@p.check\ndef fine(data): ...\n@p.model\ndef fit(train): ...\n"
        "@p.evaluate\ndef quality(model, data): ...\n@p.check\ndef good(quality, data): ...\n"
        "@p.serve\ndef ask(fit): ...\n",
    )
    order = [node.name for node in graph.nodes]
    assert order == ["data", "fine", "train", "fit", "quality", "good", "report", "ask"]
    assert {node.name: node.after for node in graph.nodes if node.after} == {
        "train": ("fine",),
        "quality": ("fine",),
        "report": ("fine", "good"),
        "ask": ("fine", "good"),
    }


def test_a_graph_survives_as_json(tmp_path: Path) -> None:
    """What is read back equals what was written."""
    graph = described(tmp_path, DATA + "@p.evaluate(metric='m', slices='s')\ndef quality(model, data): ...\n")
    assert decode_graph(encode_graph(graph)) == graph
    assert graph.node("quality").options == {"metric": "m", "slices": ["s"], "higher_is_better": True}
    assert graph.node("quality").line == 9
    assert (graph.entry, graph.variable, graph.import_root) == ("flow", "p", ".")


def test_a_package_is_imported_from_above_its_top(tmp_path: Path) -> None:
    """In a src layout the import root is `src`, and functions are named by their full module."""
    package = tmp_path / "src" / "shop" / "flows"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    (package / "daily.py").write_text(HEAD + "@p.step\ndef a() -> int: ...\n")
    with imported(tmp_path / "src", "shop.flows.daily") as declared:
        graph = describe(declared, tmp_path)
    assert (graph.entry, graph.import_root) == ("shop.flows.daily", "src")
    assert (graph.nodes[0].function, graph.nodes[0].file) == ("shop.flows.daily:a", "src/shop/flows/daily.py")


def test_include_reuses_what_another_module_declares(tmp_path: Path) -> None:
    """Included nodes keep their own module; including twice changes nothing."""
    (tmp_path / "shared.py").write_text(HEAD.replace("p = ", "q = ") + "@q.dataset\ndef data(): ...\n")
    graph = described(tmp_path, "from shared import q\np.include(q)\np.include(q)\n@p.step\ndef a(data): ...\n")
    assert [node.function for node in graph.nodes] == ["shared:data", "flow:a"]
    assert [file.path for file in graph.files] == ["flow.py", "shared.py"]


def test_a_fallback_knows_what_it_stands_in_for(tmp_path: Path) -> None:
    """The serve function with the same fields is the one replaced."""
    graph = described(
        tmp_path,
        "@p.serve\ndef ask(*, user: int): ...\n@p.serve\ndef find(*, text: str): ...\n"
        "@p.fallback(deadline_ms=20)\ndef plain(*, text: str): ...\n",
    )
    assert graph.node("plain").options == {"deadline_ms": 20.0, "serves": ["find"]}


def test_a_notebook_describes_and_a_cell_may_run_again(tmp_path: Path) -> None:
    """Functions without a file are described from their cells; running a cell twice replaces its functions."""
    main = types.ModuleType("__main__")
    cells = {
        "<cell 1>": "from penstock import Pipeline\nnb = Pipeline('nb')\n",
        "<cell 2>": "def base():\n    return 1\n@nb.step\ndef a() -> int:\n    return base()\n",
        "<cell 3>": "@nb.step\ndef a() -> float:\n    return base() + 1.0\n",
    }
    before, sys.modules["__main__"] = sys.modules["__main__"], main
    try:
        for name, source in cells.items():
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            exec(compile(source, name, "exec"), vars(main))  # noqa: S102 - as a notebook runs a cell
        pipeline = vars(main)["nb"]
        assert isinstance(pipeline, Pipeline)
        graph = describe(pipeline.declared, tmp_path)
    finally:
        sys.modules["__main__"] = before
    assert [(node.function, node.returns, node.file, node.line) for node in graph.nodes] == [
        ("nb_notebook:a", ("float",), "nb_notebook.py", 6)
    ]
    assert (graph.entry, graph.variable, [file.path for file in graph.files]) == (
        "nb_notebook",
        "nb",
        ["nb_notebook.py"],
    )
