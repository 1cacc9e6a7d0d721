"""Faster equivalents of released models: made, proven and measured at release, bound and compared when serving."""
