"""Outlives a run to clean up after it: kills the process groups of run processes once their supervisor is gone.

A run process dies with its supervisor by itself, but what user code started in it (a subprocess, a pool) does not.
"""

import contextlib
import subprocess
from collections.abc import Iterable

# A shell costs a millisecond and a megabyte. It reads lists of process groups until the pipe breaks, whatever broke it.
# It is no child of ours, because some who host us (Ray) kill the children of a dead process one by one.
_SCRIPT = """
exec 3<&0
(
    groups=
    while read -r line; do groups=$line; done
    [ -z "$groups" ] || kill -s KILL -- $groups
) <&3 3<&- &
"""


class Guard:
    """A small process that waits for this one to end."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",  # the folder of a project may go away before it does
        )
        self._process.wait()

    def watch(self, groups: Iterable[int]) -> None:
        """Say which process groups are to be killed; replaces what was said before."""
        line = " ".join(f"-{group}" for group in groups) + "\n"
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # somebody killed it; the run is worth more than its guard
                self._process.stdin.write(line.encode())
                self._process.stdin.flush()

    def close(self) -> None:
        """Let it end; it kills what it still watches."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
