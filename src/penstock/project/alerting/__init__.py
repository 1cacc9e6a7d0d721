"""Alerts: one per cause, from what windows found and from what stands; told to people until they have heard.

Belongs here: grouping, resolving, sending, and the way back from an alert to its causes. What is found: `watching`.
"""

from penstock.project.alerting.deliver import Delivered, deliver
from penstock.project.alerting.facts import notice, notice_look
from penstock.project.alerting.follow import follow

__all__ = ["Delivered", "deliver", "follow", "notice", "notice_look"]
