"""A model of a server under load: how long callers wait when so many ask a second.

M/G/k: Poisson arrivals, any service times. The mean wait is Allen and Cunneen's approximation (Allen, 1990,
Probability, Statistics and Queueing Theory, 2nd ed., 5.3.6), which for one server is exact (Pollaczek-Khinchine); who
has to wait does so for a time that is near exponential (Kingman, 1962, heavy traffic).
"""

import math

import numpy as np
import numpy.typing as npt

from penstock.core.records import Record

_EXACT = 60  # halvings of an interval: more than a float can tell apart


class ServiceTime(Record, frozen=True, kw_only=True):
    """What one worker needs for a request.

    Attributes:
        quantiles_s: Of the time in which it can do nothing else, evenly spaced, the smallest first.
        servers: Requests that one worker works on at once; 1 where it computes in Python.
        overhead_s: Further time that a caller waits and that takes nothing from other callers.
        cpu_s: Processor time.
    """

    quantiles_s: tuple[float, ...]
    servers: int = 1
    overhead_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def mean_s(self) -> float:
        """Its mean."""
        return float(np.mean(self.quantiles_s))

    @property
    def variability(self) -> float:
        """Variance over the square of the mean: 0 where all take the same, 1 for exponential times."""
        values = np.array(self.quantiles_s)
        return float(values.var() / values.mean() ** 2)


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that a caller has to wait (Erlang, 1917), by the stable recursion of Erlang B.

    Args:
        servers: How many there are.
        load: Arrivals per second times mean service time; below `servers`, or everybody waits.
    """
    if load >= servers:
        return 1.0
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mean_wait_s(rate_per_s: float, service: ServiceTime) -> float:
    """Return the mean wait at one worker before it begins with a request, infinite where they pile up."""
    load = rate_per_s * service.mean_s
    if load >= service.servers:
        return math.inf
    exponential = erlang_c(service.servers, load) * service.mean_s / (service.servers - load)
    return exponential * (1 + service.variability) / 2


def response_quantile_s(rate_per_s: float, service: ServiceTime, share: float) -> float:
    """Return in what time a share of the callers of one worker has its answer, infinite where requests pile up.

    Args:
        rate_per_s: Requests per second at this worker.
        service: What it needs for one.
        share: 0 to 1, as 0.99.
    """
    load = rate_per_s * service.mean_s
    if load >= service.servers:
        return math.inf
    values = np.array(service.quantiles_s)
    waits = erlang_c(service.servers, load)
    wait_s = mean_wait_s(rate_per_s, service) / waits if waits else 0.0
    low, high = 0.0, float(values.max()) + wait_s * (5 - math.log(max(1 - share, 1e-12)))
    for _ in range(_EXACT):
        middle = (low + high) / 2
        if _slower_than(middle, values, waits, wait_s) > 1 - share:
            low = middle
        else:
            high = middle
    return high + service.overhead_s


def _slower_than(time_s: float, values: npt.NDArray[np.float64], waits: float, wait_s: float) -> float:
    """Return the share whose wait and service together take longer."""
    rest = time_s - values
    tail = waits * np.exp(-np.maximum(rest, 0.0) / wait_s) if wait_s > 0 else np.zeros_like(rest)
    return float(np.where(rest < 0, 1.0, tail).mean())


def highest_rate_per_s(service: ServiceTime, within_s: float, share: float) -> float:
    """Return the highest rate at which one worker answers a share of its callers in time; 0 where it cannot at all."""
    if response_quantile_s(0.0, service, share) > within_s:
        return 0.0
    low, high = 0.0, service.servers / service.mean_s
    for _ in range(_EXACT):
        middle = (low + high) / 2
        if response_quantile_s(middle, service, share) <= within_s:
            low = middle
        else:
            high = middle
    return low


def fitted(alone_s: npt.NDArray[np.float64], together_per_s: float, cpu_s: float, workers: int) -> ServiceTime:
    """Return what one worker needs for a request, from two short measurements.

    Args:
        alone_s: Latencies of requests that met nobody else.
        together_per_s: Answers per second of all workers when callers ask without a pause.
        cpu_s: Processor time per request when they do.
        workers: How many there are.
    """
    per_worker = together_per_s / workers
    alone = float(np.median(alone_s))
    # Busy with computing most of the time: one after the other. Else it waits for something, for several at once.
    is_computing = cpu_s * per_worker > _COMPUTING
    servers = 1 if is_computing else max(1, round(per_worker * alone))
    mean_s = servers / per_worker
    overhead_s = max(0.0, alone - mean_s)
    # A few requests that a neighbour on the machine held up say nothing about the release.
    trimmed = np.minimum(alone_s, np.quantile(alone_s, _USUAL))
    shape = np.quantile(trimmed, np.linspace(0.005, 0.995, 100)) - overhead_s
    shape = np.maximum(shape, 0.1 * mean_s)
    return ServiceTime(
        quantiles_s=tuple(float(value) for value in shape * (mean_s / shape.mean())),
        servers=servers,
        overhead_s=overhead_s,
        cpu_s=cpu_s,
    )


_COMPUTING, _USUAL = 0.5, 0.99
