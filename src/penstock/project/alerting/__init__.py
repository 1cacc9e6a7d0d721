"""Alerts: one per cause, from what windows found and from what stands; told to people until they have heard.

Belongs here: grouping, resolving, sending, and the way back from an alert to its causes. What is found: `watching`.
"""

from penstock.project.alerting.follow import follow

__all__ = ["follow"]
