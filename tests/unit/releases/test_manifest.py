"""The hash of a release covers what it is, whole, and nothing of when or how often it was tried."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from released_parts import make_manifest

from penstock.core.records import CheckResult, Interval
from penstock.core.settings import Policy, StepPolicy
from penstock.pipeline.graph import CodeFile
from penstock.releases.manifest import Example, Manifest, StandIn, decode_manifest, encode_manifest, manifest_hash
from penstock.store.blobs import Blobs

# Kept from the first version: a change of this hash makes every known release another one. Raise FORMAT with it.
GOLDEN_HASH = "e3bccf558f7a3fb751c56c14f66d4840cbc170d25143598fc27087818b33f74e"

T = TypeVar("T", bound=msgspec.Struct)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_manifest(Blobs(tmp_path / "blobs"))


def replace(value: T, **changes: Any) -> T:
    return msgspec.structs.replace(value, **changes)


def _with_artifact(m: Manifest) -> Manifest:
    return replace(m, artifacts=m.artifacts | {"model/model": replace(m.artifacts["model/model"], digest="e" * 64)})


def _with_dataset(m: Manifest, **changes: Any) -> Manifest:
    return replace(m, datasets={"titles": replace(m.datasets["titles"], **changes)})


def _with_means(m: Manifest, **changes: Any) -> Manifest:
    return replace(m, evaluations={"quality": replace(m.evaluations["quality"], **changes)})


CHANGES: dict[str, Callable[[Manifest], Manifest]] = {
    "code file": lambda m: replace(m, graph=replace(m.graph, files=(CodeFile(path="a.py", digest="e" * 64),))),
    "a node's option": lambda m: replace(
        m, graph=replace(m.graph, nodes=(replace(m.graph.nodes[0], options={}), *m.graph.nodes[1:]))
    ),
    "artifact": _with_artifact,
    "what serving uses": lambda m: replace(m, serving={"find": {}}),
    "dataset version": lambda m: _with_dataset(m, version=4),
    "dataset digest": lambda m: _with_dataset(m, digest="e" * 64),
    "schema": lambda m: _with_dataset(m, schema=(("movie_id", "Int32"), ("title", "String"))),
    "contract": lambda m: _with_dataset(m, contract={}),
    "check": lambda m: replace(m, checks=(CheckResult(name="is_good", passed=True, message="held well"),)),
    "parameter": lambda m: replace(m, params={"model": {"factors": 65, "rate": 1.0}}),
    "type of a parameter": lambda m: replace(m, params={"model": {"factors": 64, "rate": 1}}),
    "logical time": lambda m: replace(m, now=None),
    "policy": lambda m: replace(m, policy=Policy(steps={"model": StepPolicy(memory="4GB")})),
    "package": lambda m: replace(m, environment={"python": "3.11.7", "packages": {"polars": "1.31.0"}}),
    "Python": lambda m: replace(m, environment=m.environment | {"python": "3.12.1"}),
    "evaluation rows": lambda m: _with_means(m, rows={}),
    "evaluation": lambda m: _with_means(m, means={"model": {"ndcg": Interval(mean=0.4, low=0.4, high=0.5, n=10)}}),
    "answer": lambda m: replace(m, examples={"find": (Example(fields={"movie_id": 1}, answer="Alien"),)}),
    "champion": lambda m: replace(m, champion="e" * 64),
    "goal": lambda m: replace(m, goal="Another."),
    "columns of a serve function": lambda m: replace(m, inputs={"find": (("movie_id", "Int64"),)}),
    "stand-in": lambda m: replace(m, stand_ins={"find": {"model": StandIn(kind="folded")}}),
}


@pytest.mark.parametrize("part", CHANGES)
def test_the_hash_covers(part: str, manifest: Manifest) -> None:
    """Nothing of a release can be exchanged under its hash."""
    assert manifest_hash(CHANGES[part](manifest)) != manifest_hash(manifest)


def test_every_field_is_covered(manifest: Manifest) -> None:
    """The table above forgets none of the manifest's fields."""
    untold = set(manifest.__struct_fields__) - {"format", "pipeline"}
    for change in CHANGES.values():
        changed = change(manifest)
        untold -= {f for f in untold if getattr(changed, f) != getattr(manifest, f)}
    assert untold == set()


def test_the_hash_does_not_depend_on_the_order_of_names(manifest: Manifest) -> None:
    """Dictionaries say what, not in which order it was found."""
    turned = replace(
        manifest,
        artifacts=dict(reversed(manifest.artifacts.items())),
        params={"model": dict(reversed(manifest.params["model"].items()))},
        environment=dict(reversed(manifest.environment.items())),
    )
    assert manifest_hash(turned) == manifest_hash(manifest)


def test_a_manifest_comes_back_as_it_was(manifest: Manifest) -> None:
    """What is read encodes to the bytes it was read from."""
    data = encode_manifest(manifest)
    back = decode_manifest(data)
    assert encode_manifest(back) == data
    assert decode_manifest(encode_manifest(back)) == back


def test_the_hash_is_the_same_in_another_process(manifest: Manifest, tmp_path: Path) -> None:
    """Neither hash seeds nor the process enter it."""
    kept = tmp_path / "manifest.json"
    kept.write_bytes(encode_manifest(manifest))
    program = (
        "import sys, pathlib\n"
        "from penstock.releases.manifest import decode_manifest, manifest_hash\n"
        "print(manifest_hash(decode_manifest(pathlib.Path(sys.argv[1]).read_bytes())))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(kept)], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        assert done.stdout.decode().strip() == manifest_hash(manifest)


def test_the_hash_of_a_known_release_stays(manifest: Manifest) -> None:
    """A later Penstock gives releases made today the same name; only a new FORMAT may change this."""
    graph = replace(manifest.graph, nodes=())  # which hold the versions installed here
    plain = replace(manifest, graph=graph, artifacts={}, serving={}, evaluations={})
    assert manifest_hash(plain) == GOLDEN_HASH


def test_no_field_is_a_time_a_run_or_an_attempt() -> None:
    """Equal inputs give an equal hash, whenever and however often they were run."""
    names: set[str] = set()
    _collect(msgspec.inspect.type_info(Manifest), names)
    assert not {n for n in names if n.endswith("_at") or "run" in n or "attempt" in n or n in {"host", "pid", "wall_s"}}


def _collect(info: Any, names: set[str]) -> None:
    if isinstance(info, msgspec.inspect.StructType):
        for field in info.fields:
            names.add(field.name)
            _collect(field.type, names)
    for inner in ("key_type", "value_type", "item_type"):
        if hasattr(info, inner):
            _collect(getattr(info, inner), names)
    for inner in (*getattr(info, "types", ()), *getattr(info, "item_types", ())):
        _collect(inner, names)
