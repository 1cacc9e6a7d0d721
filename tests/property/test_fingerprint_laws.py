"""Whatever the program: layout never counts, what is reached always does, what is not never does."""

import ast
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipeline.fingerprint import Analyzer

SIZE = 6
values = st.one_of(
    st.integers(-1000, 1000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.booleans(),
    st.none(),
    st.binary(max_size=4),
    st.tuples(st.integers(0, 9)),
)
calls = st.lists(st.lists(st.integers(0, SIZE - 1), max_size=3, unique=True), min_size=SIZE, max_size=SIZE)
constants = st.lists(values, min_size=SIZE, max_size=SIZE)
layouts = st.lists(st.sampled_from(["", "# words\n", "\n\n", '"a bare text"\n']), min_size=SIZE, max_size=SIZE)


def program(graph: list[list[int]], held: list[object], layout: list[str] | None = None) -> str:
    """Functions f0..f5, each with its constant, calling one another along `graph` (cycles welcome)."""
    lines = []
    for number, (called, value) in enumerate(zip(graph, held, strict=True)):
        lines.append(layout[number] if layout else "")
        lines.append(f"C{number} = {value!r}\n")
        body = ", ".join([f"C{number}", *(f"f{other}(x)" for other in called)])
        lines.append(f"def f{number}(x):\n    '''Doc {len(lines)}.'''\n    return f'{{x!r:>{{x}}}} a' 'b', ({body},)\n")
    return "".join(lines)


def digests(source: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer(Path(folder))
        analyzer.add_module("m", source)
        return [analyzer.fingerprint_named("m", f"f{number}").digest for number in range(SIZE)]


def reached(graph: list[list[int]], start: int) -> set[int]:
    seen, waiting = {start}, [start]
    while waiting:
        for other in graph[waiting.pop()]:
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


@settings(max_examples=60, deadline=None)
@given(graph=calls, held=constants, layout=layouts)
def test_layout_and_words_never_count(graph: list[list[int]], held: list[object], layout: list[str]) -> None:
    """Writing the same tree another way, with other comments and docstrings, changes no fingerprint."""
    plain = digests(program(graph, held))
    assert digests(program(graph, held, layout)) == plain
    assert digests(ast.unparse(ast.parse(program(graph, held)))) == plain


@settings(max_examples=100, deadline=None)
@given(graph=calls, held=constants, changed=st.integers(0, SIZE - 1), value=values)
def test_a_changed_constant_changes_exactly_what_reaches_it(
    graph: list[list[int]], held: list[object], changed: int, value: object
) -> None:
    """One constant changes: the fingerprints that change are those of the functions that reach it, no other."""
    other = [value if number == changed else old for number, old in enumerate(held)]
    before, after = digests(program(graph, held)), digests(program(graph, other))
    is_same = repr(held[changed]) == repr(value)
    for number in range(SIZE):
        should_change = changed in reached(graph, number) and not is_same
        assert (before[number] != after[number]) == should_change
