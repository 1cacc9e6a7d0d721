"""One way from a question to an answer, whatever protocol asked: batching, deadline, fallback, log, counters."""
