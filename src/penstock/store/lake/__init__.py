"""The lake: every dataset a versioned Delta table; one intake is one commit.

Belongs here: taking rows in exactly once, reading a version back, setting broken rows aside, upkeep.
Does not: where rows come from (`sources`), when an intake happens (`engine`).
"""

from typing import TYPE_CHECKING

from penstock.core.lazy import lazy_words

if TYPE_CHECKING:
    from penstock.store.lake.dtypes import parse_dtype
    from penstock.store.lake.rules import IntakeRules, since
    from penstock.store.lake.table import Lake, Table

__all__ = ["IntakeRules", "Lake", "Table", "parse_dtype", "since"]

# Each is imported when first used: a supervisor without datasets needs no data library.
__getattr__ = lazy_words(
    __name__,
    {
        "IntakeRules": "penstock.store.lake.rules",
        "Lake": "penstock.store.lake.table",
        "Table": "penstock.store.lake.table",
        "parse_dtype": "penstock.store.lake.dtypes",
        "since": "penstock.store.lake.rules",
    },
)
