"""Events of a server: readable or JSON, on standard error, and never a flood."""

import json
import subprocess
import sys

import pytest
import structlog

from penstock.serving.observe.events import Dam

TELL = """
import structlog, sys
from penstock.serving.observe.events import log_events
log_events(is_terminal=sys.argv[1] == "people")
structlog.get_logger("x").error("worker_died", pid=7)
structlog.get_logger("x").debug("nothing")
"""


def tell(to: str) -> str:
    done = subprocess.run([sys.executable, "-c", TELL, to], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_programs_get_json_and_people_get_words() -> None:
    """Both on standard error; what is for debugging is left out."""
    (line,) = tell("programs").splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"], said["pid"]) == ("worker_died", "error", 7)
    assert said["timestamp"].endswith("Z")
    (shown,) = tell("people").splitlines()
    assert "worker_died" in shown
    assert "pid=7" in shown
    assert "{" not in shown


def test_a_flood_of_one_event_is_held_back_and_counted() -> None:
    """Twenty of a name pass in a second; the next second begins with how many did not; other names are not held."""
    now_s = 100.0
    dam = Dam(20, lambda: now_s)

    def passes(name: str) -> dict[str, object] | None:
        try:
            return dict(dam(None, "error", {"event": name}))
        except structlog.DropEvent:
            return None

    told = [passes("function_failed") for _ in range(1000)]
    assert sum(event is not None for event in told) == 20
    assert passes("worker_died") == {"event": "worker_died"}
    now_s = 101.0
    assert passes("function_failed") == {"event": "function_failed", "held_back": 980}
    assert passes("function_failed") == {"event": "function_failed"}


@pytest.mark.parametrize("count", [1, 20])
def test_what_is_no_flood_passes_as_it_is(count: int) -> None:
    """Up to the limit nothing is added and nothing is lost."""
    dam = Dam(20, lambda: 0.0)
    assert [dam(None, "info", {"event": "e", "n": n}) for n in range(count)] == [
        {"event": "e", "n": n} for n in range(count)
    ]
