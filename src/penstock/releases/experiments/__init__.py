"""Experiments that decide: the plan made before they begin, and what follows from what was seen so far.

Belongs here: pure functions on tallies. Where tallies come from and verdicts go: `penstock.project.experimenting`.
"""
