"""The model of a queue against a queue that is simulated request by request."""

import heapq

import numpy as np
import numpy.typing as npt
import pytest

from penstock.serving.load.queueing import (
    ServiceTime,
    erlang_c,
    fitted,
    highest_rate_per_s,
    mean_wait_s,
    response_quantile_s,
)

COUNT = 150_000
MEAN_S = 0.01


def services(shape: str, noise: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    match shape:
        case "constant":
            return np.full(count, MEAN_S)
        case "exponential":
            return noise.exponential(MEAN_S, count)
        case _:
            sigma = 0.8
            return noise.lognormal(np.log(MEAN_S) - sigma**2 / 2, sigma, count)


def simulate(
    rate: float, servers: int, took: npt.NDArray[np.float64], noise: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return how long each caller waited until it was answered; first come, first served."""
    arrivals = noise.exponential(1 / rate, len(took)).cumsum()
    free = [0.0] * servers
    found = np.empty(len(took))
    for number, (at, needs) in enumerate(zip(arrivals.tolist(), took.tolist(), strict=True)):
        done = max(at, heapq.heappop(free)) + needs
        heapq.heappush(free, done)
        found[number] = done - at
    return found[len(found) // 10 :]


def service_of(took: npt.NDArray[np.float64], servers: int = 1) -> ServiceTime:
    return ServiceTime(quantiles_s=tuple(np.quantile(took, np.linspace(0.0005, 0.9995, 1000))), servers=servers)


@pytest.mark.parametrize("shape", ["constant", "exponential", "varied"])
@pytest.mark.parametrize(("servers", "filled"), [(1, 0.3), (1, 0.6), (1, 0.85), (3, 0.7)])
def test_the_model_predicts_a_simulated_queue(shape: str, servers: int, filled: float) -> None:
    """N6, L4: mean wait and p99 of the model are within a fifth of a queue that is played through."""
    noise = np.random.default_rng(7)
    took = services(shape, noise, COUNT)
    rate = filled * servers / MEAN_S
    played = simulate(rate, servers, took, noise)
    service = service_of(took, servers)
    p99_s = response_quantile_s(rate, service, 0.99)
    assert p99_s == pytest.approx(np.quantile(played, 0.99), rel=0.2)
    if servers == 1:  # where the formula is exact, so is the mean
        assert mean_wait_s(rate, service) == pytest.approx(played.mean() - took.mean(), rel=0.12)


def test_erlangs_formula_gives_the_known_values() -> None:
    """N6: one server is busy as often as it is full; the tables of Erlang C for more; nobody is spared beyond."""
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(10, 8.0) == pytest.approx(0.4092, abs=1e-3)
    assert erlang_c(3, 3.5) == 1.0


def test_the_highest_rate_keeps_the_promise_and_a_higher_one_does_not() -> None:
    """Q59: what is planned for is the edge; a service longer than the promise has no such rate."""
    service = service_of(services("varied", np.random.default_rng(1), COUNT))
    rate = highest_rate_per_s(service, 0.1, 0.99)
    assert 0 < rate < 1 / MEAN_S
    assert response_quantile_s(rate, service, 0.99) <= 0.1
    assert response_quantile_s(rate * 1.01, service, 0.99) > 0.1
    assert highest_rate_per_s(service, 0.001, 0.99) == 0.0


def test_a_fit_knows_computing_from_waiting() -> None:
    """L4: a worker that computes does one thing at a time; one that waits for something does several."""
    alone = np.full(100, 0.02)
    computing = fitted(alone, 100.0, 0.0095, workers=2)
    assert computing.servers == 1
    assert computing.mean_s == pytest.approx(0.02)
    waiting = fitted(alone, 400.0, 0.0005, workers=2)
    assert waiting.servers == 4
    assert waiting.mean_s == pytest.approx(0.02)
    quick = fitted(np.full(100, 0.001), 5000.0, 0.0002, workers=1)
    assert quick.mean_s == pytest.approx(0.0002)
    assert quick.overhead_s == pytest.approx(0.0008)
