"""Real workers answer real HTTP: routes, refusals, pages, fallbacks, limits."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import InputError
from penstock.serving.limits import Limits
from penstock.serving.predictions.reading import find_prediction, read_predictions
from penstock.serving.processes.background import Server, start
from penstock.serving.processes.supervisor import ServeOptions
from serving_release import make_artifact_release, make_release

LIMITS = Limits(receive_s=1.0, linger_s=0.2, body_bytes=2**20)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    release = make_release(home, 3)
    options = ServeOptions(
        pipeline="movies", home=home, current_release=lambda: release, port=0, limits=LIMITS, names=("models.example",)
    )
    with start(options) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as made:
        yield made


def talk(server: Server, data: bytes) -> bytes:
    """Send raw bytes and return everything that comes back until the server closes."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as link:
        with contextlib.suppress(ConnectionError):  # it may close before it has read everything
            link.sendall(data)
        received = b""
        while chunk := link.recv(65536):
            received += chunk
        return received


def test_an_answer_names_its_release_and_is_found_by_its_id(client: httpx.Client, home: Path) -> None:
    """What a caller was told can be looked up afterwards."""
    reply = client.post("/movies/recommend", json={"user_id": 7})
    assert reply.status_code == 200
    body = reply.json()
    assert body["release"] == "movies@3"
    assert body["answer"] == [
        {"movie_id": 0, "title": "Movie 0", "score": 7.0},
        {"movie_id": 1, "title": "Movie 1", "score": 7.1},
    ]
    assert reply.headers["x-penstock-prediction-id"] == body["prediction_id"]
    kept = find_prediction(home, "movies", body["prediction_id"])
    assert (kept.serve, kept.fields, kept.answer) == ("recommend", {"user_id": 7, "k": 2}, body["answer"])


def test_a_wrong_field_is_named_with_what_was_expected(client: httpx.Client) -> None:
    """422 tells the caller what to mend."""
    reply = client.post("/movies/recommend", json={"user_id": "seven"})
    assert reply.status_code == 422
    error = reply.json()["error"]
    assert (error["code"], error["field"]) == ("invalid_field", "user_id")
    assert "Expected `int`, got `str`" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/movies/recommend", {}, 405),
        ("POST", "/healthz", {"json": {}}, 405),
        ("POST", "/movies/recomend", {"json": {}}, 404),
        ("GET", "/../etc/passwd", {}, 404),
        ("GET", "/%2e%2e/%00", {}, 404),
        ("POST", "/movies/recommend", {"content": b"{}"}, 415),
        ("POST", "/movies/recommend", {"data": {"user_id": 1}}, 415),
        ("POST", "/movies/recommend", {"json": {}, "headers": {"content-encoding": "gzip"}}, 400),
        ("POST", "/movies/recommend", {"json": {}, "headers": {"content-encoding": "br"}}, 415),
        ("POST", "/movies/recommend", {"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ("POST", "/movies/recommend", {"json": {"user_id": 1}, "headers": {"host": "evil.example"}}, 403),
        ("GET", "/docs", {"headers": {"host": "evil.example"}}, 403),
        ("GET", "/", {"headers": {"origin": "https://evil.example"}}, 403),
        ("POST", "/movies/recommend", {"json": {"user_id": 1}, "headers": {"origin": "null"}}, 403),
        ("GET", "/", {"headers": {"host": "models.example"}}, 200),
        ("HEAD", "/healthz", {}, 200),
    ],
)
def test_every_wrong_request_has_its_own_refusal(
    client: httpx.Client, method: str, path: str, options: dict[str, object], status: int
) -> None:
    """A refusal is 4xx with a code, never 5xx and never an answer."""
    reply = client.request(method, path, **options)  # type: ignore[arg-type]  # the options are this table's
    assert reply.status_code == status
    if status >= 400:
        assert set(reply.json()["error"]) == {"code", "message", "field", "hint"}


def test_a_near_miss_is_suggested(client: httpx.Client) -> None:
    """A misspelt route names the one that was meant."""
    assert client.post("/movies/recomend", json={}).json()["error"]["hint"] == "did you mean /movies/recommend?"


def test_a_failing_function_shows_its_id_but_no_traceback(client: httpx.Client, home: Path) -> None:
    """The caller learns nothing of the code or the values; the record is kept."""
    reply = client.post("/movies/fragile", json={"text": "abc"})
    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert "Traceback" not in reply.text
    kept = find_prediction(home, "movies", reply.json()["error"]["prediction_id"])
    assert (kept.error, kept.answer, kept.fallback) == ("ValueError", None, False)


def test_nan_in_an_answer_is_an_error(client: httpx.Client, home: Path) -> None:
    """Invalid JSON is never sent."""
    reply = client.post("/movies/fragile", json={"text": "nan"})
    assert reply.status_code == 500
    assert find_prediction(home, "movies", reply.headers["x-penstock-prediction-id"]).error == "AnswerError"


