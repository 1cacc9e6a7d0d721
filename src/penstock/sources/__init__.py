"""Where rows come from: what a dataset function may return, and helpers that remember where they stopped.

Belongs here: reading files, databases and URLs in batches, from a cursor on. Does not: keeping rows (`store.lake`).
"""

from penstock.sources.files import files
from penstock.sources.http import http
from penstock.sources.source import Batch, Source, open_source, to_batches
from penstock.sources.sql import sql

__all__ = ["Batch", "Source", "files", "http", "open_source", "sql", "to_batches"]
