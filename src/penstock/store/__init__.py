"""What is kept: ledger (SQL), blobs (bytes by digest), lake (versioned tables), codecs (values to bytes and back).

Belongs here: reading and writing, whole or not at all. Does not: why something is kept, user code, policy.
"""
