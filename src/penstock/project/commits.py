"""Which commit a project stands at, where its folder is a work tree of git. A project without git has none."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from penstock.core.records import Record
from penstock.pipeline.graph import CodeFile

_PATIENCE_S = 5.0
_SHORT = 10


class Commit(Record, frozen=True, kw_only=True):
    """A commit of git.

    Attributes:
        id: Its full hash.
        is_dirty: Files of the pipeline differed from it, or were not in it.
    """

    id: str
    is_dirty: bool

    def __str__(self) -> str:
        return self.id[:_SHORT]


def commit_of(root: Path, files: Sequence[CodeFile]) -> Commit | None:
    """Return the commit a project stands at; None where it is no work tree, git is absent, or it does not answer.

    Args:
        root: The project.
        files: Of the pipeline; only their changes make it dirty.
    """
    git = shutil.which("git")
    if git is None or not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return None
    head = _said(git, root, "rev-parse", "--verify", "--quiet", "HEAD")
    if not head:
        return None
    changed = _said(git, root, "status", "--porcelain", "--", *(file.path for file in files))
    return Commit(id=head.strip(), is_dirty=bool(changed))


def range_of(before: Commit | None, after: Commit | None) -> str:
    """Return the commits between two runs as git reads them, "1a2b3c4d5e..5d6e7f8a9b"; "" where nobody knows."""
    if before is None or after is None:
        return ""
    dirty = " with changes that are not committed" if after.is_dirty else ""
    return f"{after}{dirty}" if before.id == after.id else f"{before}..{after}{dirty}"


def _said(git: str, root: Path, *words: str) -> str | None:
    # A look must not take the index's lock, under which a person may be committing.
    try:
        done = subprocess.run(
            [git, "--no-optional-locks", *words],
            cwd=root,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
