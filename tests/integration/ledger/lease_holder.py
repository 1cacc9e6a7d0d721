"""A process for tests: takes the lease "work", starts a run under it, then does what it is told on its input."""

import sys

from penstock.core.errors import LeaseLostError
from penstock.core.process import this_process
from penstock.store.ledger import Ledger, attempts, events, leases, runs


def main(url: str, ttl_s: float) -> None:
    ledger = Ledger.open(url)
    me = this_process()
    with ledger.write() as conn:
        token = leases.acquire(conn, "work", me, ttl_s)
        if token is not None:
            new = runs.NewRun(
                pipeline="movies", cause="manual", owner=me, graph_digest="g", code_digest="c", environment_digest="e"
            )
            run_id = runs.create(conn, new)
            leases.acquire(conn, leases.run_lease(run_id), me, ttl_s)
            attempts.start(conn, attempts.NewAttempt(run_id=run_id, node="fit", number=1, token=token))
    say("refused" if token is None else f"token {token} {run_id}")
    for _ in sys.stdin:
        try:
            with ledger.write() as conn:
                events.append(conn, actor="holder", action="work.done", target=f"token {token}")
                leases.check(conn, "work", token or 0)
        except LeaseLostError:
            say("lost")
        else:
            say("committed")
    ledger.close()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


main(sys.argv[1], float(sys.argv[2]))
