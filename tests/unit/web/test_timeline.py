"""One scale of time: what came later stands further right, and now is at its end."""

import re
from datetime import UTC, datetime, timedelta

from penstock.web.timeline import Mark, timeline

NOW = datetime(2026, 3, 10, tzinfo=UTC)


def mark(hours: float, said: str, href: str = "") -> Mark:
    return Mark(at=NOW - timedelta(hours=hours), kind="succeeded", said=said, href=href)


def test_marks_stand_where_their_time_is() -> None:
    """Rows share the scale; a row without marks takes no place."""
    svg = timeline(
        [("runs", [mark(10, "r1"), mark(5, "r2"), mark(0, "r3")]), ("none", []), ("data", [mark(10, "x")])], NOW
    )
    at = {said: float(x) for x, said in re.findall(r'cx="([0-9.]+)"[^>]*><title>([a-z0-9]+)</title>', svg)}
    assert at["r1"] == at["x"] < at["r2"] < at["r3"]
    assert at["r3"] - at["r2"] == at["r2"] - at["r1"]
    assert "none" not in svg


def test_a_mark_leads_to_its_page_and_is_text() -> None:
    """One moment alone has a line too; nothing at all draws nothing."""
    svg = timeline([("<b>", [mark(0, "<i>", "/runs/r1")])], NOW)
    assert '<a href="/runs/r1">' in svg
    assert "<b>" not in svg
    assert "<i>" not in svg
    assert timeline([("runs", [])], NOW) == ""
