"""A release on Ray Serve: copies of a serving process on the nodes of a cluster, kept and scaled by Ray.

Belongs here: how a copy is put together, and how it is asked for and followed. What answers is the plane of a worker.
"""