@pytest.mark.parametrize(
    ("wait_ms", "answer", "error"), [(0, "model", None), (2000, "popular", "deadline"), (-1, "popular", "RuntimeError")]
)
def test_the_fallback_answers_when_the_model_is_late_or_fails(
    client: httpx.Client, home: Path, wait_ms: int, answer: str, error: str | None
) -> None:
    """An answer of the fallback is marked as such, for the caller and in the log."""
    reply = client.post("/movies/guarded", json={"wait_ms": wait_ms})
    assert reply.status_code == 200
    assert reply.elapsed.total_seconds() < 1.5
    body = reply.json()
    assert (body["answer"], body.get("fallback", False)) == (answer, error is not None)
    assert find_prediction(home, "movies", body["prediction_id"]).error == error


def test_the_pages_describe_the_release_without_fetching_anything(client: httpx.Client) -> None:
    """The OpenAPI document lists routes, fields and answers; the page needs no script and escapes what it shows."""
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/movies/recommend"]["post"]
    assert operation["summary"] == "Movies for a user."
    fields = document["components"]["schemas"]["recommend_fields"]
    assert fields["properties"]["user_id"] == {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    assert (fields["required"], fields["properties"]["k"]["default"]) == (["user_id"], 2)
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["answer"]
    assert answer == {"type": "array", "items": {"$ref": "#/components/schemas/Movie"}}
    page = client.get("/docs")
    assert "People find &lt;something&gt; to watch." in page.text
    assert "<script" not in page.text
    assert "//" not in page.text.replace("<!doctype", "")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert client.get("/").json()["serve"]["recommend"] == "/movies/recommend"


def test_health_and_readiness(client: httpx.Client) -> None:
    """Two questions, two answers."""
    assert client.get("/healthz").json() == {"status": "up"}
    assert client.get("/readyz").json() == {"status": "ready", "release": "movies@3"}


HEAD = b"POST /movies/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"413"),
        (HEAD + b"Content-Length: 2000000\r\n\r\n{", b"413"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"1" * 65536 + b"\r\n", b"408"),
        (HEAD + b"Content-Length: 10\r\n\r\n{", b"408"),
        (HEAD + b"X: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
        (HEAD + b"X: " + b"a" * 20_000, b"431"),
        (HEAD + b"".join(b"X-%d: 1\r\n" % n for n in range(3000)) + b"\r\n", b"431"),
        (b"GET /" + b"a" * 20_000, b"431"),
        (HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
        (b"\x16\x03\x01 not http at all\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"400"),
    ],
)
def test_hostile_bytes_end_in_a_refusal(server: Server, data: bytes, status: bytes) -> None:
    """Oversized, unfinished or malformed requests are answered and the connection is closed."""
    assert talk(server, data).split(b" ")[1] == status
    assert httpx.get(server.url + "/healthz").status_code == 200


def test_an_endless_chunked_body_is_cut_off(server: Server) -> None:
    """A body without a declared length is refused once it grows too large."""
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    received = talk(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17)
    assert received.split(b" ")[1] == b"413"


def test_a_silent_connection_is_closed(server: Server) -> None:
    """Half a head, and then nothing, is not waited for."""
    assert talk(server, HEAD).split(b" ")[1] == b"408"
    assert talk(server, b"") == b""


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::"])  # noqa: S104  # these must be refused
def test_an_address_others_can_reach_is_refused(home: Path, host: str) -> None:
    """Where callers need no key, only this machine may ask."""
    with pytest.raises(InputError, match="callers are not authenticated"):
        start(ServeOptions(pipeline="movies", home=home, current_release=lambda: None, host=host, port=0))


def test_a_taken_port_is_named(home: Path, server: Server) -> None:
    """The error says which port and what to do."""
    port = urlsplit(server.url).port or 0
    with pytest.raises(InputError, match=f"Port {port}"):
        start(ServeOptions(pipeline="movies", home=home, current_release=lambda: None, port=port))


def test_without_a_release_only_health_answers(tmp_path: Path) -> None:
    """503 with a hint until there is a release; then it is served without a restart."""
    found = [None, make_release(tmp_path, 1)]
    options = ServeOptions(
        pipeline="movies", home=tmp_path, current_release=lambda: found[0], port=0, poll_s=0.05, limits=LIMITS
    )
    with start(options) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert client.post("/movies/recommend", json={"user_id": 1}).status_code == 503
        found.pop(0)
        assert any(client.get("/readyz").status_code == 200 for _ in range(100_000))
        assert client.post("/movies/recommend", json={"user_id": 1}).json()["release"] == "movies@1"


def test_artifacts_reach_the_functions_that_name_them(tmp_path: Path) -> None:
    """A frame and a plain value are loaded once and bound; rows go in and come out as JSON."""
    release = make_artifact_release(tmp_path, 2)
    options = ServeOptions(pipeline="movies", home=tmp_path, current_release=lambda: release, port=0, limits=LIMITS)
    with start(options) as server, httpx.Client(base_url=server.url) as client:
        assert client.post("/movies/lookup", json={"movie_id": 1}).json()["answer"] == "aa"
        reply = client.post("/movies/score", json=[{"x": 1}, {"x": 2}])
        assert reply.json()["answer"] == [{"x": 2}, {"x": 4}]
    assert [p.fields for p in read_predictions(tmp_path, "movies")] == [{"movie_id": 1}, {"x": 1}, {"x": 2}]
