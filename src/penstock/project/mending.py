"""Mends a store: only what needs no guess, and nothing that cannot be undone or made again.

Damaged bytes are set aside, never deleted; a result they belonged to is forgotten, so that the next run makes it again.
"""

import shutil

from penstock.core.process import is_known_dead
from penstock.project.doctor import SETTLED_S, Examination, Survey, counted, survey
from penstock.project.workspace import Workspace
from penstock.store.ledger import events, leases, recovery, results


def examine(workspace: Workspace, *, deep: bool = False, repair: bool = False) -> Examination:
    """Look a store over; say what is wrong and how to mend it.

    Args:
        workspace: The project.
        deep: Read every byte of blobs and lake again, whatever was hashed before.
        repair: Mend what can be mended without a guess; the ledger is backed up first.

    Returns:
        What is wrong (after mending), what was looked at and what was done.

    Raises:
        StoreError: The ledger cannot be read at all; the hint offers its last backup.
    """
    found = survey(workspace, deep=deep)
    if not repair:
        return found.done()
    mended = _mend(workspace, found)
    return survey(workspace, deep=deep).done(tuple(mended))


def _mend(workspace: Workspace, found: Survey) -> list[str]:
    done = []
    backup = workspace.ledger.back_up()
    if backup is not None:
        done.append(f"Backed up the ledger to {backup}.")
    done += _end_dead_work(workspace)
    done += _set_aside(workspace, found)
    done += _forget_results(workspace, found)
    for name in found.stale_code:
        shutil.rmtree(workspace.home / "code" / name)
        done.append(f"Removed the code laid out in {workspace.home / 'code' / name}; it is laid out again when needed.")
    stale = workspace.blobs.stale_temporaries(SETTLED_S)
    for path in stale:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if stale:
        done.append(f"Removed {counted(len(stale), 'half-written thing')} of processes that died.")
    if len(done) > 1:
        with workspace.ledger.write() as conn:
            events.append(conn, actor="doctor", action="store.mended", target="store", details={"done": done})
    return done


def _end_dead_work(workspace: Workspace) -> list[str]:
    with workspace.ledger.write() as conn:
        lost = recovery.mark_lost(conn)
        dead = [one.name for one in leases.held(conn) if one.owner is not None and is_known_dead(one.owner)]
        for name in dead:
            leases.revoke(conn, name)
    done = [f"Marked r{run_id} lost: its process is dead." for run_id in lost]
    if dead:
        done.append(f"Took {counted(len(dead), 'lease')} back from dead processes.")
    return done


def _set_aside(workspace: Workspace, found: Survey) -> list[str]:
    damaged = [digest for digest, is_there in found.broken.items() if is_there]
    aside = workspace.home / "damaged"
    for digest in damaged:
        aside.mkdir(exist_ok=True)
        workspace.blobs.path(digest).replace(aside / digest)
    return [f"Set {counted(len(damaged), 'damaged blob')} aside in {aside}."] if damaged else []


def _forget_results(workspace: Workspace, found: Survey) -> list[str]:
    nodes: set[str] = set()
    with workspace.ledger.write() as conn:
        for digest in found.broken:
            need = found.refs.blobs[digest]
            for artifact in need.artifacts if need.results else ():
                results.drop_holding(conn, artifact)
            nodes |= need.results
    return [f"Forgot the result of {name}, so that the next run makes it again." for name in sorted(nodes)]
