"""Answers without a caller who waits: many rows at once (`batch`), or rows as they come (`stream`).

The parent reads positions and commits results; the release's code runs in worker processes only.
"""
