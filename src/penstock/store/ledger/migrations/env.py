"""What Alembic runs: the revisions, on the connection that `migrate` hands over."""

from alembic import context

from penstock.core import faults
from penstock.store.ledger.schema import metadata


def _run() -> None:
    # After each revision but before the commit: the worst moment to die.
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        on_version_apply=lambda **_: faults.point("migration_mid"),
    )
    with context.begin_transaction():
        context.run_migrations()


_run()
