"""The pages in a browser: somebody who has signed in by the address they were given, and what they press."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chromium import Page, browsing
from pages_project import Site
from penstock.project import people


@contextmanager
def signed_in(site: Site, profile: Path) -> Iterator[Page]:
    """Browse as an admin, from the first page on."""
    made = people.add_person(site.workspace, "ada", "admin", by="test")
    with browsing(profile) as opened:
        opened.open(f"{site.url}/sign-in?token={made.token}")
        press(opened, "Sign in")
        opened.wait_for("document.querySelector('h1')?.textContent === 'Pipelines'")
        yield opened


def press(page: Page, word: str) -> None:
    """Press the button, or follow the link, that says so; it must be seen."""
    find = f"[...document.querySelectorAll('main button, main a')].find(one => one.textContent.trim() === {word!r})"
    assert page.evaluate(f"{find}?.checkVisibility() === true"), word
    page.evaluate(f"{find}.click(); 0")
