"""Each mistake is found before anything runs, and named with function, file, line and a hint."""

from pathlib import Path

import pytest
from pipeline_files import described

from penstock.core.errors import DeclarationError

DATA = "@p.dataset\ndef data() -> pl.LazyFrame: ...\n"  # lines 6 and 7
MISTAKES = {
    "unknown input": (
        "@p.step\ndef features(): ...\n@p.step\ndef fit(featuers): ...\n",
        ["Step 'fit' (flow.py:9) needs 'featuers', which nothing in pipeline 'p' provides. Did you mean 'features'?"],
    ),
    "name of a step with several outputs": (
        "@p.step(outputs=('train', 'test'))\ndef split(): ...\n@p.step\ndef fit(split): ...\n",
        ["Step 'fit' (flow.py:9) needs 'split', but that step gives 'train' and 'test'."],
    ),
    "a check as input": (
        DATA + "@p.check\ndef fine(data): ...\n@p.step\ndef fit(fine): ...\n",
        ["Step 'fit' (flow.py:11) needs 'fine', but that is a check, which gives nothing to take."],
    ),
    "a slice that no row has": (
        DATA + "@p.model\ndef fit(data): ...\n"
        "@p.evaluate(metric='loss', slices=('gnere',), key='idd')\n"
        "def quality(model, data):\n    rows = data.collect()\n"
        "    return rows.select('id', pl.col('genre'), loss=pl.lit(1.0)).sort('id')\n",
        [
            "(flow.py:11) names 'gnere' in slices=, but the rows it returns have no such column. Did you mean 'genre'?",
            "(flow.py:11) names 'idd' in key=, but the rows it returns have no such column. Did you mean 'id'?",
        ],
    ),
    "a metric that no row has": (
        DATA + "@p.model\ndef fit(data): ...\n"
        "@p.evaluate(metric='ndcg')\ndef quality(model, data):\n    return pl.DataFrame({'hit': [1.0], 'user': [2]})\n",
        ["(flow.py:11) names 'ndcg' in metric=, but the rows it returns have no such column. They have 'hit', 'user'."],
    ),
    "cycle": (
        "@p.step\ndef a(c): ...\n@p.step\ndef b(a): ...\n@p.step\ndef c(b): ...\n",
        ["Step 'a' (flow.py:7) is part of a cycle: a -> b -> c -> a."],
    ),
    "two cycles": (
        "@p.step\ndef a(a): ...\n@p.step\ndef b(c): ...\n@p.step\ndef c(b): ...\n",
        ["Step 'a' (flow.py:7) is part of a cycle: a -> a.", "Step 'b' (flow.py:9) is part of a cycle: b -> c -> b."],
    ),
    "duplicate name": (
        "@p.step\ndef a(): ...\n@p.step\ndef a(): ...\n",
        ["Step 'a' (flow.py:9) has the name of Step 'a' (flow.py:7)."],
    ),
    "duplicate output": (
        "@p.step(outputs=('x',))\ndef a(): ...\n@p.step(outputs=('x',))\ndef b(): ...\n",
        ["Step 'b' (flow.py:9) gives 'x', as Step 'a' (flow.py:7) does."],
    ),
    "types that do not meet": (
        "@p.step\ndef a() -> int: ...\n@p.step\ndef b(a: str): ...\n",
        ["Step 'b' (flow.py:9) takes 'a' as str, but Step 'a' (flow.py:7) gives int."],
    ),
    "a frame where a number is made": (
        "@p.step\ndef a() -> int: ...\n@p.step\ndef b(a: pl.DataFrame): ...\n",
        ["Step 'b' (flow.py:9) takes 'a' as polars.DataFrame, but Step 'a' (flow.py:7) gives int."],
    ),
    "a class where rows come": (
        DATA + "@p.step\ndef b(data: dict[str, int]): ...\n",
        ["Step 'b' (flow.py:9) takes 'data' as dict[str, int], but Dataset 'data' (flow.py:7) gives rows."],
    ),
    "number of outputs": (
        "@p.step(outputs=('x', 'y'))\ndef a() -> tuple[int, int, int]: ...\n",
        ["Step 'a' (flow.py:7) has 2 outputs, but its annotation returns 3: tuple[int, int, int]."],
    ),
    "several outputs and no tuple": (
        "@p.step(outputs=('x', 'y'))\ndef a() -> pl.DataFrame: ...\n",
        ["Step 'a' (flow.py:7) has 2 outputs, but its annotation returns polars.DataFrame. Return a tuple."],
    ),
    "no outputs": ("@p.step(outputs=())\ndef a(): ...\n", ["Step 'a' (flow.py:7) has outputs=()"]),
    "word as name": ("@p.step\ndef now(): ...\n", ["Step 'now' (flow.py:7) is called 'now', a word of the platform"]),
    "word after the star": (
        "@p.step\ndef a(*, now: int = 3): ...\n",
        ["Step 'a' (flow.py:7) has 'now' after '*', but that is a word of the platform. Move it before '*'."],
    ),
    "since in a step": (
        "@p.step\ndef a(since): ...\n",
        ["Step 'a' (flow.py:7) takes 'since', a word that only datasets may take."],
    ),
    "model in a serve function": (
        "@p.model\ndef ranker(): ...\n@p.serve\ndef ask(model): ...\n",
        [
            "Serve function 'ask' (flow.py:9) takes 'model', a word that only evaluations may take.",
            "may take. Did you mean the model 'ranker'?",
        ],
    ),
    "evaluation without a model": (
        DATA + "@p.evaluate\ndef quality(data): ...\n",
        ["Evaluation 'quality' (flow.py:9) does not take 'model'"],
    ),
    "outcome without predictions": (
        DATA + "@p.outcome\ndef truth(data): ...\n",
        ["Outcome 'truth' (flow.py:9) does not take 'predictions'"],
    ),
    "parameter without a type": (
        "@p.step\ndef a(*, k=3): ...\n",
        ["Step 'a' (flow.py:7) has the run parameter 'k' without a type. Write it as 'k: int'."],
    ),
    "parameter of a type no setting has": (
        "@p.step\ndef a(*, k: dict[str, int]): ...\n",
        ["Step 'a' (flow.py:7) has the run parameter 'k' of type dict[str, int], which it cannot have"],
    ),
    "default of another type": (
        "@p.step\ndef a(*, k: int = 'three'): ...\n",
        ["Step 'a' (flow.py:7) has the run parameter 'k' of type int with the default 'three'."],
    ),
    "default that is no number": (
        "@p.step\ndef a(*, k: float = float('nan')): ...\n",
        ["Step 'a' (flow.py:7) has the run parameter 'k' of type float with the default nan."],
    ),
    "forgotten star": (
        "@p.step\ndef a(k: int = 3): ...\n",
        ["Step 'a' (flow.py:7) has 'k' with a default before '*'. Put '*' before it to make it a run parameter."],
    ),
    "an input with a default": (
        DATA + "@p.step\ndef a(data=None): ...\n",
        ["Step 'a' (flow.py:9) gives 'data' a default, but the pipeline always fills it."],
    ),
    "any arguments": (
        "@p.step\ndef a(*rest, **more): ...\n",
        ["Step 'a' (flow.py:7) has the parameter '*rest'", "Step 'a' (flow.py:7) has the parameter '**more'"],
    ),
    "positional-only": (
        DATA + "@p.step\ndef a(data, /): ...\n",
        ["Step 'a' (flow.py:9) has the parameter 'data', which nothing can fill."],
    ),
    "async": ("@p.step\nasync def a(): ...\n", ["Step 'a' (flow.py:7) is async. Write it with a plain 'def'"]),
    "lambda": ("p.step(lambda: 3)\n", ["Step '<lambda>' (flow.py:6) is a lambda."]),
    "nested": (
        "def make():\n    @p.step\n    def a(): ...\nmake()\n",
        ["Step 'a' (flow.py:8) is defined inside 'make'. Move it to the top of the module"],
    ),
    "no function": ("p.step(print)\n", ["Step 'print' (<unknown>:0) is a builtin_function_or_method"]),
    "capitals": (
        "@p.step\ndef Fit(): ...\n",
        ["Step 'Fit' (flow.py:7) is called 'Fit', which is not a usable name", "Did you mean 'fit'?"],
    ),
    "different columns": (
        DATA
        + "@p.step(each='store')\ndef a(data): ...\n@p.step(each='region')\ndef b(a): ...\n",
        ["Step 'b' (flow.py:11) has each='region', but takes 'a', which Step 'a' (flow.py:9) makes for each='store'."],
    ),
    "nothing to fan out over": (
        "@p.step(each='store')\ndef a(store): ...\n",
        ["Step 'a' (flow.py:7) has each='store', but takes no input to find keys in."],
    ),
    "one value where parts come": (
        DATA + "@p.model(each='store')\ndef m(data) -> int: ...\n@p.serve\ndef ask(m: int): ...\n",
        ["Serve function 'ask' (flow.py:11) takes 'm' as int, but it comes in parts, one for each 'store'."],
    ),
    "fallback with other fields": (
        "@p.serve\ndef ask(*, user: int, k: int = 3): ...\n@p.fallback\ndef else_(*, user: str): ...\n",
        [
            "Fallback 'else_' (flow.py:9) must take the fields of serve function 'ask', but these differ: ",
            "differ: 'user' (str here, int there), 'k' (missing here, int there).",
        ],
    ),
    "fallback for nothing": (
        "@p.fallback\ndef other(*, user: str): ...\n",
        ["Fallback 'other' (flow.py:7) has no serve function to stand in for."],
    ),
    "field no request can carry": (
        "@p.serve\ndef ask(*, user: Pipeline): ...\n",
        ["Serve function 'ask' (flow.py:7) has the field 'user' of type penstock.Pipeline, which no request"],
    ),
    "example with an unknown field": (
        "@p.serve(examples=[{'usr': 3}])\ndef ask(*, user: int): ...\n",
        ["has an example with the field 'usr', which it does not take. Did you mean 'user'?", "without 'user'"],
    ),
    "annotated evaluation": (
        "@p.evaluate\ndef quality(model): ...\n@p.check\ndef good(quality: pl.DataFrame): ...\n",
        ["Check 'good' (flow.py:9) takes 'quality' as polars.DataFrame, but an evaluation comes with its statistics."],
    ),
    "dataset of a dataset": (
        DATA + "@p.dataset\ndef more(data): ...\n",
        ["Dataset 'more' (flow.py:9) takes 'data', but a dataset reads what is outside the pipeline."],
    ),
    "check of nothing": ("@p.check\ndef fine(): ...\n", ["Check 'fine' (flow.py:7) takes no input"]),
    "bad option": (
        "@p.dataset(ranges={'x': 3})\ndef data(): ...\n",
        ["Dataset 'data' (flow.py:7) has ranges={'x': 3}, which is not usable"],
    ),
    "bad duration": (
        "@p.outcome(within='soon')\ndef truth(predictions): ...\n",
        ["Outcome 'truth' (flow.py:7) has within='soon': 'soon' is not a duration."],
    ),
    "nothing": ("", ["Pipeline 'p' declares nothing."]),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_names_function_place_and_way_out(tmp_path: Path, case: str) -> None:
    """The message holds what is wrong, where, and what to do; nothing else is complained about."""
    body, wanted = MISTAKES[case]
    with pytest.raises(DeclarationError, match="mistake") as caught:
        described(tmp_path, body)
    for text in wanted:
        assert text in str(caught.value)
    assert len(caught.value.mistakes) <= len(wanted)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """One look at the message shows everything to mend."""
    body = "@p.step\ndef a(nope): ...\n@p.step\ndef b(*, k=3): ...\n@p.step\ndef a(): ...\n"
    with pytest.raises(DeclarationError, match="3 mistakes in the pipeline") as caught:
        described(tmp_path, body)
    assert [mistake.split(")")[0][-1] for mistake in caught.value.mistakes] == ["7", "9", "1"]


def test_types_that_exist_only_for_type_checkers_are_compared_by_name(tmp_path: Path) -> None:
    """A frame is known as one though its library was never imported."""
    head = (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nfrom penstock import Pipeline\n"
        "if TYPE_CHECKING:\n    from pandas import DataFrame as Rows\np = Pipeline('p')\n"
    )
    body = "@p.step\ndef a() -> Rows: ...\n@p.step\ndef b(a: int): ...\n"
    with pytest.raises(DeclarationError, match=r"takes 'a' as int, but Step 'a' \(flow.py:8\) gives pandas.DataFrame"):
        described(tmp_path, body, head=head)
