"""Which files are of installed distributions, and so not the user's own."""

from pathlib import PurePath

INSTALLED = frozenset({"site-packages", "dist-packages"})


def is_installed(path: str | PurePath) -> bool:
    """Whether a path leads into a folder where distributions are installed."""
    return not INSTALLED.isdisjoint(PurePath(path).parts)
