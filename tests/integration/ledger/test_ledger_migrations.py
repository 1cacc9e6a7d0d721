"""Migrations: the same schema by either way, a backup first, all or nothing under kill -9."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.store.ledger import Ledger, runs, schema
from penstock.store.ledger.doctor import check_ledger
from penstock.store.ledger.errors import backups_of
from penstock.store.ledger.migrations import migrate

OPEN = "import sys; from penstock.store.ledger import Ledger; Ledger.open(sys.argv[1]).close()"
LATER = f"""
import sqlalchemy as sa
from alembic import op
revision = "9999"
down_revision = "{schema.VERSION:04}"
def upgrade():
    op.add_column("runs", sa.Column("note", sa.Text, nullable=False, server_default="none"))
"""


def begun(url: str) -> sa.Engine:
    """Make a ledger as of before the first revision: Alembic has been there and nothing else."""
    driver = url.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(driver)
    schema.metadata.create_all(engine, tables=[schema.version])
    return engine


def described(engine: sa.Engine) -> dict[str, Any]:
    inspector = sa.inspect(engine)
    return {
        name: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)],
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted((i["name"] or "", i["column_names"]) for i in inspector.get_indexes(name)),
            sorted(u["column_names"] for u in inspector.get_unique_constraints(name)),
            sorted((f["constrained_columns"], f["referred_table"]) for f in inspector.get_foreign_keys(name)),
        )
        for name in inspector.get_table_names()
    }


def test_migrations_give_the_same_schema_as_creation(url: str, tmp_path: Path) -> None:
    """A ledger that came here by migrations cannot be told from one made today."""
    migrated = begun(url)
    Ledger.open(url).close()
    found = described(migrated)
    with migrated.begin() as conn:
        assert conn.execute(sa.select(schema.version)).scalars().all() == [f"{schema.VERSION:04}"]
        schema.metadata.drop_all(conn)
        conn.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
    Ledger.open(url).close()
    assert described(migrated) == found
    assert set(found) == set(schema.metadata.tables)
    migrated.dispose()


def test_creation_and_migration_write_the_same_sql(tmp_path: Path) -> None:
    """On SQLite the very text of every table and index is the same, AUTOINCREMENT included."""
    texts = []
    for name in ("migrated", "made"):
        url = f"sqlite:///{tmp_path / name}.db"
        if name == "migrated":
            begun(url).dispose()
        ledger = Ledger.open(url)
        with ledger.read() as conn:
            rows = conn.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").all()
        texts.append({row.name: "".join(row.sql.split()) for row in rows})
        ledger.close()
    assert texts[0] == texts[1]


def test_kill_in_the_middle_of_a_migration_leaves_the_old_ledger(url: str, tmp_path: Path) -> None:
    """Fault 30: kill -9 between the changes and the commit keeps the old schema; the next start migrates."""
    engine = begun(url)
    killed = subprocess.run(
        [sys.executable, "-c", OPEN, url], check=False, env={**os.environ, "PENSTOCK_FAULT": "migration_mid:kill"}
    )
    assert killed.returncode == -9
    assert set(described(engine)) == {"alembic_version"}
    if url.startswith("sqlite"):
        assert len(backups_of(tmp_path / "ledger.db")) == 1
    subprocess.run([sys.executable, "-c", OPEN, url], check=True)
    assert set(described(engine)) == set(schema.metadata.tables)
    engine.dispose()
    ledger = Ledger.open(url)
    assert check_ledger(ledger) == []
    ledger.close()


def test_a_later_revision_keeps_the_facts(ledger: Ledger, new_run: Any, tmp_path: Path) -> None:
    """A revision added to a full ledger changes the schema and keeps every row."""
    revisions = tmp_path / "revisions"
    revisions.mkdir()
    (revisions / "r9999_note.py").write_text(LATER, encoding="utf-8")
    with ledger.write() as conn:
        run_id = runs.create(conn, new_run)
    with ledger.write() as conn:
        migrate(conn, revisions=(revisions,))
    with ledger.read() as conn:
        assert conn.exec_driver_sql("SELECT id, note FROM runs").all() == [(run_id, "none")]
        assert runs.get(conn, run_id).pipeline == "movies"


def test_a_ledger_of_the_first_version_is_taken_along(tmp_path: Path) -> None:
    """Fault 30: what was kept before the loop existed is there after the migration, with a backup beside it."""
    path = tmp_path / "ledger.db"
    engine = begun(f"sqlite:///{path}")
    with engine.begin() as conn:
        migrate(conn, to="0001")
        conn.exec_driver_sql("INSERT INTO meta (key, value) VALUES ('kept', 'before')")
    engine.dispose()
    ledger = Ledger.open(f"sqlite:///{path}")
    with ledger.read() as conn:
        assert conn.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == "kept")).scalar_one() == "before"
        assert conn.execute(sa.select(schema.version)).scalars().all() == [f"{schema.VERSION:04}"]
        assert conn.execute(sa.select(sa.func.count()).select_from(schema.alerts)).scalar_one() == 0
    ledger.close()
    assert backups_of(path)
