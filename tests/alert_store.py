"""A store with alerts in it: what windows say is followed as the loop does, and who hears stands in the policy."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import msgspec

from alert_windows import FIRST
from penstock.core.clock import Clock
from penstock.monitoring.findings import Window
from penstock.project.alerting import Delivered, deliver, follow
from penstock.project.alerting.deliver import Limits
from penstock.project.workspace import Workspace, open_workspace
from penstock.store.ledger import alerts, deliveries, windows

IMPATIENT = Limits(send_s=2.0, begin_s=2.0)


@dataclass(slots=True)
class Store:
    """A project of which only the store matters."""

    root: Path
    now: datetime = FIRST

    @contextmanager
    def opened(self) -> Iterator[Workspace]:
        """Open it at its time."""
        moment = self.now
        with open_workspace(self.root, Clock(now=lambda: moment)) as workspace:
            yield workspace

    def policy(self, text: str) -> None:
        """Say who hears."""
        (self.root / "penstock.toml").write_text(f"[movies.alerts]\n{text}\n", encoding="utf-8")

    def put(self, *found: Window, pipeline: str = "movies") -> None:
        """Record windows, as monitors do, and go no further."""
        with self.opened() as workspace, workspace.ledger.write() as conn:
            windows.put(conn, pipeline, [_new(window) for window in found])

    def follow(self, *found: Window, pipeline: str = "movies") -> None:
        """Tell windows at the end of the last."""
        self.now = max([self.now, *(window.end for window in found)])
        self.put(*found, pipeline=pipeline)
        with self.opened() as workspace:
            follow(workspace, pipeline, found, self.now)

    def deliver(self, limits: Limits | None = None) -> Delivered:
        """Send what is due."""
        with self.opened() as workspace:
            return deliver(workspace, self.now, limits=limits)

    def alerts(self) -> list[alerts.Alert]:
        """Return all, the oldest first."""
        with self.opened() as workspace, workspace.ledger.read() as conn:
            return alerts.page(conn, limit=2000)[::-1]

    def deliveries(self) -> Sequence[deliveries.Delivery]:
        """Return all messages of all alerts."""
        with self.opened() as workspace, workspace.ledger.read() as conn:
            return [one for alert in alerts.page(conn, limit=2000) for one in deliveries.of_alert(conn, alert.id)]


def _new(window: Window) -> windows.NewWindow:
    return windows.NewWindow(
        monitor=window.monitor,
        start_at=window.start,
        end_at=window.end,
        rows=window.rows,
        release=window.release,
        findings=msgspec.to_builtins(window.findings),
    )
