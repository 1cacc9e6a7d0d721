"""References are text for people, typed values inside: `movies@12`, `ratings@7`, `r41`."""

import re

import msgspec

from penstock.core.errors import InputError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_VERSIONED = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]{0,127})@(?P<version>[1-9][0-9]{0,17})")
_RUN = re.compile(r"r(?P<id>[1-9][0-9]{0,17})")


class ReleaseRef(msgspec.Struct, frozen=True):
    """A release of a pipeline, `movies@12`."""

    pipeline: str
    version: int

    def __str__(self) -> str:
        return f"{self.pipeline}@{self.version}"


class RunRef(msgspec.Struct, frozen=True):
    """A run, `r41`."""

    id: int

    def __str__(self) -> str:
        return f"r{self.id}"


def parse_name(text: str, *, what: str = "name") -> str:
    """Return `text` if it is a lawful name.

    Raises:
        InputError: It is not of the form `[a-z0-9][a-z0-9._-]{0,127}`.
    """
    if NAME.fullmatch(text):
        return text
    raise InputError(
        f"{text!r} is not a usable {what}.",
        hint="use lower-case letters, digits, '.', '_' and '-', starting with a letter or digit, 128 at most",
    )


def parse_ref(text: str) -> ReleaseRef | RunRef:
    """Parse `movies@12` or `r41`.

    Raises:
        InputError: The text is neither.
    """
    if match := _VERSIONED.fullmatch(text):
        return ReleaseRef(match["name"], int(match["version"]))
    if match := _RUN.fullmatch(text):
        return RunRef(int(match["id"]))
    raise InputError(f"{text!r} is neither a run nor a release.", hint="write a run as r41, a release as movies@12")
