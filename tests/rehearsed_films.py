"""The films example on a sample of its own size: what planted rehearsals are about."""

import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "movies"))
import sample  # found only with the folder on the path

from project_folder import Project

START = datetime(2025, 2, 1, tzinfo=UTC)
EXAMPLE = Path(__file__).parents[1] / "examples" / "films"


def films_project(root: Path, *, days: int = 110, per_day: int = 400, users: int = 1500) -> Project:
    """Copy the example, and write the ratings of so many days."""
    project = Project(root, "films")
    for name in ("films.py", "penstock.toml"):
        shutil.copyfile(EXAMPLE / name, root / name)
    ratings, titles = sample.make(days=days, users=users, per_day=per_day)
    (root / "data").mkdir(parents=True, exist_ok=True)
    ratings.filter(ratings["rated_at"] < sample.START + timedelta(days=days)).write_parquet(
        root / "data/ratings.parquet"
    )
    titles.write_parquet(root / "data" / "titles.parquet")
    return project
