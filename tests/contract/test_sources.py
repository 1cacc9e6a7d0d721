"""Every source of ours passes the battery users run on theirs."""

import http.server
import io
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import polars as pl
import psycopg
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock import sources
from penstock.sources.http import Limits
from penstock.testing.sources import CHECKS, SourceCase
from postgres_server import postgres_server


class FileCase:
    """A growing folder of files."""

    is_incremental = True
    is_streamed = True
    can_be_damaged = True

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder = folder
        self.ending = ending
        self.count = 0

    def add(self, rows: pl.DataFrame) -> None:
        path = self.folder / f"part-{self.count:03d}.{self.ending}"
        self.count += 1
        match self.ending:
            case "csv":
                rows.write_csv(path)
            case "jsonl":
                rows.write_ndjson(path)
            case _:
                rows.write_parquet(path)

    def source(self) -> object:
        return sources.files(f"{self.folder}/part-*.{self.ending}", types={"at": pl.Datetime("us")})

    def damage(self) -> None:
        path = self.folder / f"part-000.{self.ending}"
        whole = path.read_bytes()
        # Half a line, as a copy that broke off leaves it.
        path.write_bytes(whole[: whole.rindex(b"," if self.ending == "csv" else b":", 0, len(whole) // 2)])


class PlainCase:
    """A value in memory; what is new in it is the user's business."""

    is_incremental = False
    is_streamed = False
    can_be_damaged = False

    def __init__(self, wrap: Callable[[pl.DataFrame], object]) -> None:
        self.wrap = wrap
        self.rows: list[pl.DataFrame] = []

    def add(self, rows: pl.DataFrame) -> None:
        self.rows.append(rows)

    def source(self) -> object:
        return self.wrap(pl.concat(self.rows))

    def damage(self) -> None:
        raise NotImplementedError


class LazyCase(FileCase):
    """A lazy frame over files: streamed, but the user filters by `since`."""

    is_incremental = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "parquet")

    def source(self) -> object:
        return pl.scan_parquet(f"{self.folder}/*.parquet")


class SqliteCase:
    """A growing SQLite table."""

    is_incremental = True
    is_streamed = True
    can_be_damaged = True

    def __init__(self, folder: Path) -> None:
        self.path = folder / "rows.db"
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, at TIMESTAMP, text TEXT, value REAL)")

    def add(self, rows: pl.DataFrame) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            texts = rows.with_columns(pl.col("at").dt.to_string("%Y-%m-%d %H:%M:%S"))
            connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", texts.rows())

    def source(self) -> object:
        return sources.sql(f"sqlite:///{self.path}", "rows", column="id")

    def damage(self) -> None:
        self.path.write_bytes(b"no database" * 1000)


class PostgresCase:
    """A growing PostgreSQL table."""

    is_incremental = True
    is_streamed = True
    can_be_damaged = True

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS rows")
            connection.execute("CREATE TABLE rows (id bigint, at timestamp, text text, value float8)")

    def add(self, rows: pl.DataFrame) -> None:
        with (
            psycopg.connect(self.url) as connection,
            connection.cursor() as cursor,
            cursor.copy("COPY rows FROM STDIN") as copy,
        ):
            for row in rows.iter_rows():
                copy.write_row(row)

    def source(self) -> object:
        return sources.sql(self.url, "SELECT * FROM rows WHERE value >= 0", column="at")

    def damage(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP TABLE rows")


class HttpCase:
    """A document that grows, behind a server that filters by `since`."""

    is_incremental = True
    is_streamed = True
    can_be_damaged = True

    def __init__(self) -> None:
        self.rows = pl.DataFrame()
        self.damaged = False
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        case = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                rows = case.rows
                if "since" in query:
                    rows = rows.filter(pl.col("id") >= int(query["since"][0]))
                body = io.BytesIO()
                rows.write_csv(body)
                data = body.getvalue()
                self.send_response(200)
                self.send_header("Content-Type", "text/csv")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if case.damaged else data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
                """Say nothing."""

        return Handler

    def add(self, rows: pl.DataFrame) -> None:
        self.rows = pl.concat([self.rows, rows]) if self.rows.width else rows

    def source(self) -> object:
        url = f"http://127.0.0.1:{self.server.server_address[1]}/rows"
        return sources.http(url, column="id", limits=Limits(wait_s=0, tries=2))

    def damage(self) -> None:
        self.damaged = True

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_server() as server:
        yield str(server.get_uri())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_files(check: Callable[[SourceCase], None], ending: str, tmp_path: Path) -> None:
    """Files pass the battery in every format."""
    check(FileCase(tmp_path, ending))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_lazy_frames(check: Callable[[SourceCase], None], tmp_path: Path) -> None:
    """A lazy frame passes the battery."""
    check(LazyCase(tmp_path))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: rows,
        lambda rows: rows.lazy(),
        lambda rows: rows.to_arrow(),
        lambda rows: rows.to_pandas(),
        lambda rows: rows.iter_slices(100),
        lambda rows: rows.to_arrow().to_reader(100),
        lambda rows: iter(rows.to_arrow().to_batches(100)),
        lambda rows: [rows.lazy()],
    ],
    ids=["polars", "lazy", "arrow", "pandas", "frames", "reader", "record_batches", "list"],
)
def test_plain_values(check: Callable[[SourceCase], None], wrap: Callable[[pl.DataFrame], object]) -> None:
    """Plain values pass the battery."""
    check(PlainCase(wrap))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_sqlite(check: Callable[[SourceCase], None], tmp_path: Path) -> None:
    """SQLite passes the battery."""
    check(SqliteCase(tmp_path))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_postgres(check: Callable[[SourceCase], None], postgres_url: str) -> None:
    """PostgreSQL passes the battery."""
    check(PostgresCase(postgres_url))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_http(check: Callable[[SourceCase], None]) -> None:
    """A web server passes the battery."""
    case = HttpCase()
    try:
        check(case)
    finally:
        case.close()
