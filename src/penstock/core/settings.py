"""Settings of a project: `penstock.toml` beside the pipeline file, and the only reader of the environment.

Belongs here: where things are kept, and the engineer's policy per pipeline and step.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from penstock.core.errors import InputError

T = TypeVar("T")
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_DURATION = r"^([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)$"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class StepPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an engineer grants one step.

    Attributes:
        memory: Most resident memory, as "4GB"; None for no limit.
        timeout: Longest wall time, as "1h"; None for no limit.
        retries: Further attempts after user code raised. Lost processes are retried twice in any case.
        retry_wait: Wait before the first retry, doubled each time, as "1s".
        engine: "local" or "ray"; None for the engine of the run.
    """

    memory: str | None = None
    timeout: str | None = None
    retries: int = 0
    retry_wait: str = "1s"
    engine: str | None = None

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit in bytes."""
        return None if self.memory is None else parse_size(self.memory)

    @property
    def timeout_s(self) -> float | None:
        """The time limit in seconds."""
        return None if self.timeout is None else parse_duration(self.timeout)


class ServePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How releases of a pipeline answer: the table `[name.serve]` of `penstock.toml`.

    Attributes:
        durability: "group" risks at most 50 ms of answers on power loss; "request" syncs before the caller hears.
        keep: How long predictions are kept, as "90d"; None for ever.
        redact: Fields that are never stored.
        threads: Calls of slow functions that run at once in one worker.
        queue: Questions that may wait in one worker; one more gets the fallback or a 503.
        batch_rows: Most rows that are joined into one call.
        equivalents: Whether a faster equivalent of a model may answer where it was proven equal.
        compare: Share of questions, 0 to 1, that a faster equivalent shares with the original model to be compared.
    """

    durability: Literal["group", "request"] = "group"
    keep: str | None = None
    redact: tuple[str, ...] = ()
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    queue: Annotated[int, msgspec.Meta(ge=1)] = 1024
    batch_rows: Annotated[int, msgspec.Meta(ge=1)] = 4096
    equivalents: bool = True
    compare: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.001

    @property
    def keep_s(self) -> float | None:
        """How long predictions are kept, in seconds."""
        return None if self.keep is None else parse_duration(self.keep)


