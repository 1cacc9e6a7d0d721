"""Holds on to leases while a run waits for a process that it does not watch over itself."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from penstock.core.errors import LeaseLostError, StoreError

_EVERY_S = 5.0


@contextmanager
def held(renew: Callable[[], None]) -> Iterator[None]:
    """Renew leases every few seconds until the end of the block.

    Args:
        renew: Renews them once. Where it cannot, whoever commits the work is told.
    """
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_EVERY_S):
            with suppress(LeaseLostError, StoreError):
                renew()

    thread = threading.Thread(target=beat, name="penstock-leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
