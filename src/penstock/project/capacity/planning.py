"""A plan for a release of this project: what a request takes is measured or remembered, and a load test checks it."""

from penstock.core.records import Record
from penstock.project.capacity.keeping import keep, newest_load
from penstock.project.capacity.measure import LoadOptions, Tell, Told, bench, cores, measure_load
from penstock.project.capacity.plan import Answers, CapacityPlan, make_plan
from penstock.project.workspace import Workspace
from penstock.serving.load.knee import Knee
from penstock.serving.load.outcomes import Phase
from penstock.serving.load.promise import Step
from penstock.serving.load.queueing import ServiceTime, highest_rate_per_s, response_quantile_s
from penstock.store.ledger.releases import Release

# How far a prediction may be from what is measured then.
AGREES = 0.2
_P99 = 0.99


class Compared(Record, frozen=True, kw_only=True):
    """A figure of the plan beside what was measured.

    Attributes:
        decides: Whether the plan stands or falls with it.
    """

    what: str
    predicted: float
    measured: float | None
    decides: bool

    @property
    def ratio(self) -> float | None:
        """Measured over predicted."""
        return None if self.measured is None or not self.predicted else self.measured / self.predicted

    @property
    def agrees(self) -> bool:
        """Whether the two are within a fifth of each other."""
        return self.ratio is not None and abs(self.ratio - 1) <= AGREES


class Checked(Record, frozen=True, kw_only=True):
    """What a load test says about a plan.

    Attributes:
        workers: As many as were measured: those of the plan, or as many as this machine has cores.
        rate_per_s: Their share of the planned rate.
        step: That rate, held.
        compared: Prediction and measurement.
        knee: Where the promise broke.
    """

    workers: int
    rate_per_s: float
    step: Step
    compared: tuple[Compared, ...]
    knee: Knee

    @property
    def agrees(self) -> bool:
        """Whether all that decides is within a fifth."""
        return all(one.agrees for one in self.compared if one.decides)

    @property
    def passed(self) -> bool:
        """Whether the promise was kept at the planned rate, and the prediction agrees."""
        return self.agrees and self.step.verdict == "holds"


def plan_for(release: Release, answers: Answers, workspace: Workspace, tell: Tell) -> tuple[CapacityPlan, ServiceTime]:
    """Return how to serve a release, and what a request takes of a worker.

    Args:
        release: Which.
        answers: The five answers.
        workspace: The project.
        tell: Hears what is done now.

    Raises:
        PenstockError: The release cannot be served, or refuses the requests.
    """
    kept = newest_load(str(release.ref), release.pipeline, workspace)
    service = None if kept is None else kept.service
    if service is None:
        tell(Told("measuring what a request takes, one at a time and without a pause"))
        with bench(release, workspace, LoadOptions(promise=answers.promise)) as found:
            service, _ = found.first_look()
    cost = workspace.settings.policy(release.pipeline).cost
    return make_plan(str(release.ref), answers, service, cores=cores(), cpu_hour=cost.cpu_hour), service


def check_plan(
    plan: CapacityPlan,
    service: ServiceTime,
    release: Release,
    workspace: Workspace,
    *,
    tell: Tell,
    step_s: float = 4.0,
) -> Checked:
    """Hold the planned rate on real servers, find the knee, and compare both with the plan.

    More workers than this machine has cores are measured by their share: each is asked as much as in the plan.

    Args:
        plan: The plan.
        service: What it was made from.
        release: Which release.
        workspace: The project.
        tell: Hears what is done now.
        step_s: How long each rate is held at least.

    Raises:
        PenstockError: The release cannot be served.
    """
    workers = min(plan.workers, cores())
    rate = plan.answers.rate_per_s * workers / plan.workers
    promise = plan.answers.promise
    options = LoadOptions(promise=promise, workers=workers, step_s=step_s)
    tell(Told(f"asking {rate:,.4g} requests a second, as planned for {workers} of {plan.workers} workers"))
    with bench(release, workspace, options) as found:
        found.ask(Phase(rate, 1.0))
        step = found.step(rate)
    load = measure_load(release, workspace, options, tell)
    keep("load", load, release.pipeline, workspace)
    predicted_ms = 1000 * response_quantile_s(rate / workers, service, promise.quantile)
    cpu_us = step.cpu_us
    compared = (
        Compared(
            what="highest rate that keeps the promise, a second",
            predicted=workers * highest_rate_per_s(service, promise.within_s, promise.quantile),
            measured=load.knee.rate_per_s,
            decides=True,
        ),
        Compared(
            what=f"p{100 * promise.quantile:g} at the planned rate, ms",
            predicted=predicted_ms,
            measured=step.p99_ms if promise.quantile == _P99 else None,
            decides=False,
        ),
        Compared(
            what="cores used at the planned rate",
            predicted=rate * service.cpu_s,
            measured=None if cpu_us is None else rate * cpu_us / 1e6,
            decides=False,
        ),
    )
    return Checked(workers=workers, rate_per_s=rate, step=step, compared=compared, knee=load.knee)
