"""What single sources promise beyond the battery."""

import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from penstock import sources
from penstock.core.errors import DataError, InputError
from penstock.sources.http import Limits
from penstock.testing.sources import read_all

Answer = tuple[int, dict[str, str], bytes]


class Server:
    """A web server that answers what the test says, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[str], Answer] = lambda _: (404, {}, b"")
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers)))
                status, headers, body = outer.answer(self.path)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()
    server.thread.join()


PATIENT = Limits(wait_s=0, tries=3)


def test_a_document_that_did_not_change_gives_nothing(server: Server) -> None:
    """The stored ETag is sent; 304 and equal bytes both mean nothing new."""
    server.answer = lambda _: (200, {"ETag": '"one"'}, b"id\n1\n2\n")
    rows, cursor = read_all(sources.http(f"{server.url}/rows.csv", limits=PATIENT))
    assert rows["id"].to_list() == [1, 2]
    server.answer = lambda _: (304, {}, b"")
    assert read_all(sources.http(f"{server.url}/rows.csv", limits=PATIENT), cursor)[0].height == 0
    assert server.asked[-1][1]["If-None-Match"] == '"one"'
    server.answer = lambda _: (200, {"ETag": '"two"'}, b"id\n1\n2\n")
    assert read_all(sources.http(f"{server.url}/rows.csv", limits=PATIENT), cursor)[0].height == 0
    server.answer = lambda _: (200, {"ETag": '"three"'}, b"id\n3\n")
    assert read_all(sources.http(f"{server.url}/rows.csv", limits=PATIENT), cursor)[0]["id"].to_list() == [3]


def test_pages_are_followed(server: Server) -> None:
    """Links to the next page are followed to the end."""

    def answer(path: str) -> Answer:
        number = int(path.rpartition("=")[2])
        links = {"Link": f'</rows?page={number + 1}>; rel="next"'} if number < 3 else {}
        return 200, {"Content-Type": "application/json", **links}, b'[{"id": %d}]' % number

    server.answer = answer
    rows, _ = read_all(sources.http(f"{server.url}/rows?page=1", limits=PATIENT))
    assert rows["id"].to_list() == [1, 2, 3]
    with pytest.raises(DataError, match="more than 2 pages"):
        read_all(sources.http(f"{server.url}/rows?page=1", limits=Limits(pages=2)))


def test_a_busy_server_is_asked_again(server: Server) -> None:
    """Passing trouble costs tries; lasting trouble is one error without secrets."""
    answers: Iterator[Answer] = iter([(503, {}, b""), (429, {}, b""), (200, {}, b"id\n1\n")])
    server.answer = lambda _: next(answers)
    assert read_all(sources.http(f"{server.url}/rows.csv", limits=PATIENT))[0].height == 1
    server.answer = lambda _: (500, {}, b"")
    with pytest.raises(DataError, match=r"did not answer in 3 tries: status 500") as caught:
        read_all(sources.http(f"{server.url}/rows.csv?token=canary", limits=PATIENT))
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(sources.http(f"{server.url}/rows.csv?token=canary", headers={"X": "canary"}))
    server.answer = lambda _: (403, {}, b"")
    with pytest.raises(DataError, match="status 403"):
        read_all(sources.http(f"{server.url}/rows.csv", limits=PATIENT))


def test_a_document_without_end_is_cut_off(server: Server) -> None:
    """More bytes than allowed is an error, not a full disk."""
    server.answer = lambda _: (200, {}, b"id\n" + b"1\n" * 100_000)
    with pytest.raises(DataError, match="more than 1000 bytes"):
        read_all(sources.http(f"{server.url}/rows.csv", limits=Limits(size_bytes=1000)))


def test_a_file_that_changed_is_refused_or_read_again(tmp_path: Path) -> None:
    """A touched file is the same file; other bytes are an error, or wanted."""
    path = tmp_path / "rows.csv"
    path.write_text("id\n1\n")
    _, cursor = read_all(sources.files(path))
    os.utime(path, (0, 0))
    rows, cursor = read_all(sources.files(path), cursor)
    assert rows.height == 0
    path.write_text("id\n1\n2\n")
    with pytest.raises(DataError, match=r"rows\.csv changed after it was taken in.*changed='again'"):
        read_all(sources.files(path), cursor)
    rows, _ = read_all(sources.files(path, changed="again"), cursor)
    assert rows["id"].to_list() == [1, 2]


def test_a_project_may_move(tmp_path: Path) -> None:
    """Files are remembered by their names below the pattern's folder."""
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "1.csv").write_text("id\n1\n")
    _, cursor = read_all(sources.files(f"{tmp_path}/a/**/*.csv"))
    (tmp_path / "a").rename(tmp_path / "b")
    assert read_all(sources.files(f"{tmp_path}/b/**/*.csv"), cursor)[0].height == 0


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("half.csv", b"a,b\n1,2\n3", "Expected 2 columns, got 1.*half-written"),
        ("latin.csv", "a\nGröße\n".encode("latin1"), "not UTF-8.*iconv"),
        ("late.csv", b"a\n" + b"1\n" * 1_000_000 + b"x\n", "conversion error.*types="),
        ("twice.csv", b"a,a\n1,2\n", "'a' stands 2 times"),
        ("half.jsonl", b'{"a": 1}\n{"a":', "half-written"),
        ("latin.jsonl", '{"a": "ö"}\n'.encode("latin1"), "iconv"),
        ("empty.parquet", b"", "half-written"),
        ("wrong.parquet", b"PAR1" * 50, "half-written"),
    ],
)
def test_an_unreadable_file_is_named(name: str, data: bytes, what: str, tmp_path: Path) -> None:
    """The error names the file, the format, the trouble and the way out."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"(?s){name} cannot be read as.*{what}"):
        read_all(sources.files(tmp_path / name))


def test_mistakes_in_the_call_are_told() -> None:
    """A missing file, an unknown format, database or scheme is one clear error."""
    with pytest.raises(DataError, match="No file matches 'nowhere/"):
        read_all(sources.files("nowhere/*.csv"))
    with pytest.raises(InputError, match="names no format"):
        read_all(sources.files(__file__))
    with pytest.raises(InputError, match="'mysql' cannot be read"):
        sources.sql("mysql://host/db", "t")
    with pytest.raises(InputError, match="not a web address"):
        sources.http("ftp://host/file.csv")
    with pytest.raises(DataError, match="no SQLite file"):
        read_all(sources.sql("sqlite:///nowhere.db", "t"))
    assert "canary" not in repr(sources.sql("postgresql://u:canary@h/d", "t"))


@pytest.mark.parametrize("value", [None, 3, "text", {"a": 1}, [1]])
def test_a_value_without_rows_is_refused(value: object) -> None:
    """The error says what a dataset function may return."""
    with pytest.raises(DataError, match=r"holds no rows.*return a Polars"):
        read_all(value)


def test_a_cursor_of_another_source_is_refused(tmp_path: Path) -> None:
    """A dataset whose function returns another kind of source than before says so."""
    (tmp_path / "a.csv").write_text("id\n1\n")
    _, cursor = read_all(sources.files(tmp_path / "a.csv"))
    with pytest.raises(DataError, match=r"did not come from sources\.sql"):
        read_all(sources.sql("sqlite:///x.db", "t", column="id"), cursor)


def test_a_growing_column_with_nulls_is_refused(tmp_path: Path) -> None:
    """Rows that could never be recognised as new are an error, not a loss."""
    import_path = f"sqlite:///{tmp_path}/x.db"
    pl.DataFrame({"id": [1, None]}).write_database("t", import_path, engine="sqlalchemy")
    with pytest.raises(DataError, match="null in 1 rows"):
        read_all(sources.sql(import_path, "t", column="id"))
