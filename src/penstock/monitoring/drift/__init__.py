"""Drift: whether the rows of a window differ by more than windows ordinarily do, within an alarm budget."""
