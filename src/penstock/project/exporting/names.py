"""What things are called elsewhere: names that Kubernetes and registries take, made from a pipeline's."""

import re

from penstock.core.digest import digest_bytes
from penstock.core.errors import InputError
from penstock.core.refs import parse_name

# A label of DNS that begins with a letter (RFC 1035), which every kind of object takes as its name; 63 in all, and room
# for what is added to it.
_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,44}[a-z0-9])?")
_MARK_LETTERS = 8
_STEM_LETTERS = 36
# References of images as registries spell them: host[:port]/path[:tag][@digest].
_IMAGE = re.compile(
    r"([a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?(:[0-9]{1,5})?/)?"
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_LONGEST_IMAGE = 512


def object_name(pipeline: str) -> str:
    """Return what the objects of a pipeline are called: its name where that will do, else one made from it.

    Two pipelines never get the same: what had to be changed is marked by a digest of the name.
    """
    parse_name(pipeline, what="pipeline")
    if _LABEL.fullmatch(pipeline):
        return pipeline
    stem = re.sub(r"[^a-z0-9]+", "-", pipeline)[:_STEM_LETTERS].strip("-")
    return f"p-{stem}-{digest_bytes(pipeline.encode())[:_MARK_LETTERS]}"


def image_name(pipeline: str, version: int, release_hash: str) -> str:
    """Return what an image is called where nobody says it: "movies:3-20fd19bcee4e", the same for the same release."""
    return f"{object_name(pipeline)}:{version}-{release_hash[:12]}"


def check_image(text: str) -> str:
    """Return a reference of an image.

    Raises:
        InputError: It is none.
    """
    if len(text) <= _LONGEST_IMAGE and _IMAGE.fullmatch(text):
        return text
    raise InputError(f"{text!r} is no reference of an image.", hint="write it as registry.example/team/movies:3")
