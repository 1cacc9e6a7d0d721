"""The rehearsal from its arguments to its record: each arm in a process of its own, side by side."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.core.errors import InputError, PenstockError, StepError
from penstock.core.records import Record
from penstock.project.asking import refused
from penstock.worker.rehearsal.conclude import conclude
from penstock.worker.rehearsal.days import DaysOrder, Told, days_file, error_file, read_days
from penstock.worker.rehearsal.records import ArmName, Day, Measured, Plan, Rehearsal
from penstock.worker.rehearsal.source import take_in_all

_POLL_S = 0.2
PLAN, RECORD, MEASURED = "plan.json", "record.json", "measured.json"


class Progress(Record, frozen=True, kw_only=True):
    """How far a rehearsal has got.

    Attributes:
        done: Steps done, by arm.
        newest: The newest day of the policy's arm.
    """

    done: dict[ArmName, int]
    steps: int
    newest: Day | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a rehearsal is held.

    Attributes:
        root: The project.
        folder: Where the rehearsal keeps everything; the project's own store is not touched.
    """

    root: Path
    folder: Path


def rehearse(plan: Plan, place: Place, on_progress: Callable[[Progress], None] | None = None) -> Rehearsal:
    """Go through a rehearsal, or on with it where it was broken off, and return its record.

    Args:
        plan: Its arguments.
        place: Where it is held.
        on_progress: Is told each time a step is done.

    Raises:
        InputError: The plan does not fit the data, or the folder holds another rehearsal.
        CheckError: The first release was refused.
        PenstockError: An arm could not go on.
    """
    _claim(plan, place.folder)
    graph = take_in_all(plan, root=place.root, folder=place.folder)
    with _arms(plan, place) as arms:
        _follow(arms, plan, place, on_progress)
    found = conclude(plan, graph, root=place.root, folder=place.folder)
    told = {name: read_days(place.folder, name) for name in plan.arms}
    _write(place.folder / MEASURED, msgspec.json.format(msgspec.json.encode(_measured(told))))
    _write(place.folder / RECORD, msgspec.json.format(msgspec.json.encode(found)))
    return found


def _claim(plan: Plan, folder: Path) -> None:
    """Make the folder this plan's, or see that it is.

    Raises:
        InputError: It holds another rehearsal, or something else.
    """
    path = folder / PLAN
    if path.is_file():
        if path.read_bytes() != msgspec.json.encode(plan):
            raise InputError(
                f"{str(folder)!r} holds a rehearsal with other arguments.",
                hint="choose another folder with --out, or remove that one",
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{str(folder)!r} holds something else.", hint="choose another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, msgspec.json.encode(plan))


@contextlib.contextmanager
def _arms(plan: Plan, place: Place) -> Iterator["dict[ArmName, subprocess.Popen[bytes]]"]:
    running: dict[ArmName, subprocess.Popen[bytes]] = {}
    try:
        for name in plan.arms:
            order = DaysOrder(plan=plan, name=name, root=str(place.root), folder=str(place.folder), parent=os.getpid())
            folder = days_file(place.folder, name).parent
            folder.mkdir(parents=True, exist_ok=True)
            words = [sys.executable, "-P", "-m", "penstock.worker.rehearsal.days", msgspec.json.encode(order).decode()]
            with (folder / "said.log").open("wb") as said:
                running[name] = subprocess.Popen(
                    words, cwd=place.root, stdin=subprocess.DEVNULL, stdout=said, stderr=said
                )
        yield running
    finally:
        for process in running.values():
            process.terminate() if process.poll() is None else None
        for process in running.values():
            process.wait()


def _follow(
    arms: "dict[ArmName, subprocess.Popen[bytes]]",
    plan: Plan,
    place: Place,
    on_progress: Callable[[Progress], None] | None,
) -> None:
    known: dict[ArmName, int] = {}
    while True:
        codes = {name: process.poll() for name, process in arms.items()}
        for name, code in codes.items():
            if code:
                raise _failed(name, code, place.folder)
        done = {name: _count(days_file(place.folder, name)) for name in arms}
        if on_progress is not None and done != known:
            newest = read_days(place.folder, "policy")[-1:]
            on_progress(Progress(done=done, steps=plan.steps, newest=newest[0].day if newest else None))
            known = done
        if all(code == 0 for code in codes.values()):
            return
        time.sleep(_POLL_S)


def _count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _failed(name: ArmName, code: int, folder: Path) -> PenstockError:
    """Return the error that an arm said before it ended."""
    path = error_file(folder, name)
    if path.is_file():
        told = msgspec.json.decode(path.read_bytes(), type=tuple[str, str, str])
        path.unlink()
        return refused(*told)
    said = (days_file(folder, name).parent / "said.log").read_text(encoding="utf-8", errors="replace")
    return StepError(
        f"{said[-2000:]}The arm {name!r} ended with {code}.", hint="run the same command again: it goes on where it was"
    )


def _measured(told: dict[ArmName, list[Told]]) -> Measured:
    def summed(kind: str, name: ArmName) -> dict[str, float]:
        found: dict[str, float] = {}
        for line in told[name]:
            for part, value in getattr(line, kind).items():
                found[part] = round(found.get(part, 0.0) + value, 3)
        return found

    return Measured(
        cpu_s={name: summed("cpu_s", name) for name in told},
        wall_s={n: sum(summed("wall_s", n).values()) for n in told},
    )


def _write(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(data)
    draft.replace(path)
