"""The pages in a real browser: every page, light and dark, wide and narrow; what a person does there by hand."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from chromium import PROGRAM, Page
from pages_browser import press, signed_in
from pages_project import Site, answered, make_shops
from penstock.project.rollout.moves import promote
from project_folder import COMMAND, Project

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")]

PATHS = (
    *("/", "/pipelines/shop", "/pipelines/shop/answers", "/runs", "/runs/r2", "/releases", "/releases/shop@2"),
    *("/compare?before=shop@1&after=shop@2", "/data", "/data/shop/buyers"),
    *("/alerts", "/audit", "/people", "/runs/r99", "/sign-in"),
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with answered(make_shops(tmp_path / "shop")) as found:
        yield found


@pytest.fixture
def page(site: Site, tmp_path: Path) -> Iterator[Page]:
    with signed_in(site, tmp_path / "profile") as opened:
        yield opened


def test_every_page_fits_and_says_nothing_wrong(page: Page, site: Site, tmp_path: Path) -> None:
    """U1: no page is wider than a phone, none writes an error, each has one heading and labelled fields."""
    for width in (1280, 380):
        for is_dark in (False, True):
            page.resize(width, 900, is_dark=is_dark)
            for path in PATHS:
                page.open(site.url + path)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
                assert page.evaluate("document.querySelectorAll('h1').length") == 1, path
                assert page.evaluate("document.documentElement.lang") == "en"
                assert page.evaluate("document.styleSheets.length") == 1, path
                unnamed = (
                    "[...document.querySelectorAll('input:not([type=hidden]), select')].filter(i => !i.labels.length)"
                )
                assert page.evaluate(f"{unnamed}.length") == 0, path
                page.screenshot(tmp_path / "seen.png")
    assert [one for one in page.complaints if "404" not in one] == []


def test_no_page_breaks_a_rule_of_accessible_pages(page: Page, site: Site) -> None:
    """U1: axe-core finds nothing wrong, in light and dark: contrast, names of what one can use, headings, tables."""
    axe = (files("axe_playwright_python") / "axe.min.js").read_text()
    wrong = "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' ')))"
    found: dict[tuple[str, bool], list[str]] = {}
    for is_dark in (False, True):
        page.resize(1280, 900, is_dark=is_dark)
        for path in PATHS:
            page.open(site.url + path)
            page.evaluate(f"{axe}; axe.version")
            found[path, is_dark] = page.evaluate(wrong)
    assert {place: said for place, said in found.items() if said} == {}


def test_dates_are_in_the_readers_zone(page: Page, site: Site) -> None:
    """What the server says in UTC is shown as the reader's clock has it, with UTC where one points."""
    page.open(f"{site.url}/releases")
    assert "UTC" in page.evaluate("document.querySelector('time').title")
    page.wait_for("!document.querySelector('time').textContent.includes('UTC')")


def test_a_run_is_watched_while_it_runs(page: Page, site: Site, tmp_path: Path) -> None:
    """U1: the page of a run under way shows each node as it ends, without being loaded again."""
    project = Project(tmp_path / "shop", "shop")
    wait = "while not (Path(__file__).parents[3] / 'go').exists():\n        time.sleep(0.05)\n    return WORD"
    project.change("    return WORD", f"    {wait}", "shop.py")
    project.change("import polars as pl\n", "import time\nfrom pathlib import Path\n\nimport polars as pl\n", "shop.py")
    with subprocess.Popen([*COMMAND, "run", "--quiet"], cwd=project.root) as process:
        try:
            page.open(f"{site.url}/runs")
            page.wait_for("document.querySelector('.mark.running') !== null")
            page.open(f"{site.url}/runs/r3")
            page.wait_for("document.querySelector('#node-best .mark.running') !== null")
            page.evaluate("window.isSame = true")
        finally:
            (tmp_path / "shop" / "go").touch()
        assert process.wait(60) == 0
    page.wait_for("document.querySelector('h1 .mark.succeeded') !== null")
    assert page.evaluate("window.isSame") is True
    page.wait_for("document.querySelector('main[data-live]') === null")
    assert page.complaints == []


def test_a_person_compares_and_rolls_back(page: Page, site: Site) -> None:
    """Q8: from the first page to a release, its evidence, what it changed, and back to the one before: five clicks."""
    press(page, "shop@2")
    page.wait_for("document.querySelector('svg.forest') !== null")
    assert "95 % interval" in page.evaluate("document.querySelector('svg.forest title').textContent")
    press(page, "Compare with the release before")
    page.wait_for("document.querySelector('.diff .plus') !== null")
    assert 'WORD = "two"' in page.evaluate("document.querySelector('.diff').innerText")
    page.evaluate("document.querySelector('.top a').click(); 0")
    page.wait_for("document.querySelector('h1')?.textContent === 'Pipelines'")
    press(page, "shop")
    page.wait_for("document.querySelector('#changed') !== null")
    page.evaluate("document.querySelector('form[action$=rollback] [name=reason]').value = 'wrong prices'; 0")
    press(page, "Roll back")
    page.wait_for("document.querySelector('.told') !== null")
    assert "shop@1 is live again, in place of shop@2." in page.evaluate("document.querySelector('.told').textContent")
    page.wait_for("typeof lookAgain === 'function'")
    page.evaluate("document.querySelector('main').dataset.live = '0.2'; lookAgain(); 0")
    promote("shop@2", site.workspace)
    page.wait_for("document.querySelector('.lead')?.textContent.startsWith('shop@2 is live')")
    assert page.evaluate("document.querySelector('.told') !== null")  # it stays, whatever comes up to date around it
    page.open(f"{site.url}/audit")
    assert "wrong prices" in page.evaluate("document.querySelector('main').innerText")


def test_the_keyboard_leads_past_the_head_to_the_page(page: Page) -> None:
    """The first stop is a link that is seen once it is stopped at, and leads to the page itself."""
    first = "document.querySelector('a[href], button, input')"
    assert page.evaluate(f"{first}.textContent") == "Skip to the page"
    page.evaluate(f"{first}.focus(); 0")
    assert page.evaluate(f"{first}.getBoundingClientRect().left") >= 0
    page.evaluate(f"{first}.click(); 0")
    page.wait_for("location.hash === '#main'")
    assert page.evaluate("document.querySelectorAll('[tabindex]:not([tabindex=\"0\"])').length") == 0
