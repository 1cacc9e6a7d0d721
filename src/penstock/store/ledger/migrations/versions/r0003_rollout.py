"""Rollout and proof: candidates on their way, what was measured of releases, who asks, and splits that decide."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add four tables; what is there stays as it is."""
    _rollouts()
    _evidence()
    _consumers()
    _experiments()


def _rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("candidate", sa.BigInteger, nullable=False),
        sa.Column("base", sa.BigInteger),
        sa.Column("open_key", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("stages", sa.Text, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("hold_s", sa.Double, nullable=False),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("entered_at", sa.Text, nullable=False),
        sa.Column("finished_at", sa.Text),
        sa.Column("approvals", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("figures", sa.Text, nullable=False),
        sa.UniqueConstraint("open_key", name="rollouts_open_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("rollouts_by_pipeline", "rollouts", ["pipeline", "id"])


def _evidence() -> None:
    op.create_table(
        "evidence",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("passed", sa.Boolean),
        sa.Column("figures", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("evidence_by_subject", "evidence", ["pipeline", "kind", "subject", "id"])


def _consumers() -> None:
    op.create_table(
        "consumers",
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("key_hash", sa.Text, nullable=False),
        sa.Column("quota", sa.Text, nullable=False),
        sa.Column("promise", sa.Text, nullable=False),
        sa.Column("contract", sa.Text, nullable=False),
        sa.Column("made_at", sa.Text, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("revoked_at", sa.Text),
        sa.UniqueConstraint("key_id", name="consumers_key_once"),
    )


def _experiments() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("open_key", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("arms", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("finished_at", sa.Text),
        sa.Column("verdict", sa.Text),
        sa.UniqueConstraint("open_key", name="experiments_open_once"),
        sa.UniqueConstraint("pipeline", "name", name="experiments_once"),
        sqlite_autoincrement=True,
    )
