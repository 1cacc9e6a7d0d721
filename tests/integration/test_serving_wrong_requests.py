"""Requests that are wrong or too large, on raw sockets: each gets one definite refusal, within bounds."""

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.serving.limits import Limits
from served_app import HEAD, Served, echo, get_request, read_reply, serving, status_of

LIMITS = Limits(receive_s=10.0, linger_s=0.2, body_bytes=2**20)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(LIMITS) as running:
        yield running


def test_only_continue_can_be_expected(served: Served) -> None:
    """417, as the standard says."""
    assert status_of(served.talk(echo(b"a", b"Expect: miracles\r\n"))) == 417


def test_an_oversize_body_is_refused_before_it_is_read(served: Served) -> None:
    """413 by the declared length alone, and the reply arrives although the caller goes on sending."""
    with served.connect() as link:
        link.sendall(HEAD + b"Content-Length: 50000000\r\n\r\n")
        assert read_reply(link)[0] == 413
    received = served.talk(HEAD + b"Content-Length: 50000000\r\n\r\n", b"x" * 500_000)
    assert status_of(received) == 413


def test_an_endless_chunked_body_is_cut_off_with_flat_memory(served: Served) -> None:
    """Neither data nor chunk extensions nor trailers go on for ever."""
    before = psutil.Process().memory_info().rss
    start = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    for part in (b"10000\r\n" + b"y" * 65536 + b"\r\n", b"1;" + b"e" * 65536 + b"\r\nx\r\n"):
        assert status_of(served.talk(start, *[part] * 400)) == 413
    trailers = b"".join(b"X-%d: %s\r\n" % (number, b"t" * 1000) for number in range(400))
    assert status_of(served.talk(start + b"1\r\nx\r\n0\r\n", trailers)) == 413
    assert psutil.Process().memory_info().rss - before < 30 * 2**20


