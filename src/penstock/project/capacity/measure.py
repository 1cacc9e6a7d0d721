"""A load test: a server apart, a first look, a ramp to the knee, and what that means for the traffic there is."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import numpy as np

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.project.capacity.apart import ServerApart, served_apart, server_at
from penstock.project.capacity.records import Load, needs_of
from penstock.project.capacity.requests import Requests, refuse_wrong, requests_of
from penstock.project.capacity.traffic import forecast, traffic_of
from penstock.project.workspace import Workspace
from penstock.serving.load.generator import Generators
from penstock.serving.load.knee import Ramp, knee_of, next_rate
from penstock.serving.load.outcomes import LoadOrder, Outcomes, Phase
from penstock.serving.load.promise import Promise, Step, judge
from penstock.serving.load.queueing import ServiceTime, fitted, highest_rate_per_s
from penstock.store.ledger.releases import Release

_ALONE_S, _TOGETHER_S, _SETTLE_S = 1.0, 1.5, 0.3
_FEWEST_ALONE, _MOST_ALONE_S = 30, 10.0
_TOGETHER = 8
# A rate is held for this many times the promise: what is too much grows into lateness only with time.
_LONG = 15
_WARM_SHARE, _WARM_MOST_S = 0.1, 1.0
_CONNECTIONS = (64, 1024)


class LoadOptions(Record, frozen=True, kw_only=True):
    """How a release is loaded.

    Attributes:
        workers: Processes that answer.
        generators: Processes that ask.
        step_s: How long each rate is held at least; longer where it takes longer to be sure, or the promise is long.
        longest_s: How long one is held at most.
        budget_s: No rate is tried any more after this.
        most_per_s: No rate above this is tried.
        target_per_s: A rate that somebody wants to be answered.
        function: Only this serve function.
        url: A server on this machine that somebody started; None starts one apart.
    """

    promise: Promise
    workers: int = 1
    generators: int = 1
    step_s: float = 4.0
    longest_s: float = 60.0
    budget_s: float = 240.0
    most_per_s: float | None = None
    target_per_s: float | None = None
    function: str | None = None
    url: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """How far a load test has got: what is done now, and what was tried so far."""

    now: str
    steps: tuple[Step, ...] = ()


Tell = Callable[[Told], None]


class Bench:
    """A server and those who ask it.

    Args:
        server: The server.
        generators: Who asks.
        requests: What.
        promise: What callers may rely on.
        workers: Processes that answer.
        seed: Of the times at which requests are due.
    """

    def __init__(
        self, server: ServerApart, generators: Generators, requests: Requests, *, options: LoadOptions
    ) -> None:
        self.server = server
        self.options = options
        self._generators = generators
        self._encoded = requests.encoded(*server.address)
        self._requests = requests
        self._seed = options.seed

    def ask(self, *phases: Phase, gives_up: bool = False, keeps_ids: bool = False) -> Outcomes:
        """Ask at set rates, one after the other."""
        self._seed += 1
        most = max(phase.rate_per_s for phase in phases)
        low, high = _CONNECTIONS
        order = self._order(phases, min(high, max(low, int(2 * most * self.options.promise.within_s) + low)))
        return self._generators.ask(msgspec.structs.replace(order, gives_up=gives_up, keeps_ids=keeps_ids))

    def ask_again_and_again(self, connections: int, seconds: float) -> Outcomes:
        """Have callers ask again as soon as they are answered."""
        order = self._order((Phase(0.0, seconds),), connections)
        return self._generators.ask(msgspec.structs.replace(order, is_closed=True))

    def first_look(self) -> tuple[ServiceTime, float]:
        """Return the model of one worker, and how many answers a second all give to callers who never pause.

        Raises:
            InputError: The requests are refused.
        """
        alone = self.ask_again_and_again(1, _ALONE_S)
        refuse_wrong(self._requests, alone.status.tolist())
        latencies = [alone.latency_s[alone.is_answered]]
        end_s = time.monotonic() + _MOST_ALONE_S
        while sum(map(len, latencies)) < _FEWEST_ALONE and time.monotonic() < end_s:
            again = self.ask_again_and_again(1, _ALONE_S)
            latencies.append(again.latency_s[again.is_answered])
        times = np.concatenate(latencies)
        if not len(times):
            raise InputError(
                "None of the first requests was answered.", hint="ask it by hand: penstock predict, and see why"
            )
        workers = self.options.workers
        before_s = self.server.cpu_s()
        together = self.ask_again_and_again(_TOGETHER * workers, _TOGETHER_S)
        after_s = self.server.cpu_s()
        if float(together.is_fallback.mean()) > self.options.promise.failed:  # eight at once are late already
            together = self.ask_again_and_again(2 * workers, _TOGETHER_S)
        own = together.is_answered & ~together.is_fallback
        per_s = max(float(own.sum()) / max(together.wall_s, 1e-9), 1.0 / float(times.mean()))
        used_s = 0.0 if before_s is None or after_s is None else (after_s - before_s) / max(1, len(together.due))
        return fitted(times, per_s, used_s, workers), per_s

    def step(self, rate_per_s: float) -> Step:
        """Hold a rate and return what came of it, without its beginning: queues are empty then."""
        options = self.options
        needed_s = 1.15 * options.promise.needed / rate_per_s
        seconds = min(max(options.step_s, needed_s, _LONG * options.promise.within_s), options.longest_s)
        warm_s = min(_WARM_SHARE * seconds, _WARM_MOST_S)
        before_s = self.server.cpu_s()
        found = self.ask(Phase(rate_per_s, seconds + warm_s), gives_up=True)
        after_s = self.server.cpu_s()
        step = judge(found.between(warm_s, seconds + warm_s), options.promise, rate_per_s)
        if before_s is None or after_s is None or not len(found.due):
            return step
        asked = int((found.status > 0).sum())
        return msgspec.structs.replace(step, cpu_us=1e6 * (after_s - before_s) / max(1, asked))

    def settle(self) -> None:
        """Let what waits be answered after a rate that was too high."""
        self.ask_again_and_again(self.options.workers, _SETTLE_S)

    def _order(self, phases: tuple[Phase, ...], connections: int) -> LoadOrder:
        host, port = self.server.address
        return LoadOrder(
            host=host,
            port=port,
            requests=self._encoded,
            phases=phases,
            seed=self._seed,
            connections=connections,
            patience_s=patience_of(self.options.promise),
        )


def patience_of(promise: Promise) -> float:
    """Return how long a caller waits before it gives up."""
    return max(1.0, 4 * promise.within_s)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@contextmanager
def bench(release: Release, workspace: Workspace, options: LoadOptions, *, fault: str | None = None) -> Iterator[Bench]:
    """Serve a release apart, with who asks it, until the block ends.

    Raises:
        PenstockError: The release cannot be served, or has nothing to ask.
    """
    requests = requests_of(release, workspace, function=options.function)
    with Generators(options.generators) as generators:
        if options.url is not None:
            yield Bench(server_at(options.url, release), generators, requests, options=options)
            return
        with served_apart(release, workspace, workers=options.workers, fault=fault) as server:
            yield Bench(server, generators, requests, options=options)


def measure_load(release: Release, workspace: Workspace, options: LoadOptions, tell: Tell) -> Load:
    """Find the highest rate at which a release keeps its promise. Broken off (Ctrl-C), what was measured is returned.

    Args:
        release: Which.
        workspace: The project.
        options: How it is loaded.
        tell: Hears how far it has got.

    Raises:
        InputError: The requests are refused.
        PenstockError: The release cannot be served.
    """
    steps: list[Step] = []
    service: ServiceTime | None = None
    saturated: float | None = None
    is_whole = True
    requests = requests_of(release, workspace, function=options.function)
    try:
        tell(Told(f"starting a server of {release.ref}"))
        with bench(release, workspace, options) as found:
            tell(Told("asking one at a time, then without a pause"))
            service, saturated = found.first_look()
            _ramp(found, _ramp_of(service, saturated, options), steps, tell)
    except KeyboardInterrupt:
        is_whole = False
    asked = f"{len(requests.asked):,} {requests.source}"
    load = Load(
        release=str(release.ref),
        at=workspace.clock.now(),
        promise=options.promise,
        workers=options.workers,
        cores=cores(),
        asked=asked,
        steps=tuple(steps),
        knee=knee_of(steps),
        service=service,
        saturated_per_s=saturated,
        is_whole=is_whole,
    )
    return with_traffic(load, release, workspace, options.target_per_s)


def with_traffic(load: Load, release: Release, workspace: Workspace, target_per_s: float | None) -> Load:
    """Return a load test beside the traffic there is, and the rate that is wanted."""
    knee = load.knee.rate_per_s
    if knee is not None and target_per_s is not None:
        target = needs_of(target_per_s, knee_per_s=knee, workers=load.workers, cores=load.cores)
        load = msgspec.structs.replace(load, target=target)
    traffic = traffic_of(release.pipeline, workspace)
    if traffic is None:
        return load
    runs_out = None if knee is None else forecast(traffic.daily, traffic.peak_factor, knee)
    return msgspec.structs.replace(
        load, busiest_per_s=traffic.busiest_per_s, peak_factor=traffic.peak_factor, forecast=runs_out
    )


def _ramp_of(service: ServiceTime, saturated_per_s: float, options: LoadOptions) -> Ramp:
    promise = options.promise
    expected = options.workers * highest_rate_per_s(service, promise.within_s, promise.quantile)
    start = 0.5 * min(expected, saturated_per_s) if expected else 0.25 * saturated_per_s
    least, most = promise.needed / options.longest_s, options.most_per_s
    start = max(start, least)
    return Ramp(start_per_s=start if most is None else min(start, most), least_per_s=least, most_per_s=most)


def _ramp(found: Bench, ramp: Ramp, steps: list[Step], tell: Tell) -> None:
    end_s = time.monotonic() + found.options.budget_s
    while time.monotonic() < end_s and (rate := next_rate(steps, ramp)) is not None:
        tell(Told(f"asking {rate:,.4g} requests a second", tuple(steps)))
        step = found.step(rate)
        if step.verdict != "holds":
            found.settle()
        steps.append(step)
        tell(Told(f"asked {rate:,.4g} requests a second: {step.verdict}", tuple(steps)))
