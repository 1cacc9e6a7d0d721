"""What `pip install penstock` brings along: the four libraries it stands on, and little beside them."""

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Chosen for what they do; why, and what they weigh, is in docs/adr/0008-what-the-base-install-weighs.md.
STANDS_ON = frozenset({"deltalake", "numpy", "polars", "polars-runtime-32", "pyarrow"})
MOST_MB, MOST_BESIDE_MB, MOST_EACH_MB = 700, 100, 30


def needed(name: str) -> Iterator[str]:
    """Yield what a package needs without any extra, on this system."""
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def base_install() -> dict[str, float]:
    """Return the megabytes of Penstock and of everything it needs, as their installer recorded them."""
    found: dict[str, float] = {}
    waiting = ["penstock"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = sum(file.size or 0 for file in metadata.files(name) or ()) / 1e6
            waiting.extend(needed(name))
    return found


def test_the_base_install_weighs_little_beside_what_it_stands_on() -> None:
    """A requirement that brings a heavy library along is seen here before a user's disk sees it."""
    sizes = base_install()
    assert sizes.keys() > STANDS_ON
    beside = {name: size for name, size in sizes.items() if name not in STANDS_ON}
    assert max(beside.values()) < MOST_EACH_MB, max(beside, key=beside.__getitem__)
    assert sum(beside.values()) < MOST_BESIDE_MB, beside
    assert sum(sizes.values()) < MOST_MB, sizes
