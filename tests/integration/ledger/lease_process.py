"""Another process that holds a lease, as the tests talk to it."""

import subprocess
import sys
from pathlib import Path


class Holder:
    """Another process that took a lease (and started a run under it), told by lines what to do next."""

    def __init__(self, url: str, ttl_s: float) -> None:
        program = Path(__file__).with_name("lease_holder.py")
        self.process = subprocess.Popen(
            [sys.executable, str(program), url, str(ttl_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        first = self.hear().split()
        self.has_it = first[0] == "token"
        self.run_id = int(first[2]) if self.has_it else 0

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
