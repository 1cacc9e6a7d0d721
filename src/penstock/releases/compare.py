"""What differs between two runs or releases: code, data, parameters, policy, environment, evidence, predictions."""

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl

from penstock.core.digest import digest_value
from penstock.core.records import Artifact, Interval, Record
from penstock.releases.manifest import Example, Manifest
from penstock.store import codecs
from penstock.store.blobs import Blobs

SHOWN_CHANGES = 20


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


class PredictionChange(Record, frozen=True, kw_only=True):
    """What changed on the rows or requests that both sides answered.

    Attributes:
        subject: "quality of recommender" for evaluation rows, "recommend" for sampled requests.
        common: Rows or requests both sides have.
        changed: How many of them differ.
        examples: Some that differ: the key or request, before, after.
    """

    subject: str
    common: int
    changed: int
    examples: tuple[dict[str, Any], ...] = ()


class Difference(Record, frozen=True, kw_only=True):
    """Everything that differs; empty tuples where nothing does."""

    before: str
    after: str
    code: tuple[FileChange, ...]
    data: tuple[ValueChange, ...]
    params: tuple[ValueChange, ...]
    policy: tuple[ValueChange, ...]
    environment: tuple[ValueChange, ...]
    checks: tuple[ValueChange, ...]
    metrics: tuple[MetricChange, ...]
    predictions: tuple[PredictionChange, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both sides are the same."""
        rows = (self.code, self.data, self.params, self.policy, self.environment, self.checks)
        moved = any(p.changed for p in self.predictions) or any(m.before != m.after for m in self.metrics)
        return not any(rows) and not moved


def compare(before: tuple[str, Manifest], after: tuple[str, Manifest], blobs: Blobs) -> Difference:
    """Compare two manifests, each with the reference people know it by."""
    (name_a, a), (name_b, b) = before, after
    return Difference(
        before=name_a,
        after=name_b,
        code=_code(a, b, blobs),
        data=_values(_data(a), _data(b)),
        params=_values(_flat(a.params), _flat(b.params)),
        policy=_values(_flat(msgspec.to_builtins(a.policy)), _flat(msgspec.to_builtins(b.policy))),
        environment=_values(_environment(a), _environment(b)),
        checks=_values(_checks(a), _checks(b)),
        metrics=_metrics(a, b),
        predictions=(*_rows(a, b, blobs), *_answers(a, b)),
    )


def _code(a: Manifest, b: Manifest, blobs: Blobs) -> tuple[FileChange, ...]:
    old, new = ({f.path: f.digest for f in m.graph.files} for m in (a, b))
    changes = []
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) == new.get(path):
            continue
        ours, theirs = _lines(old.get(path), blobs), _lines(new.get(path), blobs)
        change = "added" if path not in old else "removed" if path not in new else "changed"
        diff = "".join(difflib.unified_diff(ours, theirs, fromfile=f"a/{path}", tofile=f"b/{path}"))
        changes.append(FileChange(path=path, change=change, diff=diff))
    return tuple(changes)


def _lines(digest: str | None, blobs: Blobs) -> list[str]:
    return [] if digest is None else blobs.read(digest).decode("utf-8", "replace").splitlines(keepends=True)


def _data(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, dataset in manifest.datasets.items():
        found[name] = f"{name}@{dataset.version} ({dataset.digest[:12]})"
        found |= {f"{name}.{column}": dtype for column, dtype in dataset.schema}
    return found


def _environment(manifest: Manifest) -> dict[str, Any]:
    packages: dict[str, Any] = manifest.environment.get("packages", {})
    return {"python": manifest.environment.get("python"), **packages}


def _checks(manifest: Manifest) -> dict[str, Any]:
    return {c.name: "passed" if c.passed else f"failed: {c.message}" for c in manifest.checks}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return found


def _values(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[ValueChange, ...]:
    names = [n for n in sorted(a.keys() | b.keys()) if a.get(n) != b.get(n)]
    return tuple(ValueChange(name=n, before=a.get(n), after=b.get(n)) for n in names)


def _metrics(a: Manifest, b: Manifest) -> tuple[MetricChange, ...]:
    old, new = _means(a), _means(b)
    return tuple(
        MetricChange(evaluation=e, model=model, metric=metric, before=old.get((e, model, metric)), after=after)
        for (e, model, metric), after in sorted(new.items())
        if model != "champion"
    )


def _means(manifest: Manifest) -> dict[tuple[str, str, str], Interval]:
    return {
        (name, model, metric): interval
        for name, evaluation in manifest.evaluations.items()
        for model, metrics in evaluation.means.items()
        for metric, interval in metrics.items()
    }


def _rows(a: Manifest, b: Manifest, blobs: Blobs) -> list[PredictionChange]:
    changes = []
    for name, evaluation in b.evaluations.items():
        before = a.evaluations.get(name)
        for model, artifact in evaluation.rows.items():
            if before is not None and model in before.rows and model != "champion":
                key = _key(b, name)
                change = _row_change(f"{name} of {model}", (before.rows[model], artifact), key, blobs)
                changes.append(change)
    return changes


def _key(manifest: Manifest, evaluation: str) -> list[str]:
    key = manifest.graph.node(evaluation).options.get("key")
    return [key] if isinstance(key, str) else list(key or ())


def _row_change(subject: str, pair: tuple[Artifact, Artifact], key: list[str], blobs: Blobs) -> PredictionChange:
    if pair[0].digest == pair[1].digest:
        return PredictionChange(subject=subject, common=pair[0].rows or 0, changed=0)
    a, b = (_readable(artifact, blobs) for artifact in pair)
    if a is None or b is None:
        return PredictionChange(subject=f"{subject} (rows are not in this store)", common=0, changed=0)
    if not key:
        a, b, key = a.with_row_index("row"), b.with_row_index("row"), ["row"]
    both = [c for c in a.columns if c in b.columns and c not in key]
    joined = a.select(*key, *both).join(
        b.select(*key, *both), on=key, how="inner", suffix=" after", maintain_order="left"
    )
    differs = (
        pl.any_horizontal([pl.col(c).ne_missing(pl.col(f"{c} after")) for c in both]) if both else pl.lit(value=False)
    )
    moved = joined.filter(differs)
    examples = tuple(_example(row, key, both) for row in moved.head(SHOWN_CHANGES).to_dicts())
    return PredictionChange(subject=subject, common=joined.height, changed=moved.height, examples=examples)


def _readable(artifact: Artifact, blobs: Blobs) -> pl.DataFrame | None:
    if artifact.digest not in blobs:  # an imported release comes without its evaluation rows
        return None
    frame = codecs.load(artifact, blobs, form="polars")
    return frame if isinstance(frame, pl.DataFrame) else None


def _example(row: Mapping[str, Any], key: list[str], both: list[str]) -> dict[str, Any]:
    changed = [c for c in both if row[c] != row[f"{c} after"]]
    return {
        "key": {k: row[k] for k in key},
        "before": {c: row[c] for c in changed},
        "after": {c: row[f"{c} after"] for c in changed},
    }


def _answers(a: Manifest, b: Manifest) -> list[PredictionChange]:
    changes = []
    for name, examples in b.examples.items():
        old = {digest_value(e.fields): e for e in a.examples.get(name, ())}
        common: list[tuple[Example, Example]] = [(old[d], e) for e in examples if (d := digest_value(e.fields)) in old]
        moved = [(x, y) for x, y in common if x.answer != y.answer]
        shown = tuple({"key": y.fields, "before": x.answer, "after": y.answer} for x, y in moved[:SHOWN_CHANGES])
        changes.append(PredictionChange(subject=name, common=len(common), changed=len(moved), examples=shown))
    return changes
