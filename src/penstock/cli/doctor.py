"""`penstock doctor` and `penstock gc`: what is kept is looked over, mended, and rid of what nothing needs."""

from typing import Annotated

import msgspec
import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.core.settings import parse_duration
from penstock.project.doctor import Examination, counted, in_units
from penstock.project.garbage import Swept, sweep
from penstock.project.mending import examine
from penstock.project.workspace import open_workspace

_SHOWN = 20


def doctor(
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Read and hash every byte again.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without a guess.")] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Check what is kept - ledger, blobs, lake, releases, code, disk - and say how to mend it.

    The exit code is 1 when something is wrong. With --repair the ledger is backed up first, damaged bytes are set
    aside, and what they belonged to is made again by the next run.

    Example:
        penstock doctor
        penstock doctor --deep --repair
    """
    with open_workspace(project) as workspace:
        found = examine(workspace, deep=deep, repair=repair)
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        _tell(found)
    if not found.is_sound:
        raise typer.Exit(1)


def gc(
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without, only say what would go.")] = False,
    grace: Annotated[str, typer.Option(help="Spare what is younger.")] = "7d",
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Show, and with --delete remove, what no result, release, run or dataset version needs.

    Example:
        penstock gc
        penstock gc --delete --grace 1d
    """
    grace_s = parse_duration(grace)
    with open_workspace(project) as workspace:
        swept = sweep(workspace, grace_s=grace_s, dry_run=not delete)
    if as_json:
        print(msgspec.json.encode(swept).decode())
    else:
        _tell_swept(swept, grace)


def _tell(found: Examination) -> None:
    for line in found.mended:
        print(f"mended  {line}")
    for fault in found.faults:
        print(f"WRONG   {fault.room}: {fault.message}")
        if fault.mend:
            print(f"        mend: {fault.mend}")
    for note in found.notes:
        print(f"note    {note.room}: {note.message}" + (f" ({note.mend})" if note.mend else ""))
    for line in found.looked:
        print(f"looked  at {line}" if not line.startswith("its") else f"        {line}")
    count = len(found.faults)
    things = "thing is" if count == 1 else "things are"
    print("\nNothing is wrong." if found.is_sound else f"\n{count} {things} wrong.")


def _tell_swept(swept: Swept, grace: str) -> None:
    names = [*swept.files, *(f"blob {digest}" for digest in swept.blobs)]
    if not names:
        print(f"Nothing to remove: everything is needed, or younger than {grace}.")
        return
    for name in names[:_SHOWN]:
        print(f"  {name}")
    if len(names) > _SHOWN:
        print(f"  and {len(names) - _SHOWN} more")
    verb = "would go; penstock gc --delete removes" if swept.was_dry_run else "removed"
    print(f"{counted(len(names), 'thing')}, {in_units(swept.size_bytes)}: {verb}.")
