"""The revisions, oldest first; each is written once and never changed after its release."""
