"""The ledger: facts in SQL. `Ledger` opens it; one module of functions per noun writes and reads it.

Belongs here: what happened, by ids and digests. Does not: bytes (`store.blobs`) and rows (`store.lake`).
"""

from penstock.store.ledger.connect import Ledger

__all__ = ["Ledger"]
