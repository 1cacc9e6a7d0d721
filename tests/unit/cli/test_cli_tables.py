"""Times, sizes and states for people."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from penstock.cli.tables import counted, seconds, size, state_text, when
from penstock.core.states import AttemptState, NodeState, RunState


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.004, "0.00 s"),
        (2.34, "2.3 s"),
        (45.4, "45 s"),
        (59.7, "1 min 00 s"),
        (125.0, "2 min 05 s"),
        (3599.9, "1 h 00 min"),
        (3785.0, "1 h 03 min"),
    ],
)
def test_durations(value: float | None, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, ""), (999, "999 B"), (1500, "1.5 KB"), (136_000_000, "136 MB"), (2**31, "2.1 GB")],
)
def test_sizes(value: int | None, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(("age_s", "text"), [(-5, "just now"), (30, "just now"), (200, "3 min ago"), (7300, "2 h ago")])
def test_moments_of_today_are_ages(age_s: float, text: str) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert when(now - timedelta(seconds=age_s), now) == text


def test_older_moments_are_dates() -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert when(now - timedelta(days=3), now).startswith("2026-02-2")


def test_counts_are_words() -> None:
    assert (counted(1, "check"), counted(1200, "row")) == ("1 check", "1,200 rows")


@pytest.mark.parametrize("state", [*RunState, *AttemptState, *NodeState])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_every_state_is_a_sign_and_a_word(state: RunState | AttemptState | NodeState, encoding: str) -> None:
    """Colour is never the only sign, and a terminal without UTF-8 gets signs it can show."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    sign, word = state_text(state.value, Console(file=file)).plain.split(maxsplit=1)
    assert sign != "?"
    assert word.strip()
    assert encoding == "utf-8" or sign.isascii()
