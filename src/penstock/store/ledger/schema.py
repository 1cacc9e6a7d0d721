"""The tables of the ledger, as it is now.

Belongs here: columns, keys and the indexes that listings need. How an older ledger gets here: `migrations/versions`;
a test holds the two identical.
"""

import sqlalchemy as sa

from penstock.store.ledger.types import AnyText, ExactFloat, Json, Moment

VERSION = 4  # the newest revision under migrations/versions, as a number

metadata = sa.MetaData()
# SQLite gives out ids by itself only for a column of exactly this type.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Named as Alembic names it, so that one row says the version to Alembic and to `Ledger.open`.
version = sa.Table("alembic_version", metadata, sa.Column("version_num", sa.String(32), primary_key=True))

meta = sa.Table(
    "meta", metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("cause", AnyText, nullable=False),
    sa.Column("now_at", sa.Text),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("finished_at", Moment),
    sa.Column("params", Json, nullable=False),
    sa.Column("graph_digest", sa.Text, nullable=False),
    sa.Column("code_digest", sa.Text, nullable=False),
    sa.Column("environment_digest", sa.Text, nullable=False),
    sa.Column("engine", sa.Text, nullable=False),
    sa.Column("owner", Json, nullable=False),
    sa.Column("error", Json),
    sa.Column("release", sa.Text),
    sa.Column("manifest_digest", sa.Text),
    sa.Index("runs_by_pipeline", "pipeline", "id"),
    sa.Index("runs_by_state", "state", "id"),
    sa.Index("runs_by_pipeline_state", "pipeline", "state", "id"),
    sa.Index("runs_by_end", "pipeline", "finished_at"),
    # Few runs make a release: the newest that did is found without passing all that did not. PostgreSQL gets it whole:
    # a condition of its own would load its dialect here, 50 ms of every command.
    sa.Index("runs_released", "pipeline", "id", sqlite_where=sa.text("release IS NOT NULL")),
    sqlite_autoincrement=True,  # an id is never given twice, not even after the newest run was deleted
)

