"""Applications that ask a pipeline: registered with a key, their use told from the log."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.core.errors import InputError, NotFoundError, StoreError
from penstock.core.records import Record
from penstock.core.refs import parse_name
from penstock.core.settings import parse_duration
from penstock.core.tokens import new_token
from penstock.project.contracts import requests_of
from penstock.project.moving import find_release, person
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.contract import interface_of
from penstock.releases.manifest import Manifest
from penstock.store.keys import KIND, Admission, KeyHolder, write_keys
from penstock.store.ledger import consumers
from penstock.store.ledger.consumers import Consumer, Contract, NewConsumer, Promise, Quota

if TYPE_CHECKING:
    import polars as pl

_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|m|h)")
_PER_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_USAGE = timedelta(hours=24)


class Keyed(Record, frozen=True, kw_only=True):
    """An application with its new key.

    Attributes:
        key: To be shown once; it is kept nowhere.
    """

    consumer: Consumer
    key: str


class Usage(Record, frozen=True, kw_only=True):
    """How an application used a pipeline in the last 24 hours.

    Attributes:
        name: As it calls itself, or the consumer of its key; "" for those who do not say.
        registered: Whether it has a key, or had one.
        errors: Requests without an answer.
        fallbacks: Requests that the fallback answered.
        promise: "p99 within 50 ms"; "" where nothing was promised.
        kept: Share of requests answered within the promised time; None without promise or requests.
        is_kept: Whether that share is what was promised.
    """

    pipeline: str
    name: str
    registered: bool
    revoked_at: datetime | None = None
    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    promise: str = ""
    kept: float | None = None
    is_kept: bool | None = None
    quota: str = ""
    contract: Contract = Contract()


def add_consumer(workspace: Workspace, new: NewConsumer) -> Keyed:
    """Register an application and give it a key.

    Raises:
        InputError: The name is not usable or taken, or the contract names what the live release does not have.
        NotFoundError: The pipeline has no release.
    """
    parse_name(new.name, what="consumer")
    release = find_release(new.pipeline, workspace)
    _refuse_unknown(new.contract, read_manifest(release.manifest_digest, workspace), str(release.ref))
    key, token = new_token(KIND)
    with workspace.ledger.write() as conn:
        return Keyed(consumer=consumers.add(conn, new, token, by=person()), key=key)


def rotate_key(workspace: Workspace, pipeline: str, name: str) -> Keyed:
    """Give an application a new key; the old one is refused within a second or two.

    Raises:
        NotFoundError: There is no such application.
        InputError: Its key was revoked.
    """
    key, token = new_token(KIND)
    with workspace.ledger.write() as conn:
        return Keyed(consumer=consumers.rotate(conn, pipeline, name, token, by=person()), key=key)


def revoke_key(workspace: Workspace, pipeline: str, name: str) -> Consumer:
    """Have the key of an application refused.

    Raises:
        NotFoundError: There is no such application.
    """
    with workspace.ledger.write() as conn:
        return consumers.revoke(conn, pipeline, name, by=person())


def list_usage(workspace: Workspace, pipeline: str | None = None) -> tuple[Usage, ...]:
    """Return every application that is registered or asked in the last 24 hours, by name.

    Raises:
        InputError: The name of the pipeline is not usable.
    """
    with workspace.ledger.read() as conn:
        known = consumers.of_pipeline(conn, pipeline)
    names = [parse_name(pipeline, what="pipeline")] if pipeline else sorted({one.pipeline for one in known})
    return tuple(usage for name in names for usage in _usage_of(workspace, name, known))


def show_usage(workspace: Workspace, pipeline: str, name: str) -> Usage:
    """Return one application that is registered, or asked in the last 24 hours.

    Raises:
        NotFoundError: There is no such application.
    """
    found = next((one for one in list_usage(workspace, pipeline) if one.name == name), None)
    if found is None:
        hint = f"list them: penstock consumers {pipeline}"
        raise NotFoundError(f"Pipeline {pipeline!r} has no consumer {name!r}.", hint=hint)
    return found


def admission_of(workspace: Workspace, pipeline: str, workers: int) -> Admission:
    """Return who may ask a server of a pipeline; `keep_keys` writes what it names."""
    policy = workspace.settings.policy(pipeline).serve
    return Admission(keys=str(_keys_path(workspace, pipeline)), require_key=policy.require_key, workers=workers)


def keep_keys(workspace: Workspace, pipeline: str, known: Sequence[Consumer]) -> None:
    """Write the hashes of good keys where the workers of servers look for them.

    Raises:
        StoreError: They cannot be written.
    """
    holders = [
        KeyHolder(
            name=one.name,
            key_id=one.key_id,
            key_hash=one.key_hash,
            rate_per_s=one.quota.rate_per_s,
            burst=one.quota.burst,
        )
        for one in known
    ]
    try:
        write_keys(_keys_path(workspace, pipeline), holders)
    except OSError as error:
        raise StoreError(f"The keys of consumers cannot be written: {error.strerror}.") from error


def parse_quota(rate: str | None, burst: int | None) -> Quota:
    """Return a quota as a person writes it: "50/s", "600/m".

    Raises:
        InputError: It is not a rate, or there is a burst without one.
    """
    if rate is None:
        if burst is not None:
            raise InputError("--burst without --rate limits nothing.", hint="say both, as --rate 50/s --burst 100")
        return Quota()
    found = _RATE.fullmatch(rate.strip())
    if found is None or float(found[1]) <= 0:
        raise InputError(f"{rate!r} is not a rate.", hint="write requests and a time, as 50/s, 600/m or 1000/h")
    return Quota(rate_per_s=float(found[1]) / _PER_S[found[2]], burst=burst)


def promise_words(promise: Promise) -> str:
    """Return "p99 within 50 ms"; "" for no promise."""
    return "" if promise.ms is None else f"p{promise.percent:g} within {promise.ms:g} ms"


def quota_words(quota: Quota) -> str:
    """Return "50/s, 100 at once"; "" for no limit."""
    if quota.rate_per_s is None:
        return ""
    burst = "" if quota.burst is None else f", {quota.burst:g} at once"
    return f"{quota.rate_per_s:g}/s{burst}" if quota.rate_per_s >= 1 else f"{quota.rate_per_s * 60:g}/m{burst}"


def _keys_path(workspace: Workspace, pipeline: str) -> Path:
    return workspace.home / "keys" / f"{pipeline}.json"


def _refuse_unknown(contract: Contract, manifest: Manifest, release: str) -> None:
    functions = interface_of(manifest)
    if contract.function and contract.function not in functions:
        hint = f"it has {', '.join(functions)}" if functions else "it has none"
        raise InputError(f"{release} has no serve function {contract.function!r}.", hint=hint)
    asked = [functions[contract.function]] if contract.function else list(functions.values())
    fields = {name for function in asked for name in function.fields}
    unknown = [name for name in contract.fields if name not in fields]
    if unknown:
        hint = f"its requests have {', '.join(sorted(fields))}" if fields else "its requests have none"
        raise InputError(f"{release} takes no field {unknown[0]!r}.", hint=hint)
    answers = {path for function in asked for path in function.answer}
    missing = [name for name in contract.answer if answers and name not in answers]
    if missing:
        hint = f"its answers have {', '.join(sorted(answers - {''}))}"
        raise InputError(f"Not every answer of {release} has {missing[0]!r}.", hint=hint)


def _usage_of(workspace: Workspace, pipeline: str, known: Sequence[Consumer]) -> Iterator[Usage]:
    import polars as pl  # noqa: PLC0415 -- frames are slow to load, and a server needs this module too

    by_name = {one.name: one for one in known if one.pipeline == pipeline}
    frame = requests_of(workspace, pipeline, workspace.clock.now() - _USAGE)
    rows = (
        frame.group_by("consumer", "request")
        .agg(
            is_error=(pl.col("error").is_not_null() & ~pl.col("fallback")).any(),
            fallback=pl.col("fallback").any(),
            ms=pl.col("ms").max(),
        )
        .collect()
    )
    asked: dict[str, pl.DataFrame] = {str(name): group for (name,), group in rows.group_by("consumer")}
    for name in sorted(by_name.keys() | asked.keys()):
        yield _usage(pipeline, name, by_name.get(name), asked.get(name))


def _usage(pipeline: str, name: str, one: Consumer | None, rows: "pl.DataFrame | None") -> Usage:
    promise = Promise() if one is None else one.promise
    found = Usage(
        pipeline=pipeline,
        name=name,
        registered=one is not None,
        revoked_at=None if one is None else one.revoked_at,
        promise=promise_words(promise),
        quota="" if one is None else quota_words(one.quota),
        contract=Contract() if one is None else one.contract,
    )
    if rows is None:
        return found
    kept = None if promise.ms is None else float((rows["ms"] <= promise.ms).sum()) / rows.height
    return msgspec.structs.replace(
        found,
        requests=rows.height,
        errors=int(rows["is_error"].sum()),
        fallbacks=int(rows["fallback"].sum()),
        p50_ms=_quantile(rows, 0.5),
        p99_ms=_quantile(rows, 0.99),
        kept=kept,
        is_kept=None if kept is None else kept >= promise.percent / 100,
    )


def _quantile(rows: "pl.DataFrame", share: float) -> float | None:
    found = rows["ms"].quantile(share, interpolation="linear")
    return None if found is None else float(found)


def read_fields(names: str | None) -> tuple[str, ...]:
    """Return names that a person wrote with commas between them.

    Raises:
        InputError: One of them is empty.
    """
    if names is None:
        return ()
    found = tuple(name.strip() for name in names.split(","))
    if not all(found):
        raise InputError(f"{names!r} has an empty name.", hint="write names with commas between, as user_id,k")
    return found


def parse_promise(text: str | None) -> Promise:
    """Return the time within which 99 % are to be answered, as a person writes it: "50ms".

    Raises:
        InputError: It is not a time above zero.
    """
    if text is None:
        return Promise()
    ms = parse_duration(text) * 1000
    if ms <= 0:
        raise InputError(f"{text!r} cannot be promised.", hint="write a time, as --p99 50ms")
    return Promise(ms=ms)
