"""What differs between two runs or releases: code, data, parameters, policy, environment, evidence, predictions."""

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.core.digest import canonical_json, digest_value
from penstock.core.records import Interval, Record
from penstock.engine.units import CHAMPION
from penstock.pipeline.graph import texts
from penstock.releases.contract import Breach
from penstock.releases.manifest import Example, Manifest
from penstock.releases.replay.records import Replay
from penstock.releases.rows import Judged, PredictionChange, compare_rows
from penstock.store.blobs import Blobs

SHOWN_CHANGES = 20
_SHORT = 12
_DIFF_BYTES = 2**20


class FileChange(Record, frozen=True, kw_only=True):
    """A project file that was added, removed or changed; `diff` is a unified diff."""

    path: str
    change: str
    diff: str


class ValueChange(Record, frozen=True, kw_only=True):
    """A named value before and after; None where there was none."""

    name: str
    before: Any = None
    after: Any = None


class MetricChange(Record, frozen=True, kw_only=True):
    """A mean before and after, each on its own evaluation rows."""

    evaluation: str
    model: str
    metric: str
    before: Interval | None
    after: Interval | None


class Difference(Record, frozen=True, kw_only=True):
    """Everything that differs; empty tuples where nothing does.

    Attributes:
        data: Versions, digests, columns and contracts of datasets, and the logical time.
        artifacts: Outputs whose bytes differ, by the first digits of their digests.
        breaches: What registered applications cannot live with, from the one to the other.
        replay: What both answer to recorded requests; None where that was not asked for, or cannot be.
        not_replayed: Why it cannot be; "" where it was, or was not asked for.
    """

    before: str
    after: str
    code: tuple[FileChange, ...]
    data: tuple[ValueChange, ...]
    params: tuple[ValueChange, ...]
    policy: tuple[ValueChange, ...]
    environment: tuple[ValueChange, ...]
    artifacts: tuple[ValueChange, ...] = ()
    checks: tuple[ValueChange, ...]
    metrics: tuple[MetricChange, ...]
    predictions: tuple[PredictionChange, ...]
    breaches: tuple[Breach, ...] = ()
    replay: Replay | None = None
    not_replayed: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether both sides are the same."""
        rows = (self.code, self.data, self.params, self.policy, self.environment, self.artifacts, self.checks)
        moved = any(p.changed for p in self.predictions) or any(m.before != m.after for m in self.metrics)
        return not any(rows) and not moved and (self.replay is None or not self.replay.changed)


def compare(
    before: tuple[str, Manifest], after: tuple[str, Manifest], blobs: Blobs, *, shown: int = SHOWN_CHANGES
) -> Difference:
    """Compare two manifests.

    Args:
        before: The reference people know it by, and the manifest.
        after: The same of the other side.
        blobs: Where code and evaluation rows are.
        shown: Most examples given per evaluation and serve function; nothing else holds values of rows.

    Raises:
        DamagedError: A blob that both sides need to be compared is damaged.
    """
    (name_a, a), (name_b, b) = before, after
    return Difference(
        before=name_a,
        after=name_b,
        code=_code(a, b, blobs),
        data=_values(_data(a), _data(b)),
        params=_values(_flat(a.params), _flat(b.params)),
        policy=_values(_flat(msgspec.to_builtins(a.policy)), _flat(msgspec.to_builtins(b.policy))),
        environment=_values(_environment(a), _environment(b)),
        artifacts=_values(_artifacts(a), _artifacts(b)),
        checks=_values(_checks(a), _checks(b)),
        metrics=_metrics(a, b),
        predictions=(*_answers(a, b, shown), *_rows(a, b, blobs, shown)),
    )


def _code(a: Manifest, b: Manifest, blobs: Blobs) -> tuple[FileChange, ...]:
    old, new = ({f.path: f.digest for f in m.graph.files} for m in (a, b))
    changes = []
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) == new.get(path):
            continue
        change = "added" if path not in old else "removed" if path not in new else "changed"
        data = tuple(_bytes(digests.get(path), blobs) for digests in (old, new))
        changes.append(FileChange(path=path, change=change, diff=_diff(path, *data)))
    return tuple(changes)


def _bytes(digest: str | None, blobs: Blobs) -> bytes | None:
    if digest is None:
        return b""
    return blobs.read(digest) if digest in blobs else None


def _diff(path: str, old: bytes | None, new: bytes | None) -> str:
    if old is None or new is None:
        return f"{path} is not in this store\n"
    # The time a diff takes grows with the square of the lines.
    if len(old) + len(new) > _DIFF_BYTES:
        return f"{path} differs: {len(old):,} bytes before, {len(new):,} after\n"
    try:
        ours, theirs = _lines(old), _lines(new)
    except UnicodeDecodeError:
        return f"{path} differs and is not UTF-8 text: {len(old):,} bytes before, {len(new):,} after\n"
    return "".join(difflib.unified_diff(ours, theirs, fromfile=f"a/{path}", tofile=f"b/{path}"))


def _lines(data: bytes) -> list[str]:
    # Not splitlines: it also cuts at form feeds and other characters that end no line of code.
    lines = [f"{line}\n" for line in data.decode().split("\n")]
    if lines[-1] == "\n":
        return lines[:-1]
    return [*lines[:-1], f"{lines[-1]}\\ No newline at end of file\n"]


def _data(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = {"now": manifest.now}
    for name, dataset in manifest.datasets.items():
        found[name] = f"{name}@{dataset.version} ({dataset.digest[:_SHORT]})"
        found |= {f"{name}.{column}": dtype for column, dtype in dataset.schema}
        found |= _flat(dataset.contract, f"{name}.")
    return found


def _environment(manifest: Manifest) -> dict[str, Any]:
    packages: dict[str, Any] = manifest.environment.get("packages", {})
    return {"python": manifest.environment.get("python"), **packages}


def _artifacts(manifest: Manifest) -> dict[str, Any]:
    """Return what the user's own nodes made, without the champion of the day."""
    judged = {f"{n.name}/{CHAMPION}" for n in manifest.graph.nodes if n.role == "evaluate"}
    own = {node.name for node in manifest.graph.nodes}
    return {
        name: artifact.digest[:_SHORT]
        for name, artifact in manifest.artifacts.items()
        if name.partition("/")[0] in own and name.rpartition("/")[0] not in judged
    }


