"""Who may ask: the check on the head of a request."""

from typing import Any

import pytest

from penstock.serving.http.requests import Heads
from penstock.serving.limits import Limits
from penstock.serving.refusals import RequestError


@pytest.fixture
def heads() -> Heads:
    return Heads(frozenset({"localhost", "127.0.0.1", "::1", "models.example"}), Limits(body_bytes=100))


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"headers": list(headers)}


@pytest.mark.parametrize("host", [b"localhost", b"127.0.0.1:8000", b"[::1]:80", b"Models.Example:443"])
def test_own_names_are_admitted(heads: Heads, host: bytes) -> None:
    """Loopback names and configured names, with any port."""
    assert heads.check(scope((b"host", host)))[b"host"] == host
    heads.check(scope((b"host", host), (b"origin", b"http://" + host)))


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"",
        b"127.0.0.1.evil.example",
        b"localhost@evil.example",
        b"[::1",
        b"evil.example#localhost",
        b"\xff",
    ],
)
def test_other_names_are_refused(heads: Heads, host: bytes) -> None:
    """A page whose name was pointed at this machine gets nothing."""
    with pytest.raises(RequestError, match="Host") as caught:
        heads.check(scope((b"host", host)))
    assert caught.value.status == 403


@pytest.mark.parametrize("origin", [b"null", b"https://evil.example", b"http://localhost.evil.example", b"file://"])
def test_other_origins_are_refused(heads: Heads, origin: bytes) -> None:
    """A page of another site cannot ask, whatever the method."""
    with pytest.raises(RequestError, match="other sites"):
        heads.check(scope((b"host", b"localhost"), (b"origin", origin)))


def test_a_head_without_one_host_is_refused(heads: Heads) -> None:
    """None and two are both refused."""
    with pytest.raises(RequestError, match="no Host"):
        heads.check(scope())
    with pytest.raises(RequestError, match="two Host"):
        heads.check(scope((b"host", b"localhost"), (b"host", b"evil.example")))


@pytest.mark.parametrize("kind", [b"text/plain", b"", b"application/x-www-form-urlencoded", b"application/jsonx"])
def test_a_body_that_is_not_json_is_refused(heads: Heads, kind: bytes) -> None:
    """Forms that a browser may send without asking first are not taken."""
    with pytest.raises(RequestError, match="plain JSON"):
        heads.check_body({b"content-type": kind})


def test_a_large_body_is_refused_by_its_declared_length(heads: Heads) -> None:
    """Nothing of it is read."""
    heads.check_body({b"content-type": b"application/json; charset=utf-8", b"content-length": b"100"})
    with pytest.raises(RequestError, match="larger"):
        heads.check_body({b"content-type": b"application/json", b"content-length": b"101"})
