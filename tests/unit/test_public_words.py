"""The public words: few, pinned, and quick to import."""

import subprocess
import sys

import pytest

import penstock

WORDS = [
    "ArtifactError",
    "CheckError",
    "DataError",
    "DeclarationError",
    "InputError",
    "PenstockError",
    "Pipeline",
    "Row",
    "StepError",
    "StoreError",
    "load_release",
    "sources",
]
HEAVY = {"polars", "pyarrow", "pandas", "numpy", "deltalake", "sqlalchemy", "lightgbm", "sklearn", "torch", "ray"}


def test_the_public_words_are_these() -> None:
    """A word is added by decision, not by accident; 25 are the most there may be."""
    assert sorted(penstock.__all__) == WORDS
    assert len(WORDS) <= 25


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_there(word: str) -> None:
    """What `__all__` promises can be imported, and is shown by `dir`."""
    assert getattr(penstock, word) is getattr(penstock, word)
    assert word in dir(penstock)


def test_an_unknown_word_is_an_attribute_error() -> None:
    """A typing mistake is told as Python tells it."""
    with pytest.raises(AttributeError, match="module 'penstock' has no attribute 'Pipelin'"):
        penstock.Pipelin  # noqa: B018 - looking it up is the test


@pytest.mark.parametrize("statement", ["import penstock", "from penstock import Pipeline, Row; Pipeline('p')"])
def test_importing_loads_no_data_library(statement: str) -> None:
    """A pipeline file starts as fast as the libraries it imports itself."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY.isdisjoint(loaded)
