"""Proves that a release can be served: loaded from the blobs alone, it answers as the pipeline did.

The process that does so also looks for faster equivalents of the release's models, and proves those.
"""

import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

import msgspec

from penstock.checks.answers import same_answers
from penstock.core.errors import StepError
from penstock.core.records import CheckResult, Record
from penstock.project.asking import ask_process
from penstock.project.workspace import Workspace, released_code
from penstock.releases.manifest import Manifest, StandIn, encode_manifest
from penstock.serving.processes.staying import ProveOrder

PROOF = "same_answers"
STAND_INS = "faster_equivalents"


class Asked(Record, frozen=True, kw_only=True):
    """What one answer took in a serving process."""

    cpu_s: float
    peak_bytes: int


class Proof(Record, frozen=True, kw_only=True):
    """What a serving process found about a release.

    Attributes:
        check: Whether it gives the answers the pipeline gave to the same requests.
        stand_ins: The faster equivalents that were proven, for the manifest.
        measured: How much faster they were, for the record of the run: times are no part of what a release is.
        asked: What an answer took, by serve function.
    """

    check: CheckResult
    stand_ins: dict[str, dict[str, StandIn]] = {}
    measured: CheckResult | None = None
    asked: dict[str, Asked] = {}


class _StandIns(msgspec.Struct, frozen=True):
    stand_ins: dict[str, dict[str, StandIn]] = {}
    gains: dict[str, dict[str, dict[str, float]]] = {}
    error: str = ""


def prove(manifest: Manifest, workspace: Workspace) -> Proof:
    """Load the release in a serving process, ask it what the pipeline was asked, and look for faster equivalents."""
    if not manifest.graph.nodes or not any(n.role == "serve" for n in manifest.graph.nodes):
        return _proof("the pipeline has no serve function, so there is nothing to prove", passed=True)
    digest = workspace.blobs.put(encode_manifest(manifest))
    lines, ended = _asked(manifest, digest, workspace)
    if not lines:
        return _proof(f"the serving process ended with {ended}", passed=False)
    envelope: dict[str, Any] = msgspec.json.decode(lines[0])
    if "error" in envelope:
        return _proof(f"the release cannot be served: {envelope['error']}", passed=False)
    check = _same(manifest, envelope["answers"])
    # A library that dies while it converts a model costs the equivalent, not the release.
    none = _StandIns(error=f"the process that looked for equivalents ended with {ended}")
    found = msgspec.json.decode(lines[1], type=_StandIns) if len(lines) > 1 else none
    asked = msgspec.convert(envelope["asked"], dict[str, Asked])
    return Proof(check=check, stand_ins=found.stand_ins, measured=_measured(found), asked=asked)


def _asked(manifest: Manifest, digest: str, workspace: Workspace) -> tuple[list[bytes], str]:
    """Return what the serving process said, line by line, and how it ended."""
    if workspace.crew.stays:
        order = ProveOrder(home=os.fspath(workspace.home), manifest=digest)
        code = os.fspath(released_code(manifest, workspace))
        with suppress(StepError):  # it died: a process of its own shows of what
            told = ask_process("penstock.serving.processes.prove", order, list[msgspec.Raw], workspace, code=code)
            return [bytes(part) for part in told], "0"
    command = [sys.executable, "-P", "-m", "penstock.serving.processes.prove", os.fspath(workspace.home), digest]
    done = subprocess.run(command, cwd=workspace.settings.root, capture_output=True, check=False)
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return done.stdout.splitlines(), f"{done.returncode}: {' '.join(last)}"


def _same(manifest: Manifest, found: dict[str, list[Any]]) -> CheckResult:
    names = [n for n in sorted(manifest.examples) if n in found]
    expected = [e.answer for n in names for e in manifest.examples[n]]
    if not expected:
        return _result(
            "loaded and importable, but not asked: no column is named like its required fields; "
            "give serve(examples=[...]) some requests",
            passed=True,
        )
    return same_answers(expected, [answer for n in names for answer in found[n]])


def _measured(found: _StandIns) -> CheckResult | None:
    """Return the gains in words and numbers; None when the release has no model of a known kind."""
    told = [
        f"{argument} of {function} by {found.stand_ins[function][argument].kind}: "
        f"{gain['one_row']:g} times on one row, {gain['thousand_rows']:g} on a thousand"
        for function, gains in found.gains.items()
        for argument, gain in gains.items()
    ]
    if not found.stand_ins and not found.error:
        return None
    message = "; ".join(told) or found.error or "no equivalent was proven"
    return CheckResult(name=STAND_INS, passed=True, built_in=True, message=message, evidence={"gains": found.gains})


def _proof(message: str, *, passed: bool) -> Proof:
    return Proof(check=_result(message, passed=passed))


def _result(message: str, *, passed: bool) -> CheckResult:
    return CheckResult(name=PROOF, passed=passed, built_in=True, message=message)
