"""A folder of files that appears whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from penstock.core.errors import InputError
from penstock.store.sink import explained


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to write to; it gets its name when the block ends without an error.

    Raises:
        InputError: There is something at `target` already, or no folder to put it in.
        StoreError: It cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} exists already.", hint="give another name with --out")
    if not target.parent.is_dir():
        raise InputError(f"There is no folder {str(target.parent)!r}.", hint="make it, or give another name with --out")
    with explained(target):
        half = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        try:
            yield half
            half.chmod(0o755)
            half.replace(target)  # an empty folder of that name is replaced; one that was filled meanwhile is not
        finally:
            shutil.rmtree(half, ignore_errors=True)
