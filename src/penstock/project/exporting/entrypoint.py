"""Takes the release beside this file into the store of a container, and serves it.

Copied into images as it is, so it knows the standard library only:
`python -P entrypoint.py RELEASE [options of penstock serve]`, or `--check` to ask the server in here whether it is up.
"""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NoReturn

PORT = 8000
_CHECK_S = 4.0
_PENSTOCK = (sys.executable, "-P", "-m", "penstock")


def become(command: list[str]) -> NoReturn:
    """Go on as another program, which then hears the signals meant for this process."""
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


def main(arguments: list[str]) -> int:
    """Serve the release, or check that it is served; return the exit code."""
    if arguments == ["--check"]:
        return check(f"http://127.0.0.1:{PORT}/healthz")
    release, *options = arguments
    here = str(Path(__file__).resolve().parent)
    # The first process of a container is spared by signals that it does not ask for.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))
    command = [*_PENSTOCK, "import", f"{here}/release.penstock", "--as", release, "--live", "--project", here]
    taken = subprocess.run(command, stdout=sys.stderr, check=False)
    if taken.returncode != 0:
        return taken.returncode
    become([*_PENSTOCK, "serve", release, "--project", here, *options])


def check(url: str) -> int:
    """Return 0 where a server answers that it is up."""
    try:
        with urllib.request.urlopen(url, timeout=_CHECK_S) as answer:  # noqa: S310  # an address of our own
            return 0 if answer.status == 200 else 1
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
