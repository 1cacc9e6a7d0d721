"""Run parameters given as text or values are read by their declared type."""

import enum
from pathlib import Path

import pytest
from pipeline_files import described

from penstock.core.errors import InputError
from penstock.pipeline.graph import Graph
from penstock.pipeline.params import all_params, bind_params, check_params, parse_type

BODY = (
    "@p.step\ndef fit(*, factors: int = 64, rate: float = 0.1, cap: int | None = None, seed: int = 0): ...\n"
    "@p.step\ndef cut(*, sizes: list[int] = [1], fast: bool = False, seed: int = 0, how: str = ''): ...\n"
)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return described(tmp_path, BODY)


@pytest.mark.parametrize(
    ("setting", "given", "value"),
    [
        ("fit.factors", "128", 128),
        ("factors", 128, 128),
        ("rate", "1e-3", 0.001),
        ("rate", 2, 2.0),
        ("cap", "none", None),
        ("cap", "7", 7),
        ("sizes", "3, 4", [3, 4]),
        ("sizes", "[5]", [5]),
        ("sizes", (6, 7), [6, 7]),
        ("fast", "yes", True),
        ("how", "12", "12"),
    ],
)
def test_a_setting_is_read_by_type(graph: Graph, setting: str, given: object, value: object) -> None:
    """Text becomes a value of the declared type; a bare name is enough where only one node has it."""
    (found,) = check_params(graph, {setting: given}).values()
    assert list(found.values()) == [value]
    assert type(next(iter(found.values()))) is type(value)


@pytest.mark.parametrize(
    ("setting", "given", "message"),
    [
        ("fit.factor", "1", "No run parameter is called 'fit.factor'.*did you mean 'fit.factors'"),
        ("zzz", "1", "No run parameter is called 'zzz'.*has fit.factors"),
        ("seed", "1", "2 nodes have a parameter 'seed'. Hint: say 'fit.seed' or 'cut.seed'"),
        ("factors", "many", "'fit.factors' is int, but 'many' was given.*the default is 64"),
        ("factors", 1.5, "'fit.factors' is int, but 1.5 was given"),
        ("factors", True, "'fit.factors' is int, but True was given"),
        ("rate", "nan", "'fit.rate' is float, but 'nan' was given"),
        ("sizes", "1,x", "'cut.sizes' is list"),
        ("fast", "maybe", "'cut.fast' is bool, but 'maybe' was given"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_value(graph: Graph, setting: str, given: object, message: str) -> None:
    """The message names parameter, type, value and the way out."""
    with pytest.raises(InputError, match=message):
        check_params(graph, {setting: given})


def test_all_wrong_settings_are_told_at_once(graph: Graph) -> None:
    """Two wrong settings make one error with both."""
    with pytest.raises(InputError, match=r"(?s)2 parameters cannot be used.*fit\.factors.*seeed"):
        check_params(graph, {"factors": "x", "seeed": 1})


def test_a_parameter_without_default_has_to_be_given(tmp_path: Path) -> None:
    """A run does not start with a hole in it."""
    graph = described(tmp_path, "@p.step\ndef fit(*, factors: int, seed: int = 0): ...\n")
    with pytest.raises(InputError, match=r"needs a value for 'fit\.factors'. Hint: give it as -p fit\.factors=VALUE"):
        all_params(graph, {})
    assert all_params(graph, {"factors": "3"}) == {"fit": {"factors": 3, "seed": 0}}


class Loss(enum.Enum):
    SOFT = "soft"


def test_plain_values_become_the_annotated_types_again() -> None:
    """A function receives enums and paths, as its annotations promise."""

    def fit(*, loss: Loss, where: Path, both: list[Path], other: "int | None") -> None: ...

    bound = bind_params(fit, {"loss": "soft", "where": "a/b", "both": ["c"], "other": None})
    assert bound == {"loss": Loss.SOFT, "where": Path("a/b"), "both": [Path("c")], "other": None}


@pytest.mark.parametrize("text", ["dict[str, int]", "Ranker", "int |", "list[Ranker]", "Literal[x]", ""])
def test_a_type_no_setting_can_have_is_not_parsed(text: str) -> None:
    """Only types that can be written on a command line are run parameters."""
    assert parse_type(text) is None