run_nodes = sa.Table(
    "run_nodes",
    metadata,
    sa.Column("run_id", _ID, sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("part", AnyText, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", AnyText, nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("result", Json),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("run_id", _ID, sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("part", AnyText, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("finished_at", Moment),
    sa.Column("wall_s", ExactFloat),
    sa.Column("cpu_s", ExactFloat),
    sa.Column("peak_bytes", sa.BigInteger),
    sa.Column("failure", Json),
    sa.Column("worker", Json),
    sa.Column("log", AnyText, nullable=False),
    sa.UniqueConstraint("run_id", "node", "part", "number", name="attempts_once"),
    sa.Index("attempts_by_state", "state"),
    sqlite_autoincrement=True,
)

results = sa.Table(
    "results",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("part", AnyText, nullable=False),
    sa.Column("outputs", Json, nullable=False),
    sa.Column("facts", Json, nullable=False),
    sa.Column("explanation", Json, nullable=False),
    sa.Column("attempt_id", sa.BigInteger),
    sa.Column("made_at", Moment, nullable=False),
    # Which run used it last: "newest" must not depend on a clock that may stand still or jump.
    sa.Column("last_run_id", sa.BigInteger, nullable=False),
    sa.Index("results_by_node", "pipeline", "node", "part", "last_run_id"),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("codec", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger),
    sa.Column("meta", Json, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("made_at", Moment, nullable=False),
)

dataset_versions = sa.Table(
    "dataset_versions",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("record", Json, nullable=False),
    sa.Column("run_id", sa.BigInteger),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("taken_at", Moment, nullable=False),
)

checks = sa.Table(
    "checks",
    metadata,
    sa.Column("run_id", _ID, sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("built_in", sa.Boolean, nullable=False),
    sa.Column("message", AnyText, nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("at", Moment, nullable=False),
)

metrics = sa.Table(
    "metrics",
    metadata,
    sa.Column("run_id", _ID, sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("slice", sa.Text, primary_key=True),
    sa.Column("value_of_slice", AnyText, primary_key=True),
    sa.Column("mean", ExactFloat, nullable=False),
    sa.Column("low", ExactFloat, nullable=False),
    sa.Column("high", ExactFloat, nullable=False),
    sa.Column("n", sa.BigInteger, nullable=False),
)

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("manifest_digest", sa.Text, nullable=False),
    sa.Column("run_id", sa.BigInteger),
    sa.Column("made_at", Moment, nullable=False),
    sa.UniqueConstraint("pipeline", "hash", name="releases_once"),
)

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("release_version", sa.BigInteger, nullable=False),
    sa.Column("changed_at", Moment, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["pipeline", "release_version"], ["releases.pipeline", "releases.version"]),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("actor", AnyText, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", AnyText, nullable=False),
    sa.Column("details", Json, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Index("events_by_target", "target", "id"),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("owner", Json),  # NULL: released, and anyone's
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("expires_s", sa.Double, nullable=False),
    sa.Column("boot", sa.Text, nullable=False),
)

# Why a run exists, or why there was none: one row per cause, whoever decides it and however often.
causes = sa.Table(
    "causes",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("decided_at", Moment, nullable=False),
    sa.Column("finished_at", Moment),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("reason", AnyText, nullable=False),
    sa.Column("figures", Json, nullable=False),
    sa.Column("run_id", sa.BigInteger),
    sa.Column("owner", Json),
    sa.UniqueConstraint("pipeline", "kind", "key", name="causes_once"),
    sa.Index("causes_by_state", "state", "priority", "id"),
    sqlite_autoincrement=True,
)

windows = sa.Table(
    "windows",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("monitor", sa.Text, primary_key=True),
    sa.Column("start_at", Moment, primary_key=True),
    sa.Column("end_at", Moment, nullable=False),
    sa.Column("release", sa.Text),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("findings", Json, nullable=False),
    sa.Column("profile", sa.Text),  # digest of the blob that holds the profile of its rows
    sa.Column("basis", sa.BigInteger, nullable=False),  # version of the table that it was computed from
    sa.Column("computed_at", Moment, nullable=False),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", AnyText, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("open_key", AnyText),  # its cause while it is open, then NULL: one open alert per cause
    sa.Column("raised_at", Moment, nullable=False),
    sa.Column("seen_at", Moment, nullable=False),
    sa.Column("resolved_at", Moment),
    sa.Column("release", sa.Text),
    sa.Column("windows", sa.BigInteger, nullable=False),
    sa.Column("finding", Json, nullable=False),
    sa.Column("actions", Json, nullable=False),
    sa.Column("disposition", sa.Text),
    sa.Column("disposed_by", sa.Text),
    sa.UniqueConstraint("pipeline", "open_key", name="alerts_open_once"),
    sa.Index("alerts_by_pipeline", "pipeline", "id"),
    sqlite_autoincrement=True,
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("alert_id", _ID, sa.ForeignKey("alerts.id"), primary_key=True),
    sa.Column("event", sa.Text, primary_key=True),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("next_at", Moment, nullable=False),
    sa.Column("error", AnyText, nullable=False),
    sa.Index("deliveries_by_state", "state", "next_at"),
)

# A candidate on its way to the users of an endpoint, step by step; at most one is under way per pipeline.
rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("candidate", sa.BigInteger, nullable=False),  # version of the release
    sa.Column("base", sa.BigInteger),  # version of the release that was live when it began; NULL: none was
    sa.Column("open_key", sa.Text),  # the pipeline while it is under way, then NULL
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("stages", Json, nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("hold_s", ExactFloat, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("entered_at", Moment, nullable=False),
    sa.Column("finished_at", Moment),
    sa.Column("approvals", Json, nullable=False),
    sa.Column("reason", AnyText, nullable=False),
    sa.Column("figures", Json, nullable=False),
    sa.UniqueConstraint("open_key", name="rollouts_open_once"),
    sa.Index("rollouts_by_pipeline", "pipeline", "id"),
    sqlite_autoincrement=True,
)

# What was measured or shown of a release or a run after it was made: replays, load, drills, timings, verdicts.
evidence = sa.Table(
    "evidence",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),  # "movies@3" or "r41"
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("by", AnyText, nullable=False),
    sa.Column("passed", sa.Boolean),
    sa.Column("figures", Json, nullable=False),
    sa.Index("evidence_by_subject", "pipeline", "kind", "subject", "id"),
    sqlite_autoincrement=True,
)

# Applications that ask: who they are, what they may ask and what they were promised.
consumers = sa.Table(
    "consumers",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("key_hash", sa.Text, nullable=False),
    sa.Column("quota", Json, nullable=False),
    sa.Column("promise", Json, nullable=False),
    sa.Column("contract", Json, nullable=False),
    sa.Column("made_at", Moment, nullable=False),
    sa.Column("made_by", AnyText, nullable=False),
    sa.Column("revoked_at", Moment),
    sa.UniqueConstraint("key_id", name="consumers_key_once"),
)

# A split that decides: arms, the plan made before it began, and the verdict. At most one is open per pipeline.
experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("open_key", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("arms", Json, nullable=False),
    sa.Column("plan", Json, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("finished_at", Moment),
    sa.Column("verdict", Json),
    sa.UniqueConstraint("open_key", name="experiments_open_once"),
    sa.UniqueConstraint("pipeline", "name", name="experiments_once"),
    sqlite_autoincrement=True,
)

# Who may sign in. One who is removed keeps the name, under which events stand.
people = sa.Table(
    "people",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("made_at", Moment, nullable=False),
    sa.Column("made_by", AnyText, nullable=False),
    sa.Column("removed_at", Moment),
)

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("person", sa.Text, sa.ForeignKey("people.name"), primary_key=True),
    sa.Column("pipeline", sa.Text, primary_key=True),  # "": all of them
    sa.Column("role", sa.Text, nullable=False),
)

# Sign-in addresses, sessions and tokens of programs; of each only the hash.
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("person", sa.Text, sa.ForeignKey("people.name"), nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("role", sa.Text),
    sa.Column("made_at", Moment, nullable=False),
    sa.Column("expires_at", Moment),
    sa.Column("used_at", Moment),
    sa.Column("revoked_at", Moment),
    sa.Index("tokens_by_person", "person"),
)
