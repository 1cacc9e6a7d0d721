"""Penstock: the whole life of a machine-learning pipeline. These are the public words."""