def _checks(manifest: Manifest) -> dict[str, Any]:
    return {c.name: "passed" if c.passed else f"failed: {c.message}" for c in manifest.checks}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        is_more = isinstance(item, Mapping) and item
        found |= _flat(item, f"{prefix}{key}.") if is_more else {f"{prefix}{key}": item}
    return found


def _values(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[ValueChange, ...]:
    names = [n for n in sorted(a.keys() | b.keys()) if not _is_same(a, b, n)]
    return tuple(ValueChange(name=n, before=a.get(n), after=b.get(n)) for n in names)


def _is_same(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> bool:
    # As JSON, in which a release is hashed: there 1, 1.0 and true are not the same, and a tuple is a list.
    return name in a and name in b and canonical_json(a[name]) == canonical_json(b[name])


def _metrics(a: Manifest, b: Manifest) -> tuple[MetricChange, ...]:
    old, new = _means(a), _means(b)
    return tuple(
        MetricChange(evaluation=name[0], model=name[1], metric=name[2], before=old.get(name), after=new.get(name))
        for name in sorted(old.keys() | new.keys())
        if name[1] != CHAMPION
    )


def _means(manifest: Manifest) -> dict[tuple[str, str, str], Interval]:
    return {
        (name, model, metric): interval
        for name, evaluation in manifest.evaluations.items()
        for model, metrics in evaluation.means.items()
        for metric, interval in metrics.items()
    }


def _rows(a: Manifest, b: Manifest, blobs: Blobs, shown: int) -> list[PredictionChange]:
    changes = []
    for name, evaluation in b.evaluations.items():
        before = a.evaluations.get(name)
        for model, artifact in evaluation.rows.items():
            if before is None or model not in before.rows or model == CHAMPION:
                continue
            pair = before.rows[model], artifact
            changes.append(compare_rows(f"{name} of {model}", pair, _judged(b, name), blobs, shown=shown))
    return changes


def _judged(manifest: Manifest, evaluation: str) -> Judged:
    options = manifest.graph.node(evaluation).options
    return Judged(
        key=texts(options.get("key")),
        slices=texts(options.get("slices")),
        metric=manifest.evaluations[evaluation].metric,
        higher_is_better=bool(options.get("higher_is_better", True)),
    )


def _answers(a: Manifest, b: Manifest, shown: int) -> list[PredictionChange]:
    """Compare the answers to the sampled requests that both were asked."""
    changes = []
    for name, examples in b.examples.items():
        old = {digest_value(e.fields): e for e in a.examples.get(name, ())}
        common: list[tuple[Example, Example]] = [(old[d], e) for e in examples if (d := digest_value(e.fields)) in old]
        moved = [(x, y) for x, y in common if canonical_json(x.answer) != canonical_json(y.answer)]
        few = tuple({"key": y.fields, "before": x.answer, "after": y.answer} for x, y in moved[:shown])
        note = "" if common or not examples else "the two were not asked the same requests"
        changes.append(PredictionChange(subject=name, common=len(common), changed=len(moved), examples=few, note=note))
    return changes
