"""The floor of the house: errors, records, references, states, settings, clock.

Belongs here: small frozen data and pure functions that every room may use.
Does not: anything that opens a database, runs user code or imports a data library.
"""
