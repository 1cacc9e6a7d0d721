"""The command `penstock`: parse, call the project, print.

Belongs here: how things are asked for and shown in a terminal. Does not: any decision about a pipeline.
"""

from penstock.cli.app import main

__all__ = ["main"]
