"""The loop: what is due now, decided by pure functions and done once, whoever else is alive.

Belongs here: schedules, triggers, causes, the tick, the rehearsal. What a run or a monitor does is below.
"""
