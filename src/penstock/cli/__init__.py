"""The command `penstock`: parse, call the project, print.

Belongs here: how things are asked for and shown in a terminal. Does not: any decision about a pipeline.
"""

import gc

from penstock.cli import app

__all__ = ["main"]


def main() -> int:
    """Run the command that this process was started for, and return its exit code."""
    code = app.main()
    # At its end Python looks through every object once more, a tenth of a second, to free what the system takes anyway.
    gc.freeze()
    return code
