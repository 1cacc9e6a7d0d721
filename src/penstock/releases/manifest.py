"""The manifest of a release: everything that makes a pipeline what it is, under one hash.

Belongs here: the record and its hash. Does not: how a release is made (`create`) or kept (`store.ledger.releases`).
Nothing in it depends on when or how often a run was tried: equal inputs give an equal hash.
"""

from typing import Any

import msgspec

from penstock.core.digest import digest_bytes
from penstock.core.records import Artifact, CheckResult, Interval, Record
from penstock.core.settings import Policy
from penstock.pipeline.graph import Graph

FORMAT = 1


class ReleasedDataset(Record, frozen=True, kw_only=True):
    """The version of a dataset a release was made from, with the schema and contract it enforces.

    Attributes:
        watermark: Newest value of its time column, ISO 8601; None for a dataset without one.
    """

    version: int
    digest: str
    schema: tuple[tuple[str, str], ...]
    contract: dict[str, Any] = {}
    watermark: str | None = None


class ReleasedEvaluation(Record, frozen=True, kw_only=True):
    """What an evaluation found, per model: mean of each metric with its interval, and the rows behind it."""

    metric: str
    means: dict[str, dict[str, Interval]]
    rows: dict[str, Artifact]


class Example(Record, frozen=True, kw_only=True):
    """A request asked of the pipeline when the release was made, and the answer it gave (plain JSON)."""

    fields: dict[str, Any]
    answer: Any


class Manifest(Record, frozen=True, kw_only=True):
    """A release, whole.

    Attributes:
        graph: The pipeline as data; its `files` are the code snapshot (digests of blobs).
        artifacts: Every output by "node/output", or "node/part/output" within a fan-out.
        serving: For each serve and fallback node, the artifact behind each of its arguments
            (datasets are frozen as frames).
        params: Run parameters by node.
        now: Logical time of the run, ISO 8601, or None.
        environment: {"python": ..., "packages": {distribution: version}}: the exact lock.
        examples: By serve node: requests and answers used to prove that serving equals the pipeline.
        inputs: By serve node that takes rows: the columns it was released with, name and polars type.
        champion: Hash of the release this one was compared with, or None.
    """

    format: int = FORMAT
    pipeline: str
    goal: str
    graph: Graph
    artifacts: dict[str, Artifact]
    serving: dict[str, dict[str, Artifact]]
    datasets: dict[str, ReleasedDataset]
    params: dict[str, dict[str, Any]]
    now: str | None
    policy: Policy
    environment: dict[str, Any]
    checks: tuple[CheckResult, ...]
    evaluations: dict[str, ReleasedEvaluation]
    examples: dict[str, tuple[Example, ...]] = {}
    inputs: dict[str, tuple[tuple[str, str], ...]] = {}
    champion: str | None = None


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as canonical JSON; its digest is the hash of the release."""
    return msgspec.json.encode(manifest, order="deterministic")


def decode_manifest(data: bytes) -> Manifest:
    """Read what `encode_manifest` wrote."""
    return msgspec.json.decode(data, type=Manifest)


def manifest_hash(manifest: Manifest) -> str:
    """Return the hash that names the release: BLAKE3 of its canonical JSON."""
    return digest_bytes(encode_manifest(manifest))
