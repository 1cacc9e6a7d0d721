"""Leases are held on to while a run waits for another process."""

import threading

import pytest

from penstock.core.errors import LeaseLostError
from penstock.engine import beating


def test_leases_are_renewed_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """L8: again and again, also after one renewal failed, and never after the end."""
    monkeypatch.setattr(beating, "_EVERY_S", 0.001)
    calls, enough = [0], threading.Event()

    def renew() -> None:
        calls[0] += 1
        if calls[0] == 1:
            raise LeaseLostError("somebody else has it")
        if calls[0] == 3:
            enough.set()

    with beating.held(renew):
        assert enough.wait(timeout=60)
    after = calls[0]
    assert not any(thread.name == "penstock-leases" for thread in threading.enumerate())
    assert calls[0] == after
