"""Watching: every monitor of a pipeline looks at the windows that have closed since, and what it finds is recorded.

Belongs here: reading lake, predictions and ledger for monitors, and recording what they found. What is unusual is said
by `penstock.monitoring`; what is an alert by `alerting`.
"""

from penstock.project.watching.look import Look, Measured
from penstock.project.watching.watch import watch

__all__ = ["Look", "Measured", "watch"]