class Replicas(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many copies of a server answer where an engine keeps them, and what each is granted.

    Attributes:
        min: Copies when nobody asks; 0 lets Ray keep none, and the first caller waits for one.
        max: Most copies.
        target_ongoing: Requests under way per copy that the engine aims at; more of them, and it adds copies.
        cpus: Cores of each copy.
        memory: Memory of each copy, as "2GiB"; None for what was measured, or else is estimated.
    """

    min: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 1
    max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 4
    target_ongoing: Annotated[float, msgspec.Meta(gt=0)] = 8.0
    cpus: Annotated[float, msgspec.Meta(gt=0, le=256)] = 1.0
    memory: str | None = None

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"replicas.min {self.min} is more than replicas.max {self.max}")
        try:
            _ = self.memory_bytes
        except InputError as error:
            raise ValueError(f"replicas.memory: {error}") from error

    @property
    def memory_bytes(self) -> int | None:
        """Memory of each copy in bytes; None where nobody said it."""
        return None if self.memory is None else parse_size(self.memory)


class GuardPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What has to be known before a rollout goes on: the table `[name.guards]` of `penstock.toml`.

    Attributes:
        requests: Fewest answers of the candidate in each stage.
        false_rollbacks: Accepted chance of taking back a candidate that is no worse, over all guards, stages and looks.
    """

    requests: Annotated[int, msgspec.Meta(ge=1)] = 100
    false_rollbacks: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05


class ServerPolicy(ServePolicy, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that stands in `[name.serve]`. What is only here is no part of a release: an older one opens no door.

    Attributes:
        require_key: Whether only consumers with a key are answered; then the server may listen beyond this host.
        replicas: How many copies answer on Ray and on Kubernetes; more of them change no answer.
    """

    require_key: bool = False
    replicas: Replicas = Replicas()

    @property
    def released(self) -> ServePolicy:
        """The part that goes into a release."""
        return ServePolicy(**{name: getattr(self, name) for name in ServePolicy.__struct_fields__})


class ReplayPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What recorded requests decide at the gate: `replay = { most_changed = 0.2 }` in the table `[name]`.

    Attributes:
        most_changed: Largest share of answers, 0 to 1, that a release may change; None for any. A release that fails on
            requests which the live one answers is refused in any case.
        requests: How many recorded requests are asked of the live release and of what a run made; 0 for none.
        budget: How long each of the two may take, as "10s"; what was answered until then is compared.
    """

    most_changed: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    requests: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 500
    # Refused when it is read, since it is used at the end of a run only.
    budget: Annotated[str, msgspec.Meta(pattern=_DURATION)] = "10s"

    @property
    def budget_s(self) -> float:
        """How long each release may take, in seconds."""
        return parse_duration(self.budget)


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an engineer says about one pipeline, as far as it is part of a release.

    Attributes:
        replay: Left out of a release where nothing is said, so that releases of before it keep their names.
    """

    file: str | None = None
    schedule: str | None = None
    retrain_on: tuple[str, ...] = ()
    rollout: tuple[str, ...] = ()
    hold: str | None = None
    slo: dict[str, float] = {}
    approvals: tuple[str, ...] = ()
    params: dict[str, Any] = {}
    include: tuple[str, ...] = ()
    steps: dict[str, StepPolicy] = {}
    serve: ServePolicy = ServePolicy()
    guards: GuardPolicy | msgspec.UnsetType = msgspec.UNSET
    replay: ReplayPolicy | msgspec.UnsetType = msgspec.UNSET

    @property
    def guarding(self) -> GuardPolicy:
        """What has to be known before a rollout goes on, with the defaults where nothing is said."""
        return GuardPolicy() if isinstance(self.guards, msgspec.UnsetType) else self.guards

    @property
    def replaying(self) -> ReplayPolicy:
        """What recorded requests decide at the gate, with the defaults where nothing is said."""
        return ReplayPolicy() if isinstance(self.replay, msgspec.UnsetType) else self.replay


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Most that a pipeline may use in any 24 hours; None for no limit.

    Attributes:
        cpu_s_per_day: CPU seconds of all its runs.
        money_per_day: The same as money, at `cost.cpu_hour`.
    """

    cpu_s_per_day: Annotated[float, msgspec.Meta(ge=0)] | None = None
    money_per_day: Annotated[float, msgspec.Meta(ge=0)] | None = None


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What things cost, in one currency.

    Attributes:
        cpu_hour: An hour of one core.
        prediction: One answer.
        retrain: A retrain, whatever it computes: what looking at it and the risk of a change are worth.
    """

    cpu_hour: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    prediction: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    retrain: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class Economics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a retrain is worth it.

    Attributes:
        weigh: Whether the expected gain of a retrain is weighed at all; otherwise each reason gets its run.
        slots: Whether slots of the schedule are weighed too; otherwise each gets its run.
        least_gain: Where gain or cost has no price: the share of the main metric that a retrain must be expected to
            gain.
        releases: Earlier releases that a retrain is compared with, the live one included, to learn how models age.
    """

    weigh: bool = True
    slots: bool = False
    least_gain: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.01
    releases: Annotated[int, msgspec.Meta(ge=1)] = 3


class NewData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much new data is enough to retrain: both must be reached, counted since the live release.

    Attributes:
        rows: Rows, all datasets together.
        intakes: Intakes that brought rows (a day's file is one), of the dataset that had most.
    """

    rows: Annotated[int, msgspec.Meta(ge=1)] = 1
    intakes: Annotated[int, msgspec.Meta(ge=1)] = 1


class AlertPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who hears of alerts.

    Attributes:
        webhook: URL that gets each alert as JSON.
        slack: URL of an incoming webhook of Slack, or of anything that takes its payload.
        email: Addresses.
        smtp: The mail server, "smtp://host:587" or "smtps://user@host"; its password is in `PENSTOCK_SMTP_PASSWORD`.
    """

    webhook: str | None = None
    slack: str | None = None
    email: tuple[str, ...] = ()
    smtp: str | None = None


class ExperimentPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An experiment as it is declared; `penstock experiment` takes the same words as options.

    Attributes:
        arms: "movies@3", "fallback"; the first is the control.
        shares: Of all keys, "50%" or "0.5"; equal parts when empty.
        outcome: What decides; the only outcome when None.
        metrics: Other outcomes to report.
        guards: "conversion" or "conversion=5%", with the loss that is put up with.
        effect: The least difference per key to be found, "0.01" or "5%"; None takes what `days` can find.
        days: How long it may take.
        span: How long each key is measured.
        alpha: Chance of a wrong decision.
        history_days: What the plan learns from.
    """

    arms: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()
    outcome: str | None = None
    metrics: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    effect: str | None = None
    days: Annotated[float, msgspec.Meta(gt=0)] | None = None
    span: str = "1d"
    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05
    history_days: Annotated[float, msgspec.Meta(gt=0)] = 28.0


class LoopPolicy(Policy, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that an engineer says about one pipeline: the table `[name]` of `penstock.toml`.

    What stands only here says how the pipeline is kept fresh. It is no part of a release: who hears of an alert
    changes no model.

    Attributes:
        retrain_on: Which triggers start a retrain, beside the schedule and whoever asks for one.
        timezone: The zone in which `schedule` is read, as "Europe/Berlin".
        catch_up: Of slots missed while nothing ran, run the newest ("one"), none, or all.
        window: Length of the windows that monitors look at.
        breaking: Whether a release may be made that breaks the contract of a registered consumer.
        alarm_budget: Most false drift alarms per window that are put up with, over all columns together.
        equality: How many answers of each window are answered again offline and compared; 0 for none.
        priority: Which pipeline goes first when several wait; the higher.
        cooldown: Least time between retrains that data, drift, quality, age or an upstream release ask for.
        quarantine_after: Failures in a row after which retrains are tried less and less often.
        intake: How often the datasets look for rows.
        upstream: Pipelines whose releases retrain this one.
        explore: Share of questions, 0 to 1, that the fallback answers although the model could, to learn what the model
            itself never shows; the log marks them with the variant "explore".
        require: Evidence that a release must have passed before it may be promoted. A release does not say itself what
            it has to show.
        experiments: By name, what `penstock experiment start` is to compare.
    """

    serve: ServerPolicy = ServerPolicy()
    retrain_on: tuple[Literal["new_data", "drift", "quality", "stale"], ...] = ("new_data", "drift", "quality", "stale")
    timezone: str = "UTC"
    catch_up: Literal["one", "none", "all"] = "one"
    window: str = "1d"
    breaking: Literal["refuse", "allow"] = "refuse"
    alarm_budget: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.01
    equality: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 20
    priority: int = 0
    cooldown: str = "6h"
    quarantine_after: Annotated[int, msgspec.Meta(ge=1)] = 3
    intake: str = "1h"
    upstream: tuple[str, ...] = ()
    explore: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    new_data: NewData = NewData()
    budget: Budget = Budget()
    cost: Cost = Cost()
    economics: Economics = Economics()
    alerts: AlertPolicy = AlertPolicy()
    require: tuple[Literal["replay", "load", "drill"], ...] = ()
    experiments: dict[str, ExperimentPolicy] = {}

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        return parse_duration(self.window)

    @property
    def cooldown_s(self) -> float:
        """Least time between retrains in seconds."""
        return parse_duration(self.cooldown)

    @property
    def intake_s(self) -> float:
        """Time between intakes in seconds."""
        return parse_duration(self.intake)

    @property
    def released(self) -> Policy:
        """The part that goes into a release."""
        parts = {name: getattr(self, name) for name in Policy.__struct_fields__}
        return Policy(**parts | {"serve": self.serve.released})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything said outside the pipeline file.

    Attributes:
        root: The project: the directory with `penstock.toml`, or the one given.
        home: Where Penstock keeps its store (`.penstock` in the project by default).
        ledger_url: SQLAlchemy URL of the ledger.
        workers: Most processes that run steps at once.
        engine: "local" or "ray".
        retrains: Most runs that the worker has under way at once, over all processes that share the ledger.
        is_replay: The sources hold what has yet to come: rows later than the clock are left for later intakes. Nobody
            is told of alerts, and how long an answer took is not judged.
        policies: Policy by pipeline name.
    """

    root: Path
    home: Path
    ledger_url: str
    workers: int
    engine: str = "local"
    ray_address: str | None = None
    retrains: int = 1
    is_replay: bool = False
    policies: dict[str, LoopPolicy] = {}

    def policy(self, pipeline: str) -> LoopPolicy:
        """Return the policy of `pipeline`; one of defaults when none is written."""
        return self.policies.get(pipeline, LoopPolicy())


class _Platform(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    home: str = ".penstock"
    ledger: str | None = None
    workers: int | None = None
    engine: str = "local"
    ray_address: str | None = None
    retrains: Annotated[int, msgspec.Meta(ge=1)] = 1


def load_settings(start: Path) -> Settings:
    """Read `penstock.toml` in `start` or the nearest parent that has one, and the environment.

    `PENSTOCK_HOME`, `PENSTOCK_LEDGER`, `PENSTOCK_WORKERS` and `PENSTOCK_ENGINE` win over the file.

    Raises:
        InputError: The file is not TOML or has a table or value Penstock does not know.
    """
    start = start.resolve()
    file = next((d / "penstock.toml" for d in (start, *start.parents) if (d / "penstock.toml").is_file()), None)
    tables = _read_toml(file) if file is not None else {}
    platform = _convert(tables.pop("penstock", {}), _Platform, file)
    policies = {name: _convert(table, LoopPolicy, file) for name, table in tables.items()}
    root = file.parent if file is not None else start
    env = os.environ
    home = root / env.get("PENSTOCK_HOME", platform.home)
    return Settings(
        root=root,
        home=home,
        ledger_url=env.get("PENSTOCK_LEDGER", platform.ledger or f"sqlite:///{home / 'ledger.db'}"),
        workers=int(env.get("PENSTOCK_WORKERS", platform.workers or _cores())),
        engine=env.get("PENSTOCK_ENGINE", platform.engine),
        ray_address=platform.ray_address,
        retrains=platform.retrains,
        policies=policies,
    )


def read_secret(name: str) -> str | None:
    """Return a secret from the environment; it is asked for when it is used and kept in no record."""
    return os.environ.get(name) or None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not readable as TOML: {error}.", hint="mend the line it names") from error


def _convert(table: object, kind: type[T], file: Path | None) -> T:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{file}: {error}.", hint="see docs/reference/settings.md for what may stand there") from error


def webhook_token() -> str | None:
    """Return what callers of a worker that listens must know; None where nobody said it.

    Only the environment has it: a file is read by more people, and ends in repositories.
    """
    return os.environ.get("PENSTOCK_WEBHOOK_TOKEN") or None


def serve_keys() -> tuple[str, ...]:
    """Return the keys of which callers of a server must show one, apart by spaces; () where nobody said any.

    Only the environment has them, as with `webhook_token`.
    """
    return tuple(os.environ.get("PENSTOCK_SERVE_KEYS", "").split())


def node_home(otherwise: Path) -> Path:
    """Return where a server on another machine keeps what it writes: `PENSTOCK_HOME` there, or `otherwise`."""
    return Path(os.environ.get("PENSTOCK_HOME") or otherwise).absolute()


def parse_size(text: str) -> int:
    """Return bytes for "4GB", "512MiB".

    Raises:
        InputError: The text is not a number with a unit of bytes.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMG]?i?B)", text.strip())
    if match is None or match[2] not in _SIZES:
        raise InputError(f"{text!r} is not a size.", hint="write a number and a unit, as 4GB or 512MiB")
    return int(float(match[1]) * _SIZES[match[2]])


def parse_duration(text: str) -> float:
    """Return seconds for "500ms", "10m", "1h", "14d".

    Raises:
        InputError: The text is not a number with a unit of time.
    """
    match = re.fullmatch(_DURATION, text.strip())
    if match is None:
        raise InputError(f"{text!r} is not a duration.", hint="write a number and a unit, as 500ms, 10m, 1h or 14d")
    return float(match[1]) * _SECONDS[match[2]]
