"""The engine: executes a plan. Cache, attempts, leases, limits and fan-out; on local processes or on Ray.

Belongs here: what a run does between its graph and its results. Does not: releases, serving, how things look.
"""
