"""The loop: causes of runs, windows of monitors, alerts and their deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add four tables; what is there stays as it is."""
    _decisions()
    _alerts()


def _decisions() -> None:
    op.create_table(
        "causes",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("decided_at", sa.Text, nullable=False),
        sa.Column("finished_at", sa.Text),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("figures", sa.Text, nullable=False),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("owner", sa.Text),
        sa.UniqueConstraint("pipeline", "kind", "key", name="causes_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("causes_by_state", "causes", ["state", "priority", "id"])
    op.create_table(
        "windows",
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("monitor", sa.Text, primary_key=True),
        sa.Column("start_at", sa.Text, primary_key=True),
        sa.Column("end_at", sa.Text, nullable=False),
        sa.Column("release", sa.Text),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("findings", sa.Text, nullable=False),
        sa.Column("profile", sa.Text),
        sa.Column("basis", sa.BigInteger, nullable=False),
        sa.Column("computed_at", sa.Text, nullable=False),
    )


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("open_key", sa.Text),
        sa.Column("raised_at", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Text, nullable=False),
        sa.Column("resolved_at", sa.Text),
        sa.Column("release", sa.Text),
        sa.Column("windows", sa.BigInteger, nullable=False),
        sa.Column("finding", sa.Text, nullable=False),
        sa.Column("actions", sa.Text, nullable=False),
        sa.Column("disposition", sa.Text),
        sa.Column("disposed_by", sa.Text),
        sa.UniqueConstraint("pipeline", "open_key", name="alerts_open_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("alerts_by_pipeline", "alerts", ["pipeline", "id"])
    op.create_table(
        "deliveries",
        sa.Column("alert_id", _ID, sa.ForeignKey("alerts.id"), primary_key=True),
        sa.Column("event", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_index("deliveries_by_state", "deliveries", ["state", "next_at"])
