"""Recorded requests put to two releases: which are taken, who is asked, and what the gate makes of it."""
