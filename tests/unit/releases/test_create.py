"""Only a run in which all is well becomes a release, and only new content a new one."""

from pathlib import Path

import msgspec
import pytest
from released_parts import every_blob, make_manifest, make_node, make_outcome

from penstock.core.errors import CheckError, DamagedError
from penstock.core.records import Artifact, CheckResult, DatasetVersion
from penstock.core.settings import Policy
from penstock.core.states import NodeState
from penstock.engine.state import Kept
from penstock.releases import create
from penstock.releases.manifest import Manifest, decode_manifest, encode_manifest
from penstock.store.blobs import Blobs

FAILED = CheckResult(name="better_than_lately", passed=False, message="lift.low is -0.005")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_manifest(Blobs(tmp_path / "blobs"))


def test_a_run_in_which_all_is_well_passes_the_gate(manifest: Manifest) -> None:
    """Run and reused nodes count alike."""
    outcome = make_outcome(manifest)
    create.gate(manifest, outcome)
    create.gate(manifest, msgspec.structs.replace(outcome, nodes=outcome.nodes | {"model": NodeState.REUSED}))


def test_a_failed_check_closes_the_gate(manifest: Manifest) -> None:
    """The message names the check, the run and what was found."""
    wrong = create.with_check(manifest, FAILED)
    with pytest.raises(CheckError, match=r"'better_than_lately' failed for movies run r41: lift\.low is -0\.005"):
        create.gate(wrong, make_outcome(manifest))


def test_a_failed_check_of_the_run_closes_the_gate_though_the_manifest_hides_it(manifest: Manifest) -> None:
    """What the run found counts, whatever was written down of it."""
    with pytest.raises(CheckError, match="better_than_lately"):
        create.gate(manifest, make_outcome(manifest, checks=(FAILED,)))


@pytest.mark.parametrize("state", [s for s in NodeState if s not in {NodeState.SUCCEEDED, NodeState.REUSED}])
def test_a_node_that_is_not_done_closes_the_gate(state: NodeState, manifest: Manifest) -> None:
    """Also a skipped or cancelled one."""
    outcome = make_outcome(manifest)
    undone = msgspec.structs.replace(outcome, nodes=outcome.nodes | {"popular": state})
    with pytest.raises(CheckError, match="did not finish 'popular'"):
        create.gate(manifest, undone)


def test_a_read_manifest_has_the_content_of_the_one_it_was_written_from(manifest: Manifest) -> None:
    """Tuples become lists on the way; that is no change."""
    mine = msgspec.structs.replace(manifest, params={"model": {"layers": (64, 32)}})
    assert create.is_same_content(mine, decode_manifest(encode_manifest(mine)))


def test_evidence_is_no_content(manifest: Manifest) -> None:
    """A run that is compared with another champion but changes nothing makes no release."""
    rows = manifest.artifacts["quality/model/quality"]
    judged = msgspec.structs.replace(
        create.with_check(manifest, FAILED),
        champion="a" * 64,
        evaluations={},
        artifacts=manifest.artifacts | {"quality/champion/quality": rows},
    )
    assert create.is_same_content(manifest, judged)


def test_a_part_that_is_called_champion_is_content(manifest: Manifest) -> None:
    """Only evaluations have a champion; a fan-out may well have a key of that name."""
    model = manifest.artifacts["model/model"]
    one, other = (
        msgspec.structs.replace(manifest, artifacts={"model/champion/model": m})
        for m in (model, manifest.artifacts["popular/popular"])
    )
    assert not create.is_same_content(one, other)


@pytest.mark.parametrize(
    "change",
    [{"params": {}}, {"now": None}, {"policy": Policy(hold="1m")}, {"environment": {}}, {"artifacts": {}}],
    ids=lambda change: next(iter(change)),
)
def test_another_parameter_policy_or_environment_is_other_content(
    change: dict[str, object], manifest: Manifest
) -> None:
    """Each makes a new release."""
    assert not create.is_same_content(manifest, msgspec.structs.replace(manifest, **change))


def test_a_source_that_notes_file_times_does_not_enter_the_release(manifest: Manifest) -> None:
    """The same data give the same hash on every machine; the newest time in the data is kept."""
    cursor = {"source": "files", "files": {"a.csv": [10, 1_700_000_000_000_000_000, "digest"]}}
    graph = msgspec.structs.replace(
        manifest.graph, nodes=(make_node("titles", "dataset"), make_node("ratings", "dataset", time="at"))
    )
    common = {"pipeline": "movies", "version": 1, "digest": "d" * 64, "table": "t", "delta_version": 0, "rows": 1}
    found = {
        name: DatasetVersion(dataset=name, rows_added=1, watermark=watermark, **common)  # type: ignore[arg-type]  # mixed values
        for name, watermark in (("titles", cursor), ("ratings", "2026-01-01T00:00:00"))
    }
    outcome = make_outcome(manifest, datasets=found, nodes={})
    made = create.manifest_of(graph, outcome, params={}, policy=Policy(), champion=None)
    assert made.datasets["titles"].watermark is None
    assert made.datasets["ratings"].watermark == "2026-01-01T00:00:00"


def test_what_an_evaluation_found_is_readable_later(manifest: Manifest) -> None:
    """A single example has no interval; the manifest must not hold what cannot be read back."""
    whole = {"model": "model", "slice": "", "value": ""}
    table = [
        {**whole, "metric": "ndcg", "mean": 0.5, "low": None, "high": None, "n": 1},
        {**whole, "metric": "recall", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 9},
    ]
    rows = Artifact(digest="e" * 64, codec="arrow", type="t", size_bytes=1)
    graph = msgspec.structs.replace(manifest.graph, nodes=(make_node("quality", "evaluate", metric=None),))
    kept = {
        "quality": {"model": Kept(outputs={"quality": rows})},
        "evidence:quality": {"": Kept(facts={"metrics": table})},
    }
    outcome = make_outcome(manifest, kept=kept)
    made = create.manifest_of(graph, outcome, params={}, policy=Policy(), champion=None)
    read = decode_manifest(encode_manifest(made)).evaluations["quality"]
    assert read.metric == "ndcg"
    assert list(read.means["model"]) == ["recall"]


def test_a_release_stands_on_bytes_that_were_all_read(tmp_path: Path) -> None:
    """Also the parts inside an artifact of several: one flipped byte anywhere and there is no release."""
    blobs = Blobs(tmp_path / "blobs")
    manifest = make_manifest(blobs)
    create.secure(manifest, blobs)
    for path in every_blob(blobs):
        before = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(bytes([before[0] ^ 1]) + before[1:])
        with pytest.raises(DamagedError, match=path.parent.name + path.name):
            create.secure(manifest, Blobs(tmp_path / "blobs"))
        path.write_bytes(before)
