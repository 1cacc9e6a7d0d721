"""The lake: every dataset a versioned Delta table; one intake is one commit.

Belongs here: taking rows in exactly once, reading a version back, setting broken rows aside, upkeep.
Does not: where rows come from (`sources`), when an intake happens (`engine`).
"""

from penstock.store.lake.dtypes import parse_dtype
from penstock.store.lake.rules import IntakeRules, since
from penstock.store.lake.table import Lake, Table

__all__ = ["IntakeRules", "Lake", "Table", "parse_dtype", "since"]
