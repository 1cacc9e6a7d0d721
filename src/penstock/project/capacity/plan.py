"""From five answers to a way of serving: mode, workers, how many rows at once, and what it costs, with the reasons."""

import math
import re
from collections.abc import Iterator
from typing import Literal, get_args

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.project.capacity.promises import said as promise_said
from penstock.project.capacity.records import FILL
from penstock.serving.load.promise import Promise
from penstock.serving.load.queueing import ServiceTime, highest_rate_per_s, response_quantile_s

Consumer = Literal["screen", "api", "file", "event", "in-app"]
Grain = Literal["one", "many"]
Mode = Literal["online", "batch", "stream", "in process"]
CONSUMERS: tuple[Consumer, ...] = get_args(Consumer)
GRAINS: tuple[Grain, ...] = get_args(Grain)

_RATE = re.compile(r"(?P<count>[0-9][0-9_,]*(?:\.[0-9]+)?(?:e[0-9]+)?)\s*/\s*(?P<unit>s|m|h|d)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
# From here on nobody waits for a single answer: rows can be gathered and answered together.
_PATIENT_S = 900.0
_MOST_ROWS = 4096
_MONTH_H = 730.0


class Answers(Record, frozen=True, kw_only=True):
    """What is asked before a release is served.

    Attributes:
        consumer: Who uses the answers: a screen, another program, a file, a stream of events, or the same program.
        rate_per_s: Answers a second at the busiest time, all applications together.
        grain: One row at a time, or many.
        applications: How many ask.
        promise: How soon an answer is needed.
    """

    consumer: Consumer
    rate_per_s: float
    grain: Grain
    applications: int
    promise: Promise


class CapacityPlan(Record, frozen=True, kw_only=True):
    """How to serve a release.

    Attributes:
        is_possible: False where no number of workers keeps the promise.
        workers: Processes; each is filled to `FILL` of what it can do at most.
        machines: Machines with as many cores as this one.
        batch_rows: Most rows to join into one call; None where that does not matter.
        filled: How full the workers are at that rate, 0 to 1.
        predicted_ms: In what time the share that was promised has its answer.
        highest_per_s: The rate up to which the workers keep the promise.
        cores_used: Processor time a second.
        cost_month: In the currency of policy; None where policy says no price.
        cost_per_1000: Of a thousand answers.
        reasons: In words, one per answer, then those of the figures.
        commands: What to type.
    """

    release: str
    answers: Answers
    mode: Mode
    is_possible: bool
    workers: int
    machines: int
    batch_rows: int | None
    filled: float
    predicted_ms: float | None
    highest_per_s: float
    cores_used: float
    cost_month: float | None
    cost_per_1000: float | None
    reasons: tuple[str, ...]
    commands: tuple[str, ...]


def parse_rate(text: str) -> float:
    """Return answers a second for "200/s", "12/m", "1,000,000/d".

    Raises:
        InputError: The text is no rate.
    """
    found = _RATE.fullmatch(text.strip())
    count = 0.0 if found is None else float(found["count"].replace(",", "").replace("_", ""))
    if found is None or count <= 0:
        raise InputError(f"{text!r} is no rate.", hint="write it as 200/s, 12/m, 5000/h or 1000000/d")
    return count / _UNITS[found["unit"]]


def make_plan(release: str, answers: Answers, service: ServiceTime, *, cores: int, cpu_hour: float) -> CapacityPlan:
    """Return how to serve a release.

    Args:
        release: "movies@3".
        answers: The five answers.
        service: What one worker needs for a request.
        cores: Of one machine.
        cpu_hour: What an hour of one core costs; 0 where nobody said.
    """
    mode = mode_of(answers)
    promise, rate = answers.promise, answers.rate_per_s
    waits = mode in {"online", "in process"}
    most = (
        highest_rate_per_s(service, promise.within_s, promise.quantile) if waits else service.servers / service.mean_s
    )
    workers = max(1, math.ceil(rate / (FILL * most) - 1e-9)) if most else 1
    own = rate / workers
    response_s = response_quantile_s(own, service, promise.quantile) if waits else math.inf
    cores_used = rate * service.cpu_s
    reserved = workers if mode != "batch" else cores_used
    cost = reserved * _MONTH_H * cpu_hour if cpu_hour else None
    return CapacityPlan(
        release=release,
        answers=answers,
        mode=mode,
        is_possible=most > 0,
        workers=workers,
        machines=math.ceil(workers / cores),
        batch_rows=_batch_rows(answers, service, mode),
        filled=min(1.0, own * service.mean_s / service.servers),
        predicted_ms=1000 * response_s if math.isfinite(response_s) else None,
        highest_per_s=workers * most,
        cores_used=cores_used,
        cost_month=cost,
        cost_per_1000=None if cost is None else cost / (rate * _MONTH_H * 3600) * 1000,
        reasons=(*_why(answers, mode), *_why_workers(answers, service, most, workers)),
        commands=tuple(_commands(release, mode, workers)),
    )


def mode_of(answers: Answers) -> Mode:
    """Return how answers are given: over HTTP, in files, along a stream, or within the program that asks."""
    match answers.consumer:
        case "file":
            return "batch"
        case "event":
            return "stream"
        case "in-app":
            return "in process" if answers.applications == 1 else "online"
        case "screen" | "api":
            is_patient = answers.promise.within_s >= _PATIENT_S and answers.grain == "many"
            return "batch" if is_patient else "online"


def _why(answers: Answers, mode: Mode) -> Iterator[str]:
    within = _time(answers.promise.within_s)
    match mode:
        case "batch":
            who = "it is read from files" if answers.consumer == "file" else f"nobody waits: {within} are enough"
            yield f"batch: {who}, so rows are answered together when there are some"
        case "stream":
            yield "stream: each event is answered as it comes, and a broken-off stream goes on where it was"
        case "in process":
            yield "in process: one program asks and can hold the model itself, without a server between"
        case "online":
            several = answers.consumer == "in-app"
            asks = "another program" if answers.consumer == "api" else "a person at a screen"
            who = f"{answers.applications} applications share it" if several else f"{asks} waits for it"
            yield f"online: {who}"
    if answers.applications > 1 and mode == "online":
        yield (
            f"{answers.applications} applications: have each say its name (x-penstock-consumer), "
            "so that its requests, times and errors are told apart"
        )
    if answers.grain == "many" and mode in {"online", "stream"}:
        yield "many rows: a function that takes rows (`*, rows: pl.DataFrame`) answers them in one call"


def _why_workers(answers: Answers, service: ServiceTime, most: float, workers: int) -> Iterator[str]:
    each = f"a request takes {_time(service.mean_s)} of a worker (variability {service.variability:.2g})"
    if not most:
        promise = promise_said(answers.promise)
        yield f"{each}: {promise} is kept by no number of workers; make it faster, or promise less"
        return
    yield (
        f"{each}, so one keeps the promise up to {most:,.4g}/s; "
        f"{answers.rate_per_s:,.4g}/s fill {workers} to {answers.rate_per_s / (workers * most):.0%} (80 % at most)"
    )


def _batch_rows(answers: Answers, service: ServiceTime, mode: Mode) -> int | None:
    if answers.grain == "one" and mode in {"online", "in process"}:
        return None
    if mode == "batch":
        return _MOST_ROWS
    # Joined rows wait for each other: no call may take more than half of what was promised.
    return max(1, min(_MOST_ROWS, int(0.5 * answers.promise.within_s / service.mean_s)))


def _commands(release: str, mode: Mode, workers: int) -> Iterator[str]:
    name = release.partition("@")[0]
    match mode:
        case "online":
            yield f"penstock serve {name} --workers {workers}"
        case "batch":
            yield f"penstock batch {name} --in rows.parquet --out answers --workers {workers}"
        case "stream":
            yield f"penstock stream {name} --in events --out answers"
        case "in process":
            yield f"python: load_release({name!r}) from penstock"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min"
