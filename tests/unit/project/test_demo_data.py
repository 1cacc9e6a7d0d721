"""Where the demonstration takes place, and with whose data."""

import tomllib
from pathlib import Path

import pytest

from penstock.core.errors import NotFoundError
from penstock.core.settings import load_settings
from penstock.project import demo


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).touch()


def test_tables_are_found_by_name_and_kind(tmp_path: Path) -> None:
    """Titles may be called movies; parquet wins over CSV; paths are absolute, as they are written to a file."""
    touch(tmp_path, "ratings.csv", "ratings.parquet", "movies.csv")
    assert demo.find_tables(tmp_path) == {"ratings": tmp_path / "ratings.parquet", "titles": tmp_path / "movies.csv"}


def test_a_missing_table_is_named_with_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "ratings.parquet")
    with pytest.raises(NotFoundError, match=r"holds no titles.*titles\.parquet, titles\.csv, movies\.parquet"):
        demo.find_tables(tmp_path)


def test_each_data_has_a_directory_of_its_own(tmp_path: Path) -> None:
    """Rows of one source never land in the lake of another."""
    assert demo.directory_for(None) == Path("demo-movies")
    assert demo.directory_for(tmp_path / "tweets") == Path("demo-movies-tweets")


def test_your_data_is_named_in_the_settings_of_the_project(tmp_path: Path) -> None:
    """Whatever its path looks like, a plain `penstock run` in the project finds it."""
    data = tmp_path / 'odd "name" é'
    data.mkdir()
    touch(data, "ratings.parquet", "titles.parquet")
    stage = demo.set_up(tmp_path / "project", data)
    assert stage.is_new
    assert tomllib.loads((tmp_path / "project" / "penstock.toml").read_text(encoding="utf-8"))
    settings = load_settings(tmp_path / "project")
    for pipeline in ("movies", "als"):
        assert settings.policy(pipeline).params["ratings.path"] == str(data / "ratings.parquet")
    assert not demo.set_up(tmp_path / "project", data).is_new
