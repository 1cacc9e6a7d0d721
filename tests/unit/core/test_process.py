"""A process is known by more than its number."""

import os
import subprocess
import sys

import msgspec
import pytest

from penstock.core.process import is_known_dead, is_same_boot, this_process


def test_this_process_is_alive() -> None:
    """A living process is never taken for dead."""
    me = this_process()
    assert me.pid == os.getpid()
    assert is_same_boot(me)
    assert not is_known_dead(me)


@pytest.mark.parametrize("change", [{"start": 1}, {"boot": "another"}, {"pid": 2**22 + 1}])
def test_recycled_pid_other_boot_and_no_process_are_dead(change: dict[str, object]) -> None:
    """Faults 1 and 5: whoever now has the number of a dead owner is not mistaken for it."""
    assert is_known_dead(msgspec.structs.replace(this_process(), **change))


def test_nothing_is_known_about_other_hosts() -> None:
    """A process elsewhere is not judged from here."""
    other = msgspec.structs.replace(this_process(), host="elsewhere", boot="another", pid=2**22 + 1)
    assert not is_known_dead(other)
    assert not is_same_boot(other)


def test_zombie_is_dead() -> None:
    """A killed process whose parent has not looked yet does no more work."""
    program = (
        "from penstock.core.process import this_process as me; o = me(); print(o.pid, o.start, flush=True); input()"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    pid, start = (int(word) for word in child.stdout.readline().split())
    owner = msgspec.structs.replace(this_process(), pid=pid, start=start)
    assert not is_known_dead(owner)
    child.kill()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert is_known_dead(owner)
    child.communicate()
