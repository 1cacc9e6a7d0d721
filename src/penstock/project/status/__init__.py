"""The six questions about a pipeline, answered from what is recorded; each line leads to its evidence.

Belongs here: what the answers are. How they look: `cli`. What would be decided next: `worker.foresight`, handed in.
"""

from penstock.project.status.records import QUESTIONS, Answer, Due, Line, Status, Verdict, Waits
from penstock.project.status.telling import known_pipelines, status

__all__ = ["QUESTIONS", "Answer", "Due", "Line", "Status", "Verdict", "Waits", "known_pipelines", "status"]