@pytest.mark.parametrize(
    "part",
    [
        b"GET /" + b"a" * 40_000,
        HEAD + b"X: " + b"a" * 40_000,
        HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: 1\r\n" % number for number in range(4000)),
    ],
)
def test_a_head_flood_is_refused(served: Served, part: bytes) -> None:
    """431, in one packet and in many."""
    assert status_of(served.talk(part)) == 431
    assert status_of(served.talk(*[part[at : at + 1000] for at in range(0, len(part), 1000)])) == 431


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"Content-Length: 5, 5\r\n\r\nhello",
        b"Content-Length: +5\r\n\r\nhello",
        b"Content-Length: -5\r\n\r\nhello",
        b"Content-Length: 0x5\r\n\r\nhello",
        b"Content-Length: 5 5\r\n\r\nhello",
        b"Content-Length: 5\x0b\r\n\r\nhello",
        b"Content-Length:\r\n\r\nhello",
        b"Content-Length : 5\r\n\r\nhello",
        b"Content-Length: 184467440737095516160\r\n\r\nhello",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\nhello",
        b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
        b"Transfer-Encoding: chunked\r\n\r\n5 5\r\nhello\r\n0\r\n\r\n",
        b"Host: localhost\r\nContent-Length: 0\r\n\r\n",
        b"Host: evil.example\r\nContent-Length: 0\r\n\r\n",
        b"Content-Type: a/b\r\nContent-Length: 0\r\n\r\n",
        b"X: a\x00b\r\n\r\n",
        b"X: a\x01b\r\n\r\n",
        b"X: a\x7fb\r\n\r\n",
        b"X\x00: ab\r\n\r\n",
        b"X y: ab\r\n\r\n",
        b"X: a\r\n folded\r\n\r\n",
        b"X: a\rb\r\n\r\n",
        b": a\r\n\r\n",
        b"no colon\r\n\r\n",
        b"\n\n",
    ],
)
def test_what_two_readers_could_read_differently_is_refused(served: Served, lines: bytes) -> None:
    """Wrong, doubled and contradicting lengths, folded lines and control characters: 400, and the connection ends."""
    received = served.talk(HEAD + lines + get_request("/target?smuggled"))
    assert status_of(received) == 400
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"connection: close\r\n" in received


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("GET /tar\x00get HTTP/1.1", 400),
        ("GET /tar\x01get HTTP/1.1", 400),
        ("GET /tar\xffget HTTP/1.1", 400),
        ("GET /target#part HTTP/1.1", 400),
        ("GET target HTTP/1.1", 400),
        ("GET ftp://localhost/target HTTP/1.1", 400),
        ("GET http://evil.example/target HTTP/1.1", 400),
        ("GET http://user@localhost/target HTTP/1.1", 400),
        ("GET http://localhost/target HTTP/1.1", 200),
        ("GET HTTP://LOCALHOST/target?a HTTP/1.1", 200),
        ("GET http://localhost HTTP/1.1", 404),
        ("GET http://localhost?a/b HTTP/1.1", 404),
        ("GET /t%61rget HTTP/1.1", 200),
        ("GET /%74arget?x=%00 HTTP/1.1", 200),
        ("GET //target HTTP/1.1", 404),
        ("GET /target/ HTTP/1.1", 404),
        ("GET /./target HTTP/1.1", 404),
        ("GET /x/../target HTTP/1.1", 404),
        ("GET /x/%2e%2e/target HTTP/1.1", 404),
        ("GET /%2Ftarget HTTP/1.1", 404),
        ("GET %2Ftarget HTTP/1.1", 400),
        ("GET /%5ctarget HTTP/1.1", 404),
        ("GET /target%00 HTTP/1.1", 404),
        ("GET /target%0d%0a HTTP/1.1", 404),
        ("GET /target% HTTP/1.1", 404),
        ("GET /%zz HTTP/1.1", 404),
        ("GET /%2574arget HTTP/1.1", 404),
        ("GET /%ff HTTP/1.1", 400),
        ("GET /%c0%afetc HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 204),
        ("OPTIONS /target HTTP/1.1", 204),
        ("GET * HTTP/1.1", 404),
        ("PUT /target HTTP/1.1", 405),
        ("TRACE /target HTTP/1.1", 405),
        ("CONNECT localhost:80 HTTP/1.1", 405),
        ("BREW /target HTTP/1.1", 400),
        ("get /target HTTP/1.1", 400),
        ("GET /target HTTP/1.2", 400),
        ("GET /target HTTP/2.0", 505),
        ("GET /target HTTP/0.9", 505),
        ("GET /target HTTP/1.1 ", 400),
        ("GET /target", 505),
        ("PRI * HTTP/2.0", 400),
    ],
)
def test_targets_methods_and_versions(served: Served, first: str, status: int) -> None:
    """Each request line gets one definite reply; none reaches another route than the one it names."""
    received = served.talk(first.encode("latin-1") + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status_of(received) == status


def test_a_wrong_method_is_told_the_right_ones(served: Served) -> None:
    """405 with Allow, as OPTIONS tells it too."""
    for first in ("DELETE /target", "OPTIONS /target"):
        received = served.talk(f"{first} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert b"\r\nallow: GET, HEAD, OPTIONS\r\n" in received


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        (b"gzip", gzip.compress),
        (b"x-gzip", gzip.compress),
        (b"GZIP", gzip.compress),
        (b"deflate", zlib.compress),
        (b"deflate", lambda body: zlib.compress(body, wbits=-15)),
        (b"identity", lambda body: body),
    ],
)
def test_compressed_bodies_are_read(served: Served, coding: bytes, compress: Callable[[bytes], bytes]) -> None:
    """What clients compress arrives as it was."""
    body = b"hello world " * 1000
    with served.connect() as link:
        for _ in range(2):
            link.sendall(echo(compress(body), b"Content-Encoding: " + coding + b"\r\n"))
            assert read_reply(link)[::2] == (200, body)


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        (b"gzip", gzip.compress(b"\0" * 200 * 2**20), 413),
        (b"deflate", zlib.compress(b"\0" * 200 * 2**20), 413),
        (b"gzip", gzip.compress(gzip.compress(b"\0" * 2**20)), 200),
        (b"gzip", gzip.compress(b"abc")[:-4], 400),
        (b"gzip", gzip.compress(b"abc") * 2, 400),
        (b"gzip", b"not compressed", 400),
        (b"deflate", b"not compressed", 400),
        (b"br", b"x", 415),
        (b"gzip, gzip", gzip.compress(gzip.compress(b"abc")), 415),
    ],
    # gzip writes the time into its head, which must not make other tests of these
    ids=["bomb", "deflate bomb", "twice", "cut", "two members", "no gzip", "no deflate", "unknown", "nested"],
)
def test_a_compressed_body_is_bounded_while_it_is_inflated(
    served: Served, coding: bytes, body: bytes, status: int
) -> None:
    """A bomb is not inflated to its end; what is not what it says is refused; the caller may go on."""
    before = psutil.Process().memory_info().rss
    with served.connect() as link:
        link.sendall(echo(body, b"Content-Encoding: " + coding + b"\r\n") + echo(b"next"))
        assert [read_reply(link)[0] for _ in range(2)] == [status, 200]
    assert psutil.Process().memory_info().rss - before < 30 * 2**20
