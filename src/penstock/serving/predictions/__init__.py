"""What was answered and what became of it, kept: written by workers to segments, compacted into the lake, read back.

Belongs here: the log, redaction, compaction and retention, feedback and outcomes as rows. Does not: calling user code
(`processes`), showing a prediction to people (`project.tracing`).
"""
