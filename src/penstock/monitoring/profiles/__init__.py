"""Profiles: what the columns of some rows look like, small, mergeable and kept as versioned bytes."""
