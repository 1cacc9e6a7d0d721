"""Pipelines as a user writes them: a file in a folder of its own, imported afresh."""

import importlib
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.pipeline.declare import Declarations
from penstock.pipeline.describe import describe
from penstock.pipeline.graph import Graph

HEAD = """\
import polars as pl
import penstock
from penstock import Pipeline

p = Pipeline("p", goal="Test.")
"""


@contextmanager
def imported(root: Path, module: str) -> Iterator[Declarations]:
    """Import `module` from `root` and give what its `p` declares; forget every module of `root` afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module(module).p.declared
    finally:
        sys.path.remove(str(root))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(root)):
                del sys.modules[name]


def described(root: Path, body: str, *, head: str = HEAD) -> Graph:
    """Describe a pipeline whose file is `head` (five lines by default) and then `body`."""
    (root / "flow.py").write_text(head + textwrap.dedent(body), encoding="utf-8")
    with imported(root, "flow") as declared:
        return describe(declared, root)
