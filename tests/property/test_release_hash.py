"""For any content: a manifest reads back as written, its hash follows its content, and never the order of names."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.settings import Policy
from penstock.pipeline.graph import Graph
from penstock.releases.create import is_same_content
from penstock.releases.manifest import Manifest, decode_manifest, encode_manifest, manifest_hash
from penstock.releases.untrusted import is_inside

NAMES = st.text(max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
PARAMS = st.dictionaries(NAMES, st.dictionaries(NAMES, PLAIN, max_size=3), max_size=3)


def made(params: dict[str, Any], packages: dict[str, str] | None = None) -> Manifest:
    graph = Graph(
        pipeline="p", goal="", entry="p", variable="p", import_root=".", nodes=(), files=(), python="3.11"
    )  # fmt: skip
    return Manifest(
        pipeline="p",
        goal="",
        graph=graph,
        artifacts={},
        serving={},
        datasets={},
        params=params,
        now=None,
        policy=Policy(),
        environment={"python": "3.11", "packages": packages or {}},
        checks=(),
        evaluations={},
    )


def turned(value: Any) -> Any:
    """Return the same value with every dictionary in the other order."""
    if isinstance(value, dict):
        return {k: turned(v) for k, v in reversed(value.items())}
    return [turned(v) for v in value] if isinstance(value, list) else value


@given(params=PARAMS, packages=st.dictionaries(NAMES, NAMES, max_size=5))
def test_a_manifest_reads_back_under_the_same_hash(params: dict[str, Any], packages: dict[str, str]) -> None:
    """In whatever order its names were found."""
    manifest = made(params, packages)
    data = encode_manifest(manifest)
    assert encode_manifest(decode_manifest(data)) == data
    assert manifest_hash(made(turned(params), turned(packages))) == manifest_hash(manifest)
    assert is_same_content(decode_manifest(data), manifest)


@given(one=PARAMS, other=PARAMS)
def test_two_hashes_are_equal_exactly_when_the_contents_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    """As JSON, where 1, 1.0 and true are three things."""
    same = msgspec.json.encode(one, order="deterministic") == msgspec.json.encode(other, order="deterministic")
    assert (manifest_hash(made(one)) == manifest_hash(made(other))) is same


@given(
    path=st.lists(st.sampled_from(["a", "..", ".", "", "/", "\\", "C:", "\0", "b.py", "\n"]), max_size=6).map("/".join)
)
def test_a_path_that_is_let_in_stays_inside(path: str) -> None:
    """Whatever it is made of."""
    parts = path.split("/")
    harmless = bool(path) and all(p in {"a", "b.py"} for p in parts)
    assert is_inside(path) is harmless
