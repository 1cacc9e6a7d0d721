"""The process that answers: a supervisor that never imports user code, and workers that do.

From top to bottom: `processes`; `http`; `protocols` (forms of asking); `plane` (question to answer); `program` (a
release made callable), `predictions` (what was answered). Imports nothing by itself, so that the supervisor stays
small and a command that only reads the log loads no server.
"""
