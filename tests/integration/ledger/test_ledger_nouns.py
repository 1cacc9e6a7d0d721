"""Each noun is given back as it was stored, on both databases."""

import math
from datetime import UTC, datetime

import msgspec
import pytest

from penstock.core.errors import CheckError, InputError, NotFoundError, StoreError
from penstock.core.records import Artifact, CheckResult, DatasetVersion, Failure, Interval, Usage
from penstock.core.refs import ReleaseRef
from penstock.core.states import AttemptState, NodeState, RunState
from penstock.core.tokens import Token
from penstock.store.ledger import (
    Ledger,
    artifacts,
    attempts,
    checks,
    consumers,
    datasets,
    events,
    evidence,
    releases,
    results,
    runs,
)

FRAME = Artifact(digest="d1", codec="arrow", type="polars:DataFrame", size_bytes=2**40, rows=3, meta={"columns": ["a"]})
ODD = 'a "quoted" \x00 log \ud800 with ünïcode'


def start_run(ledger: Ledger, new_run: runs.NewRun) -> int:
    with ledger.write() as conn:
        return runs.create(conn, new_run)


def test_run_is_recorded_from_start_to_finish(ledger: Ledger, new_run: runs.NewRun) -> None:
    """A run is given back with its parameters, error, release and end; it ends once only."""
    run_id = start_run(ledger, new_run)
    failure = Failure(kind="exception", message=ODD, traceback="line 1")
    with ledger.write() as conn:
        runs.attach_release(conn, run_id, "movies@1")
        runs.finish(conn, run_id, RunState.FAILED, error=failure)
    with ledger.read() as conn:
        run = runs.get(conn, run_id)
    assert (run.state, run.release, run.error, run.owner) == ("failed", "movies@1", failure, new_run.owner)
    assert run.finished_at is not None
    with pytest.raises(StoreError, match="cannot go from 'failed' to 'lost'"), ledger.write() as conn:
        runs.finish(conn, run_id, RunState.LOST)
    with pytest.raises(NotFoundError, match="no run 'r99'"), ledger.read() as conn:
        runs.get(conn, 99)


def test_runs_are_paged_newest_first_with_filters(ledger: Ledger, new_run: runs.NewRun) -> None:
    """Pages follow each other without gap or repetition, also when filtered by state."""
    ids = [start_run(ledger, new_run) for _ in range(7)]
    with ledger.write() as conn:
        runs.finish(conn, ids[2], RunState.SUCCEEDED)
    with ledger.read() as conn:
        first = runs.page(conn, pipeline="movies", limit=3)
        second = runs.page(conn, pipeline="movies", before=first[-1].id, limit=10)
        done = runs.page(conn, state=RunState.SUCCEEDED)
        assert runs.page(conn, pipeline="other") == []
    assert [run.id for run in first + second] == ids[::-1]
    assert [run.id for run in done] == [ids[2]]


def test_nodes_of_a_run_are_replaced_not_repeated(ledger: Ledger, new_run: runs.NewRun) -> None:
    """A node that changes is one row with its latest state; parts of a fan-out may have any key."""
    run_id = start_run(ledger, new_run)
    parts = [runs.RunNode(node="fit", part=part, state=NodeState.RUNNING) for part in ("", "\x00", "\ud800", '"')]
    done = runs.RunNode(node="fit", state=NodeState.REUSED, reason="nothing changed", key="k", result={"n": math.inf})
    with ledger.write() as conn:
        runs.set_nodes(conn, run_id, parts)
        runs.set_nodes(conn, run_id, [done])
    with ledger.read() as conn:
        found = runs.nodes(conn, run_id)
    assert len(found) == 4
    assert [node for node in found if node.part == ""] == [done]
    assert {node.part for node in found} == {part.part for part in parts}


