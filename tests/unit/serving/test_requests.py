"""Who may ask: the check on the head of a request."""

import pytest

from penstock.serving.http.requests import Heads
from penstock.serving.refusals import RequestError


@pytest.fixture
def heads() -> Heads:
    return Heads(frozenset({"localhost", "127.0.0.1", "::1", "models.example"}))


@pytest.mark.parametrize("host", [b"localhost", b"127.0.0.1:8000", b"[::1]:80", b"Models.Example:443"])
def test_own_names_are_admitted(heads: Heads, host: bytes) -> None:
    """Loopback names and configured names, with any port."""
    heads.check({b"host": host})
    heads.check({b"host": host, b"origin": b"http://" + host})


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
        heads.check({b"host": host})
    assert caught.value.status == 403


@pytest.mark.parametrize("origin", [b"null", b"https://evil.example", b"http://localhost.evil.example", b"file://"])
def test_other_origins_are_refused(heads: Heads, origin: bytes) -> None:
    """A page of another site cannot ask, whatever the method."""
    with pytest.raises(RequestError, match="other sites"):
        heads.check({b"host": b"localhost", b"origin": origin})


def test_a_head_without_a_host_is_refused(heads: Heads) -> None:
    """A caller must say whom it means."""
    with pytest.raises(RequestError, match="no Host"):
        heads.check({})
