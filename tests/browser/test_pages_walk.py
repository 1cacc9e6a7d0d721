"""Somebody who never saw the pages finds out why quality fell, from the first page to the code: clicks counted."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from alert_windows import finding
from chromium import PROGRAM, Page
from loop_project import chain_loop
from pages_browser import press, signed_in
from pages_project import answered
from penstock.monitoring.findings import Window
from penstock.project.alerting import follow

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")]


class Walker:
    """A person who follows what the pages say, and how often they clicked."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0

    def click(self, word: str, until: str) -> None:
        self.clicks += 1
        press(self.page, word)
        self.page.wait_for(until)

    def reads(self, words: str) -> bool:
        return words in self.page.evaluate("document.querySelector('main').innerText")


def test_the_cause_of_a_drop_is_found_from_the_first_page(tmp_path: Path) -> None:
    """Q34, M4, Q54: a release with a bug goes live, quality falls; the first page says so, and leads to its code."""
    loop = chain_loop(tmp_path / "chain", "retrain_on = []")
    loop.now += timedelta(days=3)
    loop.project.change("* 2)", "* 3)", "chain.py")
    assert loop.project.run(clock=loop.clock).release == "chain@2"
    loop.now += timedelta(hours=1)
    start = loop.now - timedelta(hours=1)
    fell = finding(kind="quality", subject="watched", said="watched fell from 0.42 to 0.31", effect=0.8)
    seen = Window(monitor="quality:watched", start=start, end=loop.now, rows=900, release="chain@2", findings=(fell,))
    with loop.project.opened(loop.clock) as workspace:
        follow(workspace, "chain", [seen], loop.now)
    with answered(loop.project, loop.clock) as site, signed_in(site, tmp_path / "profile") as page:
        walker = Walker(page)
        assert walker.reads("What to do next")
        assert walker.reads("healthy")
        walker.click("a1", "document.querySelector('h1')?.textContent.includes('quality')")
        assert walker.reads("watched fell from 0.42 to 0.31")
        assert walker.reads("chain@2 went live")
        walker.click("What chain@2 changed", "document.querySelector('.diff .plus') !== null")
        assert walker.reads("* 3)")
        assert walker.clicks <= 6