def test_attempts_start_and_finish_in_batches(ledger: Ledger, new_run: runs.NewRun) -> None:
    """P6, T11: a batch gets its ids in order; usage, failure and log come back exactly."""
    run_id = start_run(ledger, new_run)
    new = [attempts.NewAttempt(run_id=run_id, node="fit", part=str(n), number=1, token=1) for n in range(50)]
    usage = Usage(wall_s=0.1, cpu_s=math.nan, peak_bytes=2**41)
    failure = Failure(kind="memory", message="killed")
    with ledger.write() as conn:
        ids = attempts.start_all(conn, new)
        ended = [
            attempts.Ended(id=one, state=AttemptState.KILLED, usage=usage, failure=failure, log=ODD) for one in ids
        ]
        attempts.finish_all(conn, ended)
    with ledger.read() as conn:
        found = attempts.of_run(conn, run_id)
        assert attempts.latest_number(conn, run_id, "fit", "7") == 1
        assert attempts.latest_number(conn, run_id, "fit", "x") == 0
    assert [(one.id, one.part) for one in found] == [(ids[n], str(n)) for n in range(50)]
    first = found[0]
    assert (first.wall_s, first.peak_bytes, first.failure, first.log) == (0.1, 2**41, failure, ODD)
    assert first.cpu_s is not None
    assert math.isnan(first.cpu_s)


def test_attempt_that_ended_is_never_written_again(ledger: Ledger, new_run: runs.NewRun) -> None:
    """A second end, or an end of what never started, is refused and takes its whole transaction with it."""
    run_id = start_run(ledger, new_run)
    with ledger.write() as conn:
        one = attempts.start(conn, attempts.NewAttempt(run_id=run_id, node="fit", number=1, token=1))
        two = attempts.start(conn, attempts.NewAttempt(run_id=run_id, node="fit", number=2, token=1))
        attempts.finish_all(conn, [attempts.Ended(id=one, state=AttemptState.SUCCEEDED)])
    late = [attempts.Ended(id=two, state=AttemptState.FAILED), attempts.Ended(id=one, state=AttemptState.FAILED)]
    with pytest.raises(StoreError, match="ended already"), ledger.write() as conn:
        attempts.finish_all(conn, late)
    with pytest.raises(StoreError, match="never started"), ledger.write() as conn:
        attempts.finish_all(conn, [attempts.Ended(id=12345, state=AttemptState.FAILED)])
    with ledger.read() as conn:
        assert [attempt.state for attempt in attempts.of_run(conn, run_id)] == ["succeeded", "running"]


def test_same_try_twice_is_refused(ledger: Ledger, new_run: runs.NewRun) -> None:
    """One try at a node has one row, whoever else records it."""
    run_id = start_run(ledger, new_run)
    new = attempts.NewAttempt(run_id=run_id, node="fit", number=1, token=1)
    with ledger.write() as conn:
        attempts.start(conn, new)
    with pytest.raises(StoreError, match="conflicts"), ledger.write() as conn:
        attempts.start(conn, new)


def test_results_are_found_by_key_and_by_what_ran_last(ledger: Ledger) -> None:
    """A plan compares with the result of the newest run that made or reused one, whatever the clock says."""
    old, new = (
        results.NewResult(key=key, pipeline="movies", node="fit", outputs={"model": FRAME}, explanation={"code": key})
        for key in ("old", "new")
    )
    with ledger.write() as conn:
        results.put(conn, [old], run_id=1)
        results.put(conn, [new], run_id=2)
        found = results.get(conn, ["old", "new", "none"])
        assert found.keys() == {"old", "new"}
        assert found["old"].outputs == {"model": FRAME}
        latest = results.newest(conn, "movies", "fit")
        assert latest is not None
        assert latest.explanation == {"code": "new"}
        results.touch(conn, ["old"], run_id=3)
        results.touch(conn, ["old"], run_id=1)
        latest = results.newest(conn, "movies", "fit")
        assert latest is not None
        assert (latest.key, latest.last_run_id) == ("old", 3)
        assert results.get(conn, []) == {}


