"""`penstock up` tells people beside its looks: a receiver that hangs holds up neither looks nor other receivers."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from alert_receivers import receiver
from alert_windows import finding
from loop_project import Loop, chain_loop
from penstock.monitoring.findings import Window
from penstock.project.alerting import follow
from penstock.store.ledger import deliveries
from project_folder import COMMAND
from run_processes import until


def states(loop: Loop) -> dict[str, str]:
    """Return how the messages of the first alert stand, by channel."""
    with loop.project.opened() as workspace, workspace.ledger.read() as conn:
        return {one.channel: one.state for one in deliveries.of_alert(conn, 1)}


def test_the_worker_looks_on_while_a_receiver_hangs(tmp_path: Path) -> None:
    """M5: three looks come while the message is still under way; the other receiver has heard; SIGTERM ends it."""
    with receiver() as slow, receiver() as quick:
        slow.answers += ["hang"] * 20
        channels = f'webhook = "{slow.url}", slack = "{quick.url}"'
        loop = chain_loop(tmp_path, f'retrain_on = []\nintake = "100d"\nalerts = {{ {channels} }}')
        now = datetime.now(UTC)
        window = Window(monitor="data:events", start=now - timedelta(hours=1), end=now, rows=9, findings=(finding(),))
        with loop.project.opened() as workspace:
            follow(workspace, "chain", [window], now)
        with (tmp_path / "beats").open("w") as beats:
            words = [*COMMAND, "up", "--every", "50ms", "--json"]
            worker = subprocess.Popen(words, cwd=tmp_path, stdout=beats, stderr=subprocess.DEVNULL, env={**os.environ})
        try:
            until(lambda: slow.heard and states(loop)["slack"] == "sent")
            before = len((tmp_path / "beats").read_text().splitlines())
            until(lambda: len((tmp_path / "beats").read_text().splitlines()) >= before + 3)
            assert states(loop)["webhook"] == "sending"
            assert len(quick.heard) == 1
        finally:
            slow.closing.set()
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
    assert json.loads((tmp_path / "beats").read_text().splitlines()[0])["pipelines"] == 1
