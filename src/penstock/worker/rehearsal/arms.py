"""The arms of a rehearsal: each a store of its own, and a policy."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from penstock.core.clock import Clock
from penstock.core.settings import LoopPolicy, Settings, load_settings
from penstock.project.crew import kept_crew
from penstock.project.workspace import Workspace, open_store
from penstock.worker.rehearsal.records import ArmName, Plan, arm_home

SOURCE = "source"
_MIDNIGHT = "0 0 * * *"
_AT_ONCE = {"rollout": (), "approvals": (), "require": ()}


@dataclass(slots=True)
class SetClock:
    """A clock that stands where it is set."""

    at: datetime

    @property
    def clock(self) -> Clock:
        """The clock as others read it; what takes time still takes it."""
        return Clock(now=lambda: self.at)


def settings_of(plan: Plan, name: ArmName, *, root: Path, folder: Path) -> Settings:
    """Return the settings of an arm: those of the project, with a store of its own and the arm's policy.

    Its releases go live at once: between two ticks nobody asks a candidate, and nobody is there to approve.

    Raises:
        InputError: `penstock.toml` is not usable.
    """
    found = load_settings(root)
    policy = found.policy(plan.pipeline)
    params = {**policy.params, **plan.params}
    home = arm_home(folder, name)
    return msgspec.structs.replace(
        found,
        home=home,
        ledger_url=f"sqlite:///{home / 'ledger.db'}",
        is_replay=True,
        policies={plan.pipeline: _policy(msgspec.structs.replace(policy, params=params, **_AT_ONCE), name)},
    )


def _policy(policy: LoopPolicy, name: ArmName) -> LoopPolicy:
    if name == "never":
        return msgspec.structs.replace(policy, schedule=None, retrain_on=(), upstream=())
    if name == "daily":  # nothing is weighed, so how its models age need not be learned
        economics = msgspec.structs.replace(policy.economics, weigh=False)
        daily = {"schedule": _MIDNIGHT, "timezone": "UTC", "retrain_on": (), "upstream": ()}
        return msgspec.structs.replace(policy, economics=economics, **daily)
    return policy


@contextlib.contextmanager
def open_arm(
    plan: Plan, name: ArmName, *, root: Path, folder: Path, at: datetime | None = None
) -> Iterator[tuple[Workspace, SetClock]]:
    """Open the store of an arm; its clock stands at the end of the rehearsal unless said.

    Raises:
        StoreError: The store cannot be made or read.
    """
    moment = SetClock(at or plan.end)
    settings = settings_of(plan, name, root=root, folder=folder)
    with kept_crew() as crew, open_store(settings, moment.clock, crew) as workspace:
        yield workspace, moment


def source_settings(plan: Plan, *, root: Path, folder: Path) -> Settings:
    """Return the settings of the store that holds the rows of all times: who asks when is drawn from it."""
    found = settings_of(plan, "policy", root=root, folder=folder)
    home = folder / SOURCE / "home"
    return msgspec.structs.replace(found, home=home, ledger_url=f"sqlite:///{home / 'ledger.db'}", is_replay=False)
