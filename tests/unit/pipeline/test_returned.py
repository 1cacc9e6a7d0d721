"""Columns a function surely returns: told where its text leaves no doubt, and nothing is claimed elsewhere."""

import importlib
import sys
from pathlib import Path

import pytest

from penstock.pipeline.returned import columns_returned


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ("return rows.select('id', hit=1)", ("id", "hit")),
        ("return rows.select(['id', 'at'], pl.col('hit'), (1 - x).alias('miss'))", ("id", "at", "hit", "miss")),
        ("return rows.select('id', hit=1).with_columns(again=2).filter(x).sort('id')", ("id", "hit", "again")),
        ("return pl.DataFrame({'id': a, 'hit': b})", ("id", "hit")),
        ("if a:\n        return rows.select('id', hit=1)\n    return rows.select('id', miss=1)", ("id",)),
        ("def inner():\n        return 3\n    return rows.select('id', hit=1)", ("id", "hit")),
        ("return rows.with_columns(hit=1)", None),
        ("return rows.select('id')", None),
        ("return rows.select(pl.all(), hit=1)", None),
        ("return rows.select('*', hit=1)", None),
        ("return rows.select('^a.*$', hit=1)", None),
        ("return rows.select(*names, hit=1)", None),
        ("return rows.select('id', **more)", None),
        ("return rows.select('id', hit=1).rename({'id': 'key'})", None),
        ("return rows.select(pl.col('a', 'b'), hit=1)", None),
        ("return rows.select(pl.col('id').max().over('x'), hit=1)", None),
        ("return pl.DataFrame({**given, 'hit': b})", None),
        ("return pl.DataFrame(found)", None),
        ("if a:\n        return rows.select('id', hit=1)\n    return other(rows)", None),
        ("return", None),
        ("yield rows.select('id', hit=1)", None),
    ],
)
def test_columns_are_told_only_where_they_are_certain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, columns: tuple[str, ...] | None
) -> None:
    """A name that is claimed to be missing blocks a pipeline, so what may be otherwise is not claimed."""
    (tmp_path / "evaluation_text.py").write_text(f"def quality(model, rows):\n    {body}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evaluation_text", raising=False)
    assert columns_returned(importlib.import_module("evaluation_text").quality) == columns


def test_a_function_without_text_is_left_alone() -> None:
    assert columns_returned(len) is None