def test_results_with_a_damaged_artifact_are_dropped(ledger: Ledger) -> None:
    """Fault 11: what held the artifact is forgotten, so that it runs again; the rest stays."""
    other = Artifact(digest="d11", codec="json", type="int", size_bytes=1)
    with ledger.write() as conn:
        for key, artifact in (("a", FRAME), ("b", other)):
            new = results.NewResult(key=key, pipeline="movies", node=key, outputs={"o": artifact})
            results.put(conn, [new], run_id=1)
        assert results.drop_holding(conn, "d1") == ["a"]
        assert results.drop(conn, ["a", "b"]) == 1


def test_artifact_keeps_its_first_maker(ledger: Ledger) -> None:
    """The same bytes are kept once, with who made them first."""
    with ledger.write() as conn:
        artifacts.put(conn, [FRAME], made_by="r1/fit")
        artifacts.put(conn, [FRAME, FRAME], made_by="r2/fit")
        kept = artifacts.get(conn, "d1")
        assert (kept.artifact, kept.made_by) == (FRAME, "r1/fit")
        assert artifacts.digests(conn) == {"d1"}
        with pytest.raises(NotFoundError, match="no artifact 'd2'"):
            artifacts.get(conn, "d2")


def version(number: int, digest: str) -> DatasetVersion:
    return DatasetVersion(
        pipeline="movies",
        dataset="ratings",
        version=number,
        digest=digest,
        table="movies/ratings",
        delta_version=number,
        rows=10,
        rows_added=10,
        schema=(("a", "Int64"),),
        taken_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_dataset_versions_are_kept_once(ledger: Ledger) -> None:
    """The same version again changes nothing; other rows under the same number are refused."""
    with ledger.write() as conn:
        for number in (1, 2, 2):
            datasets.put(conn, version(number, f"d{number}"), run_id=None)
        assert datasets.newest(conn, "movies", "ratings") == version(2, "d2")
        assert datasets.versions(conn, "movies", "ratings") == [version(1, "d1"), version(2, "d2")]
        with pytest.raises(NotFoundError, match=r"'ratings@7'.*latest is 'ratings@2'"):
            datasets.get(conn, "movies", "ratings", 7)
        with pytest.raises(StoreError, match="kept with digest 'd2'"):
            datasets.put(conn, version(2, "other"), run_id=None)


NUMBERS = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 0.0]


def test_metrics_come_back_exactly(ledger: Ledger, new_run: runs.NewRun) -> None:
    """Fault 25: NaN, infinities, denormals and negative zero are stored and returned as they are."""
    run_id = start_run(ledger, new_run)
    metrics = [
        checks.Metric(
            node="quality", model="m", metric=str(n), interval=Interval(mean=number, low=number, high=number, n=2**40)
        )
        for n, number in enumerate(NUMBERS)
    ]
    sliced = checks.Metric(
        node="quality",
        model="m",
        metric="0",
        interval=Interval(mean=1, low=1, high=1, n=1),
        slice="g",
        value_of_slice=ODD,
    )
    with ledger.write() as conn:
        checks.put_metrics(conn, run_id, [*metrics, sliced, sliced])
    with ledger.read() as conn:
        found = checks.metrics_of_run(conn, run_id)
    assert sliced in found
    assert [repr(metric.interval) for metric in found if metric.slice == ""] == [repr(one.interval) for one in metrics]


def test_checks_keep_their_evidence(ledger: Ledger, new_run: runs.NewRun) -> None:
    """A check made again replaces what it found; failed ones are found by themselves."""
    run_id = start_run(ledger, new_run)
    good = CheckResult(name="on_scale", passed=True, message="fine", evidence={"max": 10**30})
    bad = CheckResult(name="on_scale", passed=False, message=ODD, built_in=True, evidence={"lift": math.inf})
    with ledger.write() as conn:
        checks.put(conn, run_id, [checks.RunCheck(subject="a", check=good), checks.RunCheck(subject="b", check=good)])
        checks.put(conn, run_id, [checks.RunCheck(subject="b", check=bad)])
        assert [one.check for one in checks.of_run(conn, run_id)] == [good, bad]
        assert [one.subject for one in checks.failed(conn, run_id)] == ["b"]


