"""Load on a server and what is read from it: an open loop, a promise judged, the knee, a model of the queue.

The generator is a process of its own (`generator`), told what to ask and when; everything else is arithmetic. Knows
nothing of releases or projects.
"""
