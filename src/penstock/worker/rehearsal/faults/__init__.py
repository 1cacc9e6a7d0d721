"""Faults that are planted in what a rehearsal replays: in copies of the source files, of the code, and in the requests.

Belongs here: what goes wrong and when, and how the loop dealt with it. Nothing of Penstock itself is made to fail.
"""
