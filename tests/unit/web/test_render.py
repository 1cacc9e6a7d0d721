"""How texts, times and figures look on a page."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from markupsafe import Markup

from penstock.web.render import figure, lasting, link_of, size, templates, when


def linked(text: str, *known: str) -> str:
    return templates().from_string("{{ text|linked }}").render(text=text, known=frozenset(known))


def test_references_lead_to_their_pages_and_all_else_is_text() -> None:
    """A version of a dataset looks like a release and is none; markup in a text is not one."""
    found = linked("movies@3 by r41 on ratings@7, see a2 <b>", "movies")
    assert '<a href="/releases/movies@3">movies@3</a>' in found
    assert '<a href="/runs/r41">r41</a>' in found
    assert '<a href="/alerts/a2">a2</a>' in found
    assert "ratings@7, see" in found
    assert "&lt;b&gt;" in found


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("penstock show movies@3", "/releases/movies@3"),
        ("penstock show r41", "/runs/r41"),
        ("penstock why a7", "/alerts/a7"),
        ("penstock runs movies", "/runs?pipeline=movies"),
        ("penstock rollouts movies", "/pipelines/movies"),
        ("penstock diff movies@1 movies@2", "/compare?before=movies%401&after=movies%402"),
        ("penstock serve movies", ""),
        ("penstock show movies@3 --lock", ""),
        ("rm -rf /", ""),
    ],
)
def test_a_command_that_only_shows_has_a_page(command: str, place: str) -> None:
    """What a line leads to is a link where the page shows the same, and a command to copy where it does more."""
    assert link_of(command) == place


def test_times_are_utc_for_those_who_point_at_them() -> None:
    """Whatever zone it was told in; nothing is said of no time."""
    at = datetime(2026, 3, 1, 1, 30, 5, tzinfo=timezone(timedelta(hours=2)))
    assert when(at) == Markup(
        '<time datetime="2026-02-28T23:30:05+00:00" title="2026-02-28 23:30:05 UTC">2026-02-28 23:30 UTC</time>'
    )
    assert when("2026-03-01T00:00:00Z") == when(datetime(2026, 3, 1, tzinfo=UTC))
    assert when(None) == Markup("")


def test_figures_have_units_and_as_many_digits_as_say_something() -> None:
    """No figure is a dash, not a zero."""
    assert [lasting(s) for s in (None, 0.0123, 4.2, 42.4, 90, 7200, 200_000)] == [
        *("", "0.012 s", "4.2 s", "42 s", "1.5 min", "2.0 h", "2.3 d")
    ]
    assert [size(b) for b in (None, 12, 1500, 3.2e6, 4e9)] == ["", "12 B", "1.5 kB", "3.2 MB", "4 GB"]
    assert [figure(v) for v in (0.123456, 12.0, 123_456.7)] == ["0.1235", "12", "123,457"]
    assert figure(None) not in {"", "0"}
