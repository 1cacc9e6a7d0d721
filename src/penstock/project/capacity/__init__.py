"""Whether a release holds its load: measured, planned and drilled, on a server that no user is answered by.

Belongs here: what is asked, how it is measured, what follows for a plan. The generator and the arithmetic of the knee
and of queues: `serving.load`. How it looks: `cli`.
"""
