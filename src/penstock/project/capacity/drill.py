"""The drill: what a release does when things go wrong, on a server apart, with traffic like that of production.

Each part states what is expected and finds out; what is expected are the promises of the platform and of the pipeline.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import polars as pl

from penstock.core.errors import PenstockError
from penstock.core.process import is_running
from penstock.core.records import Record
from penstock.project.capacity.apart import ServerApart
from penstock.project.capacity.hostile import hostile_requests, send
from penstock.project.capacity.measure import Bench, LoadOptions, bench, patience_of
from penstock.project.capacity.promises import said as promise_said
from penstock.project.capacity.records import PARTS, Drill, Expectation, Part
from penstock.project.capacity.traffic import traffic_of
from penstock.project.serving import routes_of
from penstock.project.workspace import Workspace, read_manifest
from penstock.serving.load.outcomes import BROKEN, UNANSWERED, Outcomes, Phase
from penstock.serving.load.promise import Promise, share_bounds
from penstock.serving.predictions.records import LOAD_CONSUMER
from penstock.store.ledger.releases import Release

_BURST = 10
# Of what the server can do at all, where there is no traffic to learn from; and never more than this.
_SHARE, _MOST_SHARE = 0.25, 0.5
_REPLACED_S = 30.0
_BREAKING_S, _LOOK_S = 0.1, 0.005
_SLOW_MS = 300
_JUMP_AT = 50
_HOSTILE_S = 60.0
# An answer is later than its deadline when it took this many times as long: threads do not stop on the dot.
_LATE = 2.0


class DrillOptions(Record, frozen=True, kw_only=True):
    """How a release is drilled.

    Attributes:
        workers: Processes that answer; two at least, so that one may die.
        seconds: How long each stretch of load lasts.
        rate_per_s: The steady rate; that of the busiest minute when None, or a share of what the server can do.
        function: Only this serve function.
        parts: Only these parts; a drill that passes has them all.
    """

    promise: Promise
    workers: int = 2
    seconds: float = 5.0
    rate_per_s: float | None = None
    function: str | None = None
    parts: tuple[str, ...] = PARTS

    @property
    def load(self) -> LoadOptions:
        """The same for a bench."""
        return LoadOptions(promise=self.promise, workers=self.workers, function=self.function)


def drill(release: Release, workspace: Workspace, options: DrillOptions, tell: Callable[[str], None]) -> Drill:
    """Put a release through a drill. Broken off (Ctrl-C), the parts that were done are returned.

    Args:
        release: Which.
        workspace: The project.
        options: How.
        tell: Hears what is done now.

    Raises:
        InputError: The requests are refused.
        PenstockError: The release cannot be served.
    """
    parts: list[Part] = []
    rate = [options.rate_per_s or 0.0]
    is_whole = True
    try:
        for part in _parts(release, workspace, options, rate=rate, tell=tell):
            parts.append(part)
            tell(f"{part.name}: {'passed' if part.passed else 'FAILED'}")
    except KeyboardInterrupt:
        is_whole = False
    return Drill(
        release=str(release.ref),
        at=workspace.clock.now(),
        promise=options.promise,
        workers=options.workers,
        rate_per_s=rate[0],
        parts=tuple(parts),
        is_whole=is_whole,
    )


def _parts(
    release: Release, workspace: Workspace, options: DrillOptions, *, rate: list[float], tell: Callable[[str], None]
) -> Iterator[Part]:
    tell(f"starting a server of {release.ref}")
    deadlines = _deadlines(release, workspace)
    with bench(release, workspace, options.load) as found:
        if not rate[0]:
            tell("asking without a pause, to know what it can do")
            rate[0] = _steady(found, release, workspace)
        ids: set[str] = set()
        yield from _done(
            options,
            tell,
            {
                "shape": lambda: _shape(found, options, rate[0], ids=ids, deadlines=deadlines),
                "bad requests": lambda: _bad(found, release, workspace, options),
                "kill": lambda: _kill(found, options, rate[0], ids),
            },
        )
    slow, clock = _slow(workspace, release), _clock()
    yield from _done(
        options,
        tell,
        {
            "slow store": lambda: _under(slow, release, workspace, options, rate=rate[0]),
            "clock": lambda: _under(clock, release, workspace, options, rate=rate[0]),
        },
    )


def _done(
    options: DrillOptions, tell: Callable[[str], None], parts: Mapping[str, Callable[[], Part]]
) -> Iterator[Part]:
    for name, do in parts.items():
        if name in options.parts:
            tell(f"{name} ...")
            yield _guarded(name, do)


def _guarded(name: str, do: Callable[[], Part]) -> Part:
    """Do a part; a server that ends in the middle of it has failed it."""
    try:
        return do()
    except PenstockError as error:
        ended = Expectation(expected="the server goes on", found=error.message, passed=False)
        return Part(name=name, did="It could not be done to its end.", expectations=(ended,))


def _steady(found: Bench, release: Release, workspace: Workspace) -> float:
    _, able = found.first_look()
    traffic = traffic_of(release.pipeline, workspace)
    wanted = _SHARE * able if traffic is None else traffic.busiest_per_s
    return max(1.0, min(wanted, _MOST_SHARE * able))


def _shape(found: Bench, options: DrillOptions, rate: float, *, ids: set[str], deadlines: Mapping[str, float]) -> Part:
    seconds, burst_s = options.seconds, min(2.0, options.seconds)
    asked = found.ask(Phase(rate, seconds), Phase(_BURST * rate, burst_s), Phase(rate, 2 * seconds), keeps_ids=True)
    ids |= set(asked.ids)
    end_s = seconds + burst_s
    steady, burst, after = (
        asked.between(0, seconds),
        asked.between(seconds, end_s),
        asked.between(end_s + seconds, math.inf),
    )
    return Part(
        name="shape",
        did=f"{rate:,.4g} requests a second, {_BURST} times as many for {burst_s:g} s, then as before",
        expectations=(
            _keeps(steady, options.promise, "before the burst"),
            _marked(burst, options.promise),
            *_by_deadline(found.server, deadlines, options.promise),
            _no_errors(asked),
            _keeps(after, options.promise, f"{seconds:g} s after the burst"),
        ),
    )


def _kill(found: Bench, options: DrillOptions, rate: float, ids: set[str]) -> Part:
    seconds, server = options.seconds, found.server
    server.wait_for_workers(options.workers, timeout_s=_REPLACED_S)
    victim = server.worker_pids()[0]
    times: list[float | None] = []

    def kill() -> None:
        times.append(time.perf_counter())
        os.kill(victim, signal.SIGKILL)
        times.append(_gone(victim))
        times.append(server.wait_for_workers(options.workers, without=victim, timeout_s=_REPLACED_S))

    timer = threading.Timer(seconds / 2, kill)
    timer.start()
    try:
        asked = found.ask(Phase(rate, 2 * seconds), keeps_ids=True)
    finally:
        timer.join()
    ids |= set(asked.ids)
    server.stop()
    killed_s, gone_s = ((at_s or 0.0) - asked.began_s for at_s in times[:2])
    replaced_s = None if times[2] is None else times[2] - asked.began_s - killed_s
    return Part(
        name="kill",
        did="One worker was killed under load (SIGKILL).",
        expectations=(*_after_kill(asked, (killed_s, gone_s), options), _replaced(replaced_s), _in_log(server, ids)),
    )


def _gone(pid: int) -> float:
    """Return the monotonic time at which a killed process was gone; on a busy machine that takes a moment."""
    end_s = time.perf_counter() + _REPLACED_S
    while is_running(pid) and time.perf_counter() < end_s:
        time.sleep(_LOOK_S)
    return time.perf_counter()


def _after_kill(
    asked: Outcomes, death_s: tuple[float, float], options: DrillOptions
) -> tuple[Expectation, Expectation]:
    killed_s, gone_s = death_s
    # A request that leaves while the connection breaks is under way as well: its caller cannot know.
    under_way = (asked.left <= gone_s + _BREAKING_S) & ~(asked.done < killed_s)
    broken = asked.status == BROKEN
    elsewhere = int((broken & ~under_way).sum())
    after = asked.between(gone_s + _BREAKING_S, math.inf)
    count = int(after.is_answered.sum())
    fails = Expectation(
        expected="only requests that were under way when the worker died fail",
        found=f"{int(broken.sum())} failed of {len(asked.due):,}; {elsewhere} of them were not under way",
        passed=elsewhere == 0,
    )
    low, _ = share_bounds(~after.is_answered, after.due)
    answered = Expectation(
        expected="the others answer what comes after",
        found=f"{count:,} of {len(after.due):,} were answered",
        passed=low <= options.promise.failed,
    )
    return fails, answered


def _replaced(seconds: float | None) -> Expectation:
    return Expectation(
        expected=f"it is replaced within {_REPLACED_S:g} s",
        found="it was not" if seconds is None else f"after {seconds:.2f} s",
        passed=seconds is not None,
    )


def _in_log(server: ServerApart, ids: set[str]) -> Expectation:
    """Expect that nothing that was answered is missing in the log of a server that has stopped."""
    lost = ids - server.kept_ids()
    return Expectation(
        expected="each answer is in the prediction log",
        found=f"{len(ids) - len(lost):,} of {len(ids):,} are",
        passed=not lost and bool(ids),
    )


def _bad(found: Bench, release: Release, workspace: Workspace, options: DrillOptions) -> Part:
    before = found.server.worker_pids()
    received = []
    for route in routes_of(release, workspace):
        if options.function in {None, route.function}:
            requests = hostile_requests(route.fields)
            url = f"{found.server.url}{route.path}"
            received += send(url, requests, consumer=LOAD_CONSUMER, timeout_s=_HOSTILE_S)
    wrong = [f"{one.name}: {one.status or 'no answer'}" for one in received if not one.is_well]
    after = found.server.worker_pids()
    refused = Expectation(
        expected="each is refused with 4xx or, where it may be right, answered: never 5xx",
        found=f"{len(received) - len(wrong)} of {len(received)} were"
        + (f"; not {'; '.join(wrong[:5])}" if wrong else ""),
        passed=not wrong,
    )
    died = len(set(before) - set(after))
    alive = Expectation(expected="no worker dies of one", found=f"{died} died", passed=not died)
    return Part(name="bad requests", did=f"{len(received)} hostile requests.", expectations=(refused, alive))


class _Fault(Record, frozen=True, kw_only=True):
    name: str
    did: str
    points: tuple[str, ...]
    keeps_promise: bool = True


def _slow(workspace: Workspace, release: Release) -> _Fault:
    # Where each answer waits for the disk, a slow disk breaks the promise, and that was chosen.
    waits = read_manifest(release.manifest_digest, workspace).policy.serve.durability == "request"
    did = f"Each sync of the prediction log to the disk took {_SLOW_MS} ms."
    point = f"prediction_before_sync:slow:{_SLOW_MS}"
    return _Fault(name="slow store", did=did, points=(point,), keeps_promise=not waits)


def _clock() -> _Fault:
    points = (f"clock:ahead:{_JUMP_AT}", f"clock:back:{_JUMP_AT}")
    did = "The clock of the server's processes jumped ahead by a day and, on another server, back by an hour."
    return _Fault(name="clock", did=did, points=points)


def _under(fault: _Fault, release: Release, workspace: Workspace, options: DrillOptions, *, rate: float) -> Part:
    """Ask servers that meet a fault: answers come as promised, and each is in the log when the server has stopped."""
    expectations: list[Expectation] = []
    for point in fault.points:
        with bench(release, workspace, options.load, fault=point) as found:
            asked = found.ask(Phase(rate, 2 * options.seconds), keeps_ids=True)
            found.server.stop()
            kept = _in_log(found.server, set(asked.ids))
        if fault.keeps_promise:
            expectations.append(_keeps(asked, options.promise, "meanwhile"))
        expectations += [_no_errors(asked), kept]
    return Part(name=fault.name, did=fault.did, expectations=tuple(expectations))


def _keeps(found: Outcomes, promise: Promise, when: str) -> Expectation:
    """Expect that the promise is not surely broken: a stretch of a drill is short."""
    late = ~found.is_answered | found.is_fallback | (found.latency_s > promise.within_s)
    low, _ = share_bounds(late, found.due)
    return Expectation(
        expected=f"{promise_said(promise)}, {when}",
        found=f"{int(late.sum()):,} of {len(found.due):,} were late or failed",
        passed=low <= max(1 - promise.quantile, promise.failed),
    )


def _marked(found: Outcomes, promise: Promise) -> Expectation:
    """Expect that under too much load an answer is in time, or says that it is none: fallback, or come again later."""
    patience_s = patience_of(promise)
    plain = found.is_answered & ~found.is_fallback
    late = (plain & (found.latency_s > patience_s)) | (found.status == UNANSWERED)
    low, _ = share_bounds(late, found.due)
    fallbacks, again = int(found.is_fallback.sum()), int(((found.status == 503) & (found.marks > 0)).sum())
    return Expectation(
        expected=f"in the burst nothing is late in silence: answered within {patience_s:g} s, by the fallback, or 503",
        found=f"{int(late.sum()):,} of {len(found.due):,} were; {fallbacks:,} by the fallback, {again:,} with 503",
        passed=low <= promise.failed,
    )


def _deadlines(release: Release, workspace: Workspace) -> dict[str, float]:
    """Return the deadline of each serve function that has one, in microseconds."""
    nodes = read_manifest(release.manifest_digest, workspace).graph.nodes
    return {
        serve: 1000 * float(node.options["deadline_ms"])
        for node in nodes
        if node.role == "fallback" and node.options.get("deadline_ms")
        for serve in node.options.get("serves", ())
    }


def _by_deadline(server: ServerApart, deadlines: Mapping[str, float], promise: Promise) -> Iterator[Expectation]:
    """Expect that what a function with a deadline does not say in time its fallback says, or a 503."""
    if not deadlines:
        return
    rows = server.kept().filter(pl.col("serve").is_in(list(deadlines))).collect()
    took_us = rows["timings"].str.json_path_match("$.answer_us").cast(pl.Float64)
    allowed_us = _LATE * rows["serve"].replace_strict(deadlines, return_dtype=pl.Float64)
    late = (rows["error"].is_null() & (took_us > allowed_us)).fill_null(value=False).to_numpy()
    low, _ = share_bounds(late, np.arange(len(late), dtype=float))
    fallbacks = int(rows["fallback"].sum())
    yield Expectation(
        expected="what comes later than the deadline comes from the fallback, or is refused",
        found=f"{int(late.sum()):,} of {len(late):,} were later and did not; {fallbacks:,} came from the fallback",
        passed=low <= promise.failed,
    )


def _no_errors(found: Outcomes) -> Expectation:
    errors = int(np.isin(found.status, (BROKEN, 500, 502, 504)).sum())
    silent = int(((found.status == 503) & (found.marks == 0)).sum())
    return Expectation(
        expected="no error but 503 with Retry-After, and no broken connection",
        found=f"{errors} errors and {silent} refusals without Retry-After among {len(found.due):,}",
        passed=not errors and not silent,
    )
