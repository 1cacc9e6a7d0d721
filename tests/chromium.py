"""A real Chromium without a window, told what to do over a pipe in its own protocol (CDP)."""

import base64
import contextlib
import fcntl
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

_NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((path for name in _NAMES if (path := shutil.which(name))), None)
_WAIT_S = 30.0
_FIRST_FREE = 10
_PLACE_PIPES = "import os, sys; a, b, *c = sys.argv[1:]; os.dup2(int(a), 3); os.dup2(int(b), 4); os.execv(c[0], c)"


class Page:
    """One page of the browser.

    Attributes:
        complaints: What the page wrote to its console as errors, and every exception in it.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._rest = b""
        self._ids = itertools.count(1)
        self._session: str | None = None
        self.complaints: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to an address and wait until its scripts have run."""
        self._call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + _WAIT_S
        while not self.evaluate(condition):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited too long until {condition}; {self.complaints}")

    def resize(self, width: int, height: int, *, is_dark: bool = False) -> None:
        """Look through a screen of another size or taste."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """Keep what is seen, as PNG or WebP by the name of the file."""
        kind = path.suffix.removeprefix(".")
        data = self._call("Page.captureScreenshot", captureBeyondViewport=True, format=kind)["data"]
        path.write_bytes(base64.b64decode(data))

    def _call(self, method: str, **params: Any) -> Any:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, msgspec.json.encode(message) + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(answer["error"])
                return answer["result"]
            self._hear(answer)

    def _hear(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(str(event["params"]["exceptionDetails"]))
            case "Log.entryAdded" if event["params"]["entry"]["level"] == "error":
                self.complaints.append(str(event["params"]["entry"]["text"]))
            case _:
                pass

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._from, 1 << 20)
            if not part:
                raise AssertionError("the browser has gone")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = msgspec.json.decode(message)
        return found


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """Run a browser with an empty profile and yield its page."""
    if PROGRAM is None:
        raise FileNotFoundError("chromium")
    read_end, to_browser = os.pipe()
    from_browser, write_end = os.pipe()
    # The protocol wants the pipes at 3 and 4; another process puts them there and becomes the browser.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, _FIRST_FREE) for end in (read_end, write_end)]
    options = (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--remote-debugging-pipe", "--disable-background-networking", f"--user-data-dir={profile}"),
    )
    process = subprocess.Popen(
        [sys.executable, "-c", _PLACE_PIPES, *map(str, ends), PROGRAM, *options],
        pass_fds=ends,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (read_end, write_end, *ends):
        os.close(end)
    try:
        yield Page(to_browser, from_browser)
    finally:
        process.terminate()
        process.wait(20)
        os.close(to_browser)
        os.close(from_browser)