def test_release_is_one_per_hash(ledger: Ledger, new_run: runs.NewRun) -> None:
    """R1: versions count up per pipeline; the same hash again is the same release."""
    run_id = start_run(ledger, new_run)
    with ledger.write() as conn:
        made = [
            releases.create(conn, "movies", release_hash=one, manifest_digest=one, run_id=run_id)
            for one in ("a", "b", "a")
        ]
        assert [(one.version, one.is_new) for one in made] == [(1, True), (2, True), (1, False)]
        imported = releases.create(conn, "books", release_hash="a", manifest_digest="a", run_id=None)
        assert str(imported.ref) == "books@1"
        assert [str(one.ref) for one in releases.of_pipeline(conn, "movies")] == ["movies@2", "movies@1"]
        assert len(releases.of_pipeline(conn)) == 3
        assert releases.get(conn, ReleaseRef("movies", 2)).hash == "b"
        with pytest.raises(NotFoundError, match=r"'movies@9'.*latest is 'movies@2'"):
            releases.get(conn, ReleaseRef("movies", 9))


def test_release_of_a_failed_run_is_impossible(ledger: Ledger, new_run: runs.NewRun) -> None:
    """A run with a failed check, or one that did not succeed, cannot make a release."""
    run_id = start_run(ledger, new_run)
    bad = CheckResult(name="better", passed=False, message="worse")
    with ledger.write() as conn:
        checks.put(conn, run_id, [checks.RunCheck(subject="m", check=bad)])
    with pytest.raises(CheckError, match="'better'"), ledger.write() as conn:
        releases.create(conn, "movies", release_hash="a", manifest_digest="a", run_id=run_id)
    other = start_run(ledger, new_run)
    with ledger.write() as conn:
        runs.finish(conn, other, RunState.FAILED)
    with pytest.raises(CheckError, match="'failed'"), ledger.write() as conn:
        releases.create(conn, "movies", release_hash="a", manifest_digest="a", run_id=other)


def test_endpoint_says_which_release_is_live(ledger: Ledger) -> None:
    """An endpoint serves the release it was set to last, and who set it is on the record."""
    with ledger.write() as conn:
        assert releases.live(conn, "movies") is None
        for one in ("a", "b"):
            made = releases.create(conn, "movies", release_hash=one, manifest_digest=one, run_id=None)
            releases.set_endpoint(conn, "movies", made.ref, by="ann")
        live = releases.live(conn, "movies")
        assert live is not None
        assert live.hash == "b"
        [event, _] = events.page(conn, target="movies")
        assert (event.actor, event.details) == ("ann", {"before": "movies@1", "after": "movies@2"})
        with pytest.raises(NotFoundError, match="movies@3"):
            releases.set_endpoint(conn, "movies", ReleaseRef("movies", 3), by="ann")


