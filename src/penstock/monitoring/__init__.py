"""What is wrong, how sure that is, and since when: profiles, drift, live quality, staleness, alerts.

Pure: frames and profiles in, findings out. Reading the ledger and the lake, and acting on what is found, is done by
the rooms above.
"""
