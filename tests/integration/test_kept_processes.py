"""Processes that stay between runs do what the code says now, not what it said when they were started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from penstock.core.clock import Clock
from penstock.core.settings import load_settings
from penstock.project.crew import kept_crew
from penstock.project.running import RunOptions, run_graph
from penstock.project.targets import find_graph
from penstock.project.workspace import open_store, read_manifest
from penstock.store import codecs
from penstock.store.ledger import releases
from run_processes import chain_project


def test_changed_code_is_run_by_processes_that_know_it(tmp_path: Path) -> None:
    """Q1: what is kept under a fingerprint was made by that code, also where processes outlast a run."""
    project = chain_project(tmp_path)
    found = []
    with kept_crew() as crew, open_store(load_settings(tmp_path), Clock(), crew) as workspace:
        for factor in (2, 2, 5):
            if factor == 5:
                project.change('pl.col("x") * 2', 'pl.col("x") * 5', "chain.py")
            report = run_graph(find_graph(workspace, "chain"), workspace, RunOptions(params={}))
            assert report.state == "succeeded"
            with workspace.ledger.read() as conn:
                live = releases.live(conn, "chain")
            assert live is not None
            manifest = read_manifest(live.manifest_digest, workspace)
            made: dict[str, float] = codecs.load(manifest.artifacts["total/total"], workspace.blobs)  # type: ignore[assignment]  # what `total` returns
            found.append(made["x"])
    assert found == [found[0], found[0], found[0] / 2 * 5]
