"""Keys of callers: who may ask where others than this machine can, and where none may."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.serving.http.keys import Keys
from penstock.serving.http.requests import Heads
from penstock.serving.processes.addresses import Addresses, check_place
from penstock.serving.refusals import RequestError

KEYS = ("first-key-0123456789-0123456789-01", "second-key-0123456789-0123456789-0")
EVERYWHERE = str(ipaddress.IPv4Address(0))
HEADS = Heads(frozenset({"localhost"}), Keys.of(KEYS))


def ask(value: bytes | None, path: str = "/movies/recommend") -> None:
    headers = {b"host": b"localhost"} | ({} if value is None else {b"authorization": value})
    HEADS.check(headers, path)


@pytest.mark.parametrize("key", KEYS)
def test_each_key_lets_its_caller_ask(key: str) -> None:
    """Q64: a key is shown as a bearer token; the scheme's case does not matter."""
    ask(b"Bearer " + key.encode())
    ask(b"bearer  " + key.encode())


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_nothing_else_does(value: bytes) -> None:
    """Q64: no other bytes open the door, whatever they are."""
    with pytest.raises(RequestError, match="shows no key"):
        ask(value)
    with pytest.raises(RequestError, match="shows no key"):
        ask(b"Bearer " + value)


def test_whether_the_server_is_well_needs_no_key() -> None:
    """Q64: probes have no key to show; every other path, known or not, asks for one."""
    ask(None, "/healthz")
    ask(None, "/readyz")
    for path in ("/", "/docs", "/metrics", "/healthz/", "/HEALTHZ", "/v2/health/ready", ""):
        with pytest.raises(RequestError, match="shows no key"):
            ask(None, path)


def test_beyond_loopback_nobody_is_answered_without_a_key() -> None:
    """Q64: a server that anyone could ask does not start; nor one whose keys could be guessed, or cannot be shown."""
    check_place("127.0.0.1", (), is_grpc=True)
    check_place(EVERYWHERE, KEYS, is_grpc=False)
    for host in (EVERYWHERE, "::", "10.0.0.7", "example.org", ""):
        with pytest.raises(InputError, match="refused: callers are not authenticated"):
            check_place(host, (), is_grpc=False)
    with pytest.raises(InputError, match="Key 2 in PENSTOCK_SERVE_KEYS has 5 characters"):
        check_place("127.0.0.1", (KEYS[0], "short"), is_grpc=False)
    with pytest.raises(InputError, match="gRPC callers cannot show a key"):
        check_place("127.0.0.1", KEYS, is_grpc=True)


def test_the_environment_opens_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Q64: with keys in the environment, the address of the machine itself can be listened on."""
    monkeypatch.delenv("PENSTOCK_SERVE_KEYS", raising=False)
    with pytest.raises(InputError, match="refused"):
        Addresses(EVERYWHERE, 0, None)
    monkeypatch.setenv("PENSTOCK_SERVE_KEYS", " ".join(KEYS))
    found = Addresses(EVERYWHERE, 0, None)
    found.close()
    assert found.url.startswith(f"http://{EVERYWHERE}:")
