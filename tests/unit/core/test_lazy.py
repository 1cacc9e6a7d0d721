"""Modules that are imported when first used, quickly, and leaving Python as it was."""

import gc
import sys
from pathlib import Path

import pytest

from penstock.core.lazy import import_quickly, lazy_words


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module that notes whether garbage is looked for while it is imported."""
    (tmp_path / "noting.py").write_text("import gc\nseen = gc.isenabled()\n", encoding="utf-8")
    (tmp_path / "failing.py").write_text("raise ValueError('no')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "noting", raising=False)
    return "noting"


def test_no_garbage_is_looked_for_during_an_import(module: str) -> None:
    """And it is again afterwards, also when the import failed."""
    assert import_quickly(module).seen is False
    assert gc.isenabled()
    with pytest.raises(ValueError, match="no"):
        import_quickly("failing")
    assert gc.isenabled()


def test_who_looks_for_no_garbage_is_left_alone(module: str) -> None:
    gc.disable()
    try:
        import_quickly(module)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_word_that_is_not_there_is_an_attribute_error(module: str) -> None:
    find = lazy_words("tests", {"seen": module})
    with pytest.raises(AttributeError, match="'tests' has no attribute 'heard'"):
        find("heard")
