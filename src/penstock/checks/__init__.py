"""Evidence: asserts that show their values, evaluation rows to intervals, and the built-in checks.

Belongs here: pure functions of values. Does not: running nodes, storing results, deciding about releases.
"""