TAMPERINGS = {
    "changed": ("UPDATE events SET actor = 'eve' WHERE id = 2", "Event 2 is not as it was recorded"),
    "removed": ("DELETE FROM events WHERE id = 2", "Event 3 does not follow event 1"),
    "cut": ("DELETE FROM events WHERE id = 3", "event 3 was the last recorded"),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_event_chain_shows_tampering(ledger: Ledger, tampering: str) -> None:
    """A changed, removed or cut-off event is found; an untouched chain is whole."""
    with ledger.write() as conn:
        for n in range(3):
            events.append(conn, actor="ann", action="release.created", target=f"movies@{n}", details={"x": math.nan})
    with ledger.read() as conn:
        assert events.verify(conn) == []
        [newest] = events.page(conn, limit=1)
        [older] = events.page(conn, before=newest.id, limit=1)
        assert newest.previous == older.hash
    statement, expected = TAMPERINGS[tampering]
    with ledger.write() as conn:
        conn.exec_driver_sql(statement)
    with ledger.read() as conn:
        assert any(expected in sentence for sentence in events.verify(conn))


def test_a_transaction_is_all_or_nothing(ledger: Ledger, new_run: runs.NewRun) -> None:
    """What was written before an error in the same transaction is gone with it."""

    def fail_half_way() -> None:
        with ledger.write(durable=False) as conn:
            runs.create(conn, new_run)
            raise ZeroDivisionError("zero")

    with pytest.raises(ZeroDivisionError, match="zero"):
        fail_half_way()
    with ledger.read() as conn:
        assert runs.page(conn) == []


def test_reader_sees_one_moment(ledger: Ledger, new_run: runs.NewRun) -> None:
    """A reading transaction does not see what is committed while it is open."""
    with ledger.read() as reading:
        assert runs.page(reading) == []
        start_run(ledger, new_run)
        assert runs.page(reading) == []


def test_evidence_is_appended_and_read_newest_first(ledger: Ledger) -> None:
    """What was measured of a release is kept as it was, of one kind and subject, and nothing replaces it."""
    measured: list[tuple[str, evidence.Kind, bool | None]] = [
        ("movies@1", "load", None),
        ("movies@2", "load", True),
        ("movies@2", "drill", False),
    ]
    found = [
        evidence.NewEvidence(
            pipeline="movies", subject=subject, kind=kind, by=ODD, passed=passed, figures={"p99": 4.5, "text": ODD}
        )
        for subject, kind, passed in measured
    ]
    with ledger.write() as conn:
        kept = [evidence.add(conn, one) for one in found]
    with ledger.read() as conn:
        assert evidence.of_kind(conn, "movies", "load") == [kept[1], kept[0]]
        assert evidence.of_kind(conn, "movies", "load", most=1) == [kept[1]]
        assert evidence.newest(conn, "movies", "load", "movies@1") == kept[0]
        assert evidence.newest(conn, "movies", "drill", "movies@2") == kept[2]
        assert evidence.newest(conn, "movies", "replay", "movies@2") is None


def test_consumers_are_kept_with_the_hash_of_their_key_alone(ledger: Ledger) -> None:
    """Q58: registered once by name, rotated, revoked and registered anew; each is an event, and no secret is kept."""
    new = consumers.NewConsumer(
        pipeline="movies",
        name="website",
        quota=consumers.Quota(rate_per_s=50.0, burst=100.0),
        promise=consumers.Promise(ms=50.0),
        contract=consumers.Contract(function="recommend", fields=("user_id", "k")),
    )
    first, second, third = (Token("serve", digit * 12, digit * 64) for digit in "123")
    with ledger.write() as conn:
        made = consumers.add(conn, new, first, by=ODD)
    with pytest.raises(InputError, match="registered already"), ledger.write() as conn:
        consumers.add(conn, new, second, by="ada")
    with ledger.write() as conn:
        rotated = consumers.rotate(conn, "movies", "website", second, by="ada")
        consumers.revoke(conn, "movies", "website", by="ada")
        consumers.revoke(conn, "movies", "website", by="ada")
    assert (made.contract, made.quota, made.made_by) == (new.contract, new.quota, ODD)
    assert rotated == msgspec.structs.replace(made, key_id=second.id, key_hash=second.hash)
    with pytest.raises(InputError, match="was revoked"), ledger.write() as conn:
        consumers.rotate(conn, "movies", "website", third, by="ada")
    with ledger.read() as conn:
        assert consumers.active(conn, "movies") == []
        assert [one.name for one in consumers.of_pipeline(conn)] == ["website"]
    with ledger.write() as conn:
        again = consumers.add(conn, new, third, by="ada")
    with ledger.read() as conn:
        assert consumers.active(conn, "movies") == [again]
        told = [event.action for event in events.page(conn, target="movies/website")]
    assert told == ["consumer.added", "consumer.revoked", "consumer.rotated", "consumer.added"]
    with pytest.raises(NotFoundError, match="no consumer 'app'"), ledger.read() as conn:
        consumers.get(conn, "movies", "app")
