"""Rollouts as people and the loop move them: begun by a release, watched by guards, promoted, paused, taken back.

Belongs here: reading what was answered, and carrying decisions out. Deciding is `releases.rollout`, judging is
`monitoring.guards`, the rows are `store.ledger.rollouts`.
"""
