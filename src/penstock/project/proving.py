"""Proves that a release can be served: loaded from the blobs alone, it answers as the pipeline did."""

import os
import subprocess
import sys
from typing import Any

import msgspec

from penstock.checks.answers import same_answers
from penstock.core.records import CheckResult
from penstock.project.workspace import Workspace
from penstock.releases.manifest import Manifest, encode_manifest

PROOF = "same_answers"


def prove(manifest: Manifest, workspace: Workspace) -> CheckResult:
    """Return the check that a serving process gives the answers the pipeline gave to the same requests."""
    if not manifest.graph.nodes or not any(n.role == "serve" for n in manifest.graph.nodes):
        return _result("the pipeline has no serve function, so there is nothing to prove", passed=True)
    digest = workspace.blobs.put(encode_manifest(manifest))
    command = [sys.executable, "-P", "-m", "penstock.serving.processes.prove", os.fspath(workspace.home), digest]
    done = subprocess.run(command, cwd=workspace.settings.root, capture_output=True, check=False)
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return _result(f"the serving process ended with {done.returncode}: {' '.join(last)}", passed=False)
    envelope: dict[str, Any] = msgspec.json.decode(done.stdout)
    if "error" in envelope:
        return _result(f"the release cannot be served: {envelope['error']}", passed=False)
    found: dict[str, list[Any]] = envelope["answers"]
    names = [n for n in sorted(manifest.examples) if n in found]
    expected = [e.answer for n in names for e in manifest.examples[n]]
    if not expected:
        return _result(
            "loaded and importable, but not asked: no column is named like its required fields; "
            "give serve(examples=[...]) some requests",
            passed=True,
        )
    return same_answers(expected, [answer for n in names for answer in found[n]])


def _result(message: str, *, passed: bool) -> CheckResult:
    return CheckResult(name=PROOF, passed=passed, built_in=True, message=message)
