"""The text of options is read once, at the edge."""

from datetime import UTC, datetime

import pytest

from penstock.cli.options import read_names, read_params, read_time
from penstock.core.errors import InputError


def test_settings_keep_what_stands_after_the_first_equals() -> None:
    assert read_params(["fit.rate=0.1", "where=a=b", "fit.rate=0.2"]) == {"fit.rate": "0.2", "where": "a=b"}
    assert read_params(None) == {}


@pytest.mark.parametrize("setting", ["rate", "=1", " =1", ""])
def test_a_setting_without_a_name_is_refused_by_its_value(setting: str) -> None:
    with pytest.raises(InputError, match="sets nothing"):
        read_params([setting])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T04:30:00Z", datetime(2026, 3, 1, 4, 30, tzinfo=UTC)),
        ("2026-03-01T04:30:00+02:00", datetime(2026, 3, 1, 2, 30, tzinfo=UTC)),
    ],
)
def test_times_are_utc(text: str, expected: datetime) -> None:
    """A date, a time with a zone, or one without, which is taken as UTC."""
    found = read_time(text)
    assert found == expected
    assert found is not None
    assert found.tzinfo is UTC


def test_a_wrong_time_is_named() -> None:
    with pytest.raises(InputError, match=r"--now 'tomorrow' is no time"):
        read_time("tomorrow")


def test_names_are_repeated_or_separated_by_commas() -> None:
    assert read_names(["a,b", " c "]) == {"a", "b", "c"}
    assert read_names(None) == frozenset()
