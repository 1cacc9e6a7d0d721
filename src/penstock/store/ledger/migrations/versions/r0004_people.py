"""People who sign in, what they may do, and their tokens; and indexes by which a ledger of a million runs is quick."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add three tables and two indexes; what is there stays as it is."""
    op.create_table(
        "people",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("made_at", sa.Text, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("removed_at", sa.Text),
    )
    op.create_table(
        "grants",
        sa.Column("person", sa.Text, sa.ForeignKey("people.name"), primary_key=True),
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("person", sa.Text, sa.ForeignKey("people.name"), nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("role", sa.Text),
        sa.Column("made_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text),
        sa.Column("used_at", sa.Text),
        sa.Column("revoked_at", sa.Text),
    )
    op.create_index("tokens_by_person", "tokens", ["person"])
    op.create_index("runs_by_end", "runs", ["pipeline", "finished_at"])
    op.create_index("runs_released", "runs", ["pipeline", "id"], sqlite_where=sa.text("release IS NOT NULL"))
