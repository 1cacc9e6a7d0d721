"""The report of a rehearsal that has ended, from its folder."""

from pathlib import Path

import msgspec

from penstock.worker.rehearsal.arms import open_arm
from penstock.worker.rehearsal.driver import MEASURED
from penstock.worker.rehearsal.faults.told import told_faults
from penstock.worker.rehearsal.records import ArmName, Measured, read_rehearsal
from penstock.worker.rehearsal.report.collect import Facts, collect
from penstock.worker.rehearsal.report.make import make_report
from penstock.worker.rehearsal.report.records import Report
from penstock.worker.rehearsal.report.words import LOOP


def tell(folder: Path, *, root: Path) -> Report:
    """Return the report of a rehearsal.

    Args:
        folder: Where it was held.
        root: The project.

    Raises:
        InputError: It has not ended there.
        StoreError: What it recorded cannot be read.
    """
    rehearsal = read_rehearsal(folder)
    plan = rehearsal.plan
    measured = msgspec.json.decode((folder / MEASURED).read_bytes(), type=Measured)
    facts: dict[ArmName, Facts] = {}
    for name in plan.arms:
        with open_arm(plan, name, root=root, folder=folder) as (workspace, _):
            facts[name] = collect(workspace, plan)
    with open_arm(plan, LOOP, root=root, folder=folder) as (workspace, _):
        report = make_report(workspace, rehearsal, facts, wall_s=max(measured.wall_s.values(), default=0.0))
        return msgspec.structs.replace(report, planted=told_faults(workspace, plan, facts[LOOP]))
