"""Months of a pipeline's life in minutes: its data replayed through a clock that is set, with the code of production.

Belongs here: the clock, who asks, the arms that are compared, the report. What a day does is `penstock.worker.tick`.
"""
