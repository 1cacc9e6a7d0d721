"""The monitor of equality: a sample of what was served is answered again offline by the same release, and compared.

Whatever a serving worker computes otherwise than the pipeline does (a stale table, a faster equivalent that is none, a
feature that is made in two places) shows in its answers; so answers are compared, from the request on.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from penstock.core.errors import ArtifactError, NotFoundError
from penstock.monitoring.findings import Finding, Window
from penstock.project.tracing import Recomputed, recent_predictions, recompute
from penstock.project.watching.look import Look, Measured
from penstock.serving.predictions.reading import predictions_frame
from penstock.serving.predictions.records import Prediction

ID = "prediction_id"
# After a pause only these newest windows are looked at: each costs a process that loads the release.
_MOST_WINDOWS = 7
_MOST_SHOWN = 10
_NOISE_AT = 12


def measure(look: Look) -> Iterator[Measured]:
    """Measure the windows that closed since, where anything was answered in them and policy wants a sample."""
    if look.manifest is None or look.policy.equality == 0:
        return
    names = [node.name for node in look.manifest.graph.nodes if node.role == "serve"]
    closed = look.spans(look.floor(look.now) - _MOST_WINDOWS * look.step)
    for name in names:
        newest = look.newest(f"equality:{name}")
        for start, end in closed:
            if newest is None or start >= newest:
                yield from _window(look, name, (start, end))


def _window(look: Look, name: str, span: tuple[datetime, datetime]) -> Iterator[Measured]:
    chosen = _chosen(look, name, span)
    if not chosen:
        return
    found = {one.id: recomputed for one, recomputed in _recomputed(look, chosen)}
    release = Counter(one.release for one in chosen).most_common(1)[0][0]
    window = Window(
        monitor=f"equality:{name}",
        start=span[0],
        end=span[1],
        rows=len(chosen),
        release=release,
        findings=(_finding(name, found),),
    )
    yield Measured(window=window)


def _chosen(look: Look, name: str, span: tuple[datetime, datetime]) -> list[Prediction]:
    """Return a sample that is the same for whoever draws it: the random part of an id decides."""
    asked = predictions_frame(look.workspace.home, look.pipeline, since=span[0], until=span[1])
    own = asked.filter(pl.col("serve") == name, pl.col("error").is_null())
    noise = pl.col(ID).str.slice(_NOISE_AT)
    ids = own.select(ID, noise.alias("noise")).sort("noise").head(look.policy.equality).collect(engine="streaming")[ID]
    where = pl.col(ID).is_in(ids.to_list()) & (pl.col("at") < span[1])
    return recent_predictions(look.pipeline, look.workspace, where=where, since=span[0], limit=len(ids))


def _recomputed(look: Look, chosen: Sequence[Prediction]) -> Iterator[tuple[Prediction, Recomputed]]:
    for release in sorted({one.release for one in chosen}):
        own = [one for one in chosen if one.release == release]
        try:
            yield from zip(own, recompute(own, look.workspace), strict=True)
        except (NotFoundError, ArtifactError) as error:
            gone = Recomputed(verdict="not recomputed", why=f"{release} is not here any more: {error.message}")
            yield from ((one, gone) for one in own)


def _finding(name: str, found: dict[str, Recomputed]) -> Finding:
    verdicts = Counter(str(one.verdict) for one in found.values())
    compared = len(found) - verdicts["not recomputed"]
    same = verdicts["equal"] + verdicts["close"]
    wrong = sorted(made for made, one in found.items() if one.verdict in {"different", "failed"})
    said = f"{same} of {compared} answers of {name!r} that were answered again offline are the same."
    if wrong:
        said += f" {len(wrong)} differ, as {wrong[0]}: {_how(found[wrong[0]])}."
    evidence: dict[str, Any] = {
        "sampled": len(found),
        "verdicts": dict(sorted(verdicts.items())),
        "predictions": wrong[:_MOST_SHOWN],
        # Places, not values: what stands in an answer is nobody's business here.
        "differences": {made: [one.path for one in found[made].differences[:5]] for made in wrong[:_MOST_SHOWN]},
        "packages": sorted({package for one in found.values() for package in one.differing}),
    }
    return Finding(
        kind="feature_equality",
        subject=f"{name}.answer",
        is_alarm=bool(wrong),
        effect=len(wrong) / compared if compared else 0.0,
        said=said,
        evidence=evidence,
    )


def _how(one: Recomputed) -> str:
    if one.verdict == "failed":
        return "offline it fails"
    places = [difference.path or "the answer" for difference in one.differences[:3]]
    return f"{len(one.differences)} values, {', '.join(places)}"
