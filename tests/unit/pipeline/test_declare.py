"""Decorators note what a function is for and leave it as it is."""

from collections.abc import Iterator

import pytest

from penstock import Pipeline


def declared(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    return ((entry.role, entry.name) for entry in pipeline.declared)


@pytest.mark.parametrize(
    "word", ["dataset", "step", "model", "baseline", "evaluate", "check", "serve", "fallback", "outcome"]
)
def test_a_decorator_works_bare_and_called_and_returns_the_function_unchanged(word: str) -> None:
    """`@p.step` and `@p.step()` say the same."""

    def bare() -> None: ...

    def called() -> None: ...

    pipeline = Pipeline("p")
    decorate = getattr(pipeline, word)
    assert decorate(bare) is bare
    assert decorate()(called) is called
    assert list(declared(pipeline)) == [(word, "bare"), (word, "called")]


def test_included_parts_may_include_each_other() -> None:
    """Going round in a circle ends, and each function counts once."""
    one, two = Pipeline("one"), Pipeline("two")
    one.step(test_included_parts_may_include_each_other)
    one.include(two)
    two.include(one)
    assert list(declared(two)) == list(declared(one)) == [("step", "test_included_parts_may_include_each_other")]


def test_a_pipeline_shows_itself_as_text_and_as_safe_html() -> None:
    """Names and goal are readable, and nothing in them becomes markup."""
    pipeline = Pipeline("p", goal="Less than <b> & more.")

    @pipeline.step(outputs=("<x>", "y"))
    def cut(rows: object, now: object, *, k: int = 3) -> None: ...

    assert repr(pipeline) == "Pipeline 'p': Less than <b> & more.\n  step      cut"
    html = pipeline._repr_html_()
    assert "<p>Less than &lt;b&gt; &amp; more.</p>" in html
    assert '<th scope="row">cut</th><td>step</td><td>rows, now</td><td>&lt;x&gt;, y</td>' in html
