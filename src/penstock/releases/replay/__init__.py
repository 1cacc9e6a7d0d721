"""Recorded requests, answered by two releases, and what differs: records, sizes, where changes concentrate, verdict."""
