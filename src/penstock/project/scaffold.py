"""Makes a project from an example that comes with Penstock."""

import shutil
from pathlib import Path

from penstock.core.errors import InputError, NotFoundError, StoreError
from penstock.core.records import Record

_INSTALLED = Path(__file__).parents[1] / "examples"  # where the wheel puts them
_CHECKED_OUT = Path(__file__).parents[3] / "examples"  # where they are written
_COPIED = frozenset({".py", ".toml", ".md"})


class NewProject(Record, frozen=True, kw_only=True):
    """A project made from an example."""

    directory: str
    example: str
    files: tuple[str, ...]


def examples() -> dict[str, Path]:
    """Return the examples there are, by name."""
    root = _INSTALLED if _INSTALLED.is_dir() else _CHECKED_OUT
    return {path.parent.name: path.parent for path in sorted(root.glob("*/penstock.toml"))}


def new_project(example: str, directory: Path) -> NewProject:
    """Copy an example to a directory of its own.

    Args:
        example: Name of the example, "movies".
        directory: Made when missing; must be empty.

    Raises:
        NotFoundError: There is no such example.
        InputError: The directory holds something already.
        StoreError: It cannot be written.
    """
    known = examples()
    if example not in known:
        raise NotFoundError(
            f"There is no example {example!r}.",
            hint=f"there is {', '.join(known)}; for a directory of your name: penstock new {min(known)} --to {example}",
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{str(directory)!r} is there already.", hint="give another directory with --to")
    files = sorted(path for path in known[example].iterdir() if path.suffix in _COPIED)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, directory / file.name)
    except OSError as error:
        raise StoreError(
            f"{str(directory)!r} cannot be written: {error.strerror}.", hint="give another directory with --to"
        ) from error
    return NewProject(directory=str(directory), example=example, files=tuple(file.name for file in files))
