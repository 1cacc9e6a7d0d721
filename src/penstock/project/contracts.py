"""What a release would break for registered applications: a check of each run, asked again before it is live."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.core.errors import CheckError
from penstock.core.records import CheckResult
from penstock.core.refs import ReleaseRef
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.contract import Breach, Relied, breaks, interface_of
from penstock.releases.manifest import Manifest
from penstock.store.ledger import consumers, releases
from penstock.store.ledger.consumers import Consumer

if TYPE_CHECKING:
    import polars as pl

CHECK = "consumers_kept"
# How far back the log is read for the fields that an application sends, and how many of its newest requests.
_LEARNED, _MOST_LEARNED = timedelta(days=7), 2000


def breaches_of(workspace: Workspace, before: Manifest, after: Manifest) -> list[Breach]:
    """Return what a release would break for the registered applications."""
    with workspace.ledger.read() as conn:
        known = consumers.active(conn, after.pipeline)
    if not known or not breaks(before, after, [_relied(one, None) for one in known]):
        return []
    # Only now the log is read: who did not say what they send may not send what changed.
    sent = _sent_fields(workspace, before, [one.name for one in known if not one.contract.fields])
    return breaks(before, after, [_relied(one, sent.get(one.name)) for one in known])


def check_contracts(workspace: Workspace, before: Manifest | None, after: Manifest) -> CheckResult | None:
    """Return the check that a release keeps the contracts of registered applications; None where there are none."""
    with workspace.ledger.read() as conn:
        known = consumers.active(conn, after.pipeline)
    if not known or before is None:
        return None
    found = breaches_of(workspace, before, after)
    is_allowed = workspace.settings.policy(after.pipeline).breaking == "allow"
    said = f"{len(known)} consumer{'s' if len(known) > 1 else ''} can go on as before"
    if found:
        said = f"it {_broken(found)}" + (' (let through by breaking = "allow")' if is_allowed else "")
    evidence: dict[str, Any] = {"breaches": msgspec.to_builtins(found), "consumers": [one.name for one in known]}
    return CheckResult(name=CHECK, passed=not found or is_allowed, built_in=True, message=said, evidence=evidence)


def refuse_breaking(workspace: Workspace, after: Manifest, release: str) -> None:
    """Refuse to take up a release that breaks an application that has come since the release was made.

    Raises:
        CheckError: It breaks the contract of a registered application, and policy lets no such release through.
    """
    with workspace.ledger.read() as conn:
        live = releases.live(conn, after.pipeline)
    if live is None or workspace.settings.policy(after.pipeline).breaking == "allow":
        return
    found = breaches_of(workspace, read_manifest(live.manifest_digest, workspace), after)
    if found:
        hint = f'agree with them, or let it through by `breaking = "allow"` under [{after.pipeline}] in penstock.toml'
        hint += " (a server that runs has to be started again)"
        raise CheckError(f"{release} {_broken(found)}.", hint=hint)


def refuse_breaking_release(workspace: Workspace, ref: ReleaseRef) -> Manifest:
    """Return the manifest of a release that may be taken up, as far as applications go.

    Raises:
        CheckError: It breaks the contract of a registered application, and policy lets no such release through.
        NotFoundError: There is no such release.
    """
    with workspace.ledger.read() as conn:
        found = releases.get(conn, ref)
    manifest = read_manifest(found.manifest_digest, workspace)
    refuse_breaking(workspace, manifest, str(ref))
    return manifest


def _broken(found: Sequence[Breach]) -> str:
    names = sorted({one.consumer for one in found})
    return f"breaks {', '.join(names)}: {'; '.join(dict.fromkeys(one.what for one in found))}"


def _relied(one: Consumer, learned: frozenset[str] | None) -> Relied:
    fields = frozenset(one.contract.fields) or learned
    return Relied(consumer=one.name, function=one.contract.function, fields=fields, answer=one.contract.answer)


def requests_of(workspace: Workspace, pipeline: str, since: datetime) -> "pl.LazyFrame":
    """Return what a pipeline was asked since then: a row per prediction, with what it took."""
    import polars as pl  # noqa: PLC0415 -- frames are slow to load, and a server needs this module too

    from penstock.monitoring.service import answer_ms  # noqa: PLC0415 -- loads frames
    from penstock.serving.predictions.reading import predictions_frame  # noqa: PLC0415 -- as above

    return predictions_frame(workspace.home, pipeline, since=since).select(
        "consumer",
        "serve",
        "fields",
        "error",
        "fallback",
        "at",
        request=pl.col("prediction_id").str.split("-").list.first(),
        ms=answer_ms(pl.col("timings")),
    )


def _sent_fields(workspace: Workspace, manifest: Manifest, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the fields that applications are seen to send: required ones, and those that ever were not the default.

    An application that asked nothing lately is missing.
    """
    import polars as pl  # noqa: PLC0415 -- as above

    if not names:
        return {}
    params = {node.name: node.params for node in manifest.graph.nodes if node.role == "serve"}
    rows = {
        name: [f for f in function.fields if f.startswith("rows.")] for name, function in interface_of(manifest).items()
    }
    frame = requests_of(workspace, manifest.pipeline, workspace.clock.now() - _LEARNED)
    recent = frame.filter(pl.col("consumer").is_in(names)).sort("at", descending=True)
    found: dict[str, set[str]] = {}
    for name, serve, text in recent.select("consumer", "serve", "fields").head(_MOST_LEARNED).collect().iter_rows():
        sent = msgspec.json.decode(text or "{}")
        given = sent if isinstance(sent, dict) else {}
        own = found.setdefault(name, set())
        own.update(p.name for p in params.get(serve, ()) if p.required or given.get(p.name, p.default) != p.default)
        own.update(rows.get(serve, ()))
    return {name: frozenset(fields) for name, fields in found.items()}
