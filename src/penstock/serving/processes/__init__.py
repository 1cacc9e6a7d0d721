"""Processes: the supervisor without user code, its workers, and short-lived ones that answer once."""
