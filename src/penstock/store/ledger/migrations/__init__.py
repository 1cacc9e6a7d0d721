"""How an older ledger becomes the current one: Alembic, run inside the caller's one transaction.

Both databases take DDL in transactions: a process killed half-way leaves the older ledger, and the next starts anew.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

_HERE = Path(__file__).parent


def migrate(conn: sa.Connection, *, revisions: tuple[Path, ...] = (), to: str = "head") -> None:
    """Bring the ledger behind `conn` to a revision, by default the newest.

    Args:
        conn: A writing transaction; all revisions are kept with it or none.
        revisions: Folders of revisions beside the packaged ones.
        to: The revision, as "0001".
    """
    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    places = "\n".join(str(place) for place in (_HERE / "versions", *revisions))
    config.set_main_option("version_locations", places.replace("%", "%%"))
    config.attributes["connection"] = conn
    command.upgrade(config, to)
