"""The first ledger: all tables of version 0.1."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables. Written out, not taken from `schema`: a revision never changes once released."""
    _runs()
    _results()
    _evidence()
    _records()


def _runs() -> None:
    op.create_table("meta", sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))
    op.create_table(
        "runs",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("now_at", sa.Text),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("finished_at", sa.Text),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("graph_digest", sa.Text, nullable=False),
        sa.Column("code_digest", sa.Text, nullable=False),
        sa.Column("environment_digest", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("release", sa.Text),
        sa.Column("manifest_digest", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("runs_by_pipeline", "runs", ["pipeline", "id"])
    op.create_index("runs_by_state", "runs", ["state", "id"])
    op.create_index("runs_by_pipeline_state", "runs", ["pipeline", "state", "id"])
    op.create_table(
        "run_nodes",
        sa.Column("run_id", _ID, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("part", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("result", sa.Text),
    )
    op.create_table(
        "attempts",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("run_id", _ID, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("part", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("finished_at", sa.Text),
        sa.Column("wall_s", sa.Double),
        sa.Column("cpu_s", sa.Double),
        sa.Column("peak_bytes", sa.BigInteger),
        sa.Column("failure", sa.Text),
        sa.Column("worker", sa.Text),
        sa.Column("log", sa.Text, nullable=False),
        sa.UniqueConstraint("run_id", "node", "part", "number", name="attempts_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("attempts_by_state", "attempts", ["state"])


def _results() -> None:
    op.create_table(
        "results",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("part", sa.Text, nullable=False),
        sa.Column("outputs", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("explanation", sa.Text, nullable=False),
        sa.Column("attempt_id", sa.BigInteger),
        sa.Column("made_at", sa.Text, nullable=False),
        sa.Column("last_run_id", sa.BigInteger, nullable=False),
    )
    op.create_index("results_by_node", "results", ["pipeline", "node", "part", "last_run_id"])
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("codec", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger),
        sa.Column("meta", sa.Text, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("made_at", sa.Text, nullable=False),
    )
    op.create_table(
        "dataset_versions",
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("taken_at", sa.Text, nullable=False),
    )


def _evidence() -> None:
    op.create_table(
        "checks",
        sa.Column("run_id", _ID, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("built_in", sa.Boolean, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
    )
    op.create_table(
        "metrics",
        sa.Column("run_id", _ID, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("metric", sa.Text, primary_key=True),
        sa.Column("slice", sa.Text, primary_key=True),
        sa.Column("value_of_slice", sa.Text, primary_key=True),
        sa.Column("mean", sa.Double, nullable=False),
        sa.Column("low", sa.Double, nullable=False),
        sa.Column("high", sa.Double, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
    )


def _records() -> None:
    op.create_table(
        "releases",
        sa.Column("pipeline", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("manifest_digest", sa.Text, nullable=False),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("made_at", sa.Text, nullable=False),
        sa.UniqueConstraint("pipeline", "hash", name="releases_once"),
    )
    op.create_table(
        "endpoints",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("release_version", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.Text, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["pipeline", "release_version"], ["releases.pipeline", "releases.version"]),
    )
    op.create_table(
        "events",
        sa.Column("id", _ID, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
    )
    op.create_index("events_by_target", "events", ["target", "id"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires_s", sa.Double, nullable=False),
        sa.Column("boot", sa.Text, nullable=False),
    )
