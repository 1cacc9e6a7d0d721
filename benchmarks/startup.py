"""How long it takes to begin, and how much lies on the disk: imports, help, and a base install."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from benchmarks.table import Row, in_turn
from packaging.requirements import Requirement

LARGEST = 6


def rows() -> list[Row]:
    return [*starts(), install()]


def starts() -> list[Row]:
    def python(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    bare_s, package_s, pipeline_s, help_s = in_turn(
        lambda: python("-c", "pass"),
        lambda: python("-c", "import penstock"),
        lambda: python("-c", "from penstock import Pipeline"),
        lambda: python("-m", "penstock", "--help"),
        times=11,
    )
    against = "python -c pass"
    return [
        Row("import penstock", 1000 * package_s, "ms", 1000 * bare_s, against, limit=150),
        Row("from penstock import Pipeline", 1000 * pipeline_s, "ms", 1000 * bare_s, against, limit=150),
        Row("penstock --help", 1000 * help_s, "ms", 1000 * bare_s, against, limit=200),
    ]


def install() -> Row:
    """Return the size of Penstock and all that its base requirements need, as installed here."""
    sizes = Counter({name: installed_bytes(name) for name in closure("penstock")})
    total = sizes.total() / 1e6
    parts = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in sizes.most_common(LARGEST))
    return Row("size of a base install", total, "MB", limit=700, note=f"{len(sizes)} packages: {parts}")


def closure(name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(needed(current))
    return found


def needed(name: str) -> Iterator[str]:
    for line in metadata.distribution(name).requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield metadata.distribution(requirement.name).metadata["Name"].lower().replace("_", "-")


def installed_bytes(name: str) -> int:
    """Return the bytes of the files a package installed; compiled modules that Python adds later do not count."""
    paths = [Path(str(file.locate())) for file in metadata.files(name) or () if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())
