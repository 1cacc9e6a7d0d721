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

FORMAT = 2


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


class StandIn(Record, frozen=True, kw_only=True):
    """A faster equivalent of a model that a serve function takes, and the proof that it answers the same.

    What is proven is in here and under the release's hash; how much faster it is depends on the machine, so it is
    measured where the release is made (kept with the run) and again where it is served.

    Attributes:
        kind: How it answers: "folded", "lightgbm-rows", "onnx"...; "original" where nothing was proven equal.
        artifact: What it consists of; None when the model itself is enough.
        methods: Methods of the model that it answers; all others are the model's own.
        forms: Forms of rows it reads; all others go to the model.
        relative: Tolerance: numbers may differ by `absolute + relative * |original|`, labels not at all.
        difference: Largest difference found, relative to numbers above 1, rounded up to a power of ten.
        rows: Rows of the pipeline's own data on which both answered the same.
        made_up: Further rows, made up from the values of those.
        requests: Example requests that the serve function answered the same with both.
        sample: A few made-up rows, to prove it once more where it is served.
        refused: Why other kinds were not taken, by kind.
    """

    kind: str
    artifact: Artifact | None = None
    methods: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    relative: float = 0.0
    absolute: float = 0.0
    difference: float = 0.0
    rows: int = 0
    made_up: int = 0
    requests: int = 0
    sample: Artifact | None = None
    refused: dict[str, str] = {}


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
        stand_ins: By serve or fallback function and argument: the faster equivalent of the model it takes.
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
    champion: str | None = None
    inputs: dict[str, tuple[tuple[str, str], ...]] = {}
    stand_ins: dict[str, dict[str, StandIn]] = {}


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as canonical JSON; its digest is the hash of the release."""
    return msgspec.json.encode(manifest, order="deterministic")


def decode_manifest(data: bytes) -> Manifest:
    """Read what `encode_manifest` wrote."""
    return msgspec.json.decode(data, type=Manifest)


def manifest_hash(manifest: Manifest) -> str:
    """Return the hash that names the release: BLAKE3 of its canonical JSON."""
    return digest_bytes(encode_manifest(manifest))
