"""A real Chromium without a window: Debian's, driven by Playwright."""

import base64
import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, sync_playwright
from playwright.sync_api import Page as Driven

_NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((path for name in _NAMES if (path := shutil.which(name))), None)
_WAIT_S = 30.0
_TURN_MS = 20


class Page:
    """One page of the browser.

    Attributes:
        complaints: What the page wrote to its console as errors, and every exception in it.
    """

    def __init__(self, driven: Driven) -> None:
        self._driven = driven
        self._session = driven.context.new_cdp_session(driven)
        self.complaints: list[str] = []
        driven.on("pageerror", lambda error: self.complaints.append(str(error)))
        driven.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def open(self, url: str) -> None:
        """Go to an address and wait until its scripts have run."""
        self._driven.goto(url)

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        return self._driven.evaluate(script)

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true, whichever page has come by then."""
        deadline = time.monotonic() + _WAIT_S
        while not self._holds(condition):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited too long until {condition}; {self.complaints}")
            self._driven.wait_for_timeout(_TURN_MS)

    def _holds(self, condition: str) -> bool:
        try:
            return bool(self.evaluate(condition))
        except Error as error:
            if "context was destroyed" in error.message:  # the next page is on its way
                return False
            raise

    def press_key(self, key: str) -> None:
        """Press a key as a person does: "Tab", "Enter"."""
        self._driven.keyboard.press(key)

    def write(self, text: str) -> None:
        """Type where the page would take it now."""
        self._driven.keyboard.type(text)

    def resize(self, width: int, height: int, *, is_dark: bool = False) -> None:
        """Look through a screen of another size or taste."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._session.send("Emulation.setDeviceMetricsOverride", metrics)
        self._driven.emulate_media(color_scheme="dark" if is_dark else "light")

    def screenshot(self, path: Path) -> None:
        """Keep what is seen, as PNG or WebP by the name of the file."""
        wanted = {"captureBeyondViewport": True, "format": path.suffix.removeprefix(".")}
        path.write_bytes(base64.b64decode(self._session.send("Page.captureScreenshot", wanted)["data"]))


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """Run a browser with an empty profile and yield its page."""
    if PROGRAM is None:
        raise FileNotFoundError("chromium")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=PROGRAM, args=options, no_viewport=True
        )
        try:
            yield Page(context.pages[0])
        finally:
            context.close()
