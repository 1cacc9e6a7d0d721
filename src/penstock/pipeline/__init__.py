"""A pipeline as code: declare it, draw its graph, fingerprint its nodes, plan a run.

Belongs here: what can be known from the user's files. Does not: engines, stores, running user code.
"""
