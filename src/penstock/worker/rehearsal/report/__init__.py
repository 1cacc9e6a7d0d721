"""What a rehearsal came to, told from what its ledgers and lakes recorded: as records, in words, and in pictures.

Belongs here: reading and telling. What happened in a rehearsal, and when, is decided above.
"""
