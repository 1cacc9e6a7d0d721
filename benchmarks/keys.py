"""What the key of a consumer adds to a request, against the app without keys."""

import tempfile
import time
from pathlib import Path

from benchmarks.table import Row

from penstock.core.tokens import new_token
from penstock.serving.http.app import App
from penstock.serving.http.requests import LOOPBACK_NAMES, Heads
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Respond, Route
from penstock.serving.protocols.consumers import Admission, Consumers, KeyHolder, write_keys

REQUESTS = 50_000
CONSUMERS = 50
ROUNDS = 9
LIMIT_US = 3.0
_DONE = Reply(200, b"")


def rows() -> list[Row]:
    """Return what a request costs beyond the same one without keys: with a good key, and with none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys" / "movies.json"
        made = [new_token("serve") for _ in range(CONSUMERS)]
        write_keys(
            file,
            [
                KeyHolder(name=f"app-{place}", key_id=token.id, key_hash=token.hash, rate_per_s=1e9)
                for place, (_, token) in enumerate(made)
            ],
        )
        bare, keyed = _app(None), _app(Consumers(Admission(keys=str(file))))
    anonymous, named = _request(b""), _request(b"Bearer " + made[7][0].encode())
    arms = (bare, anonymous), (keyed, named), (keyed, anonymous)
    # In turn, and the least of each: whatever else the machine does only adds to it.
    rounds = [[_cpu_s(app, request) for app, request in arms] for _ in range(ROUNDS)]
    bare_s, named_s, anonymous_s = (min(taken) for taken in zip(*rounds, strict=True))
    return [
        Row("a consumer's key, per request", (named_s - bare_s) / REQUESTS * 1e6, "us", limit=LIMIT_US),
        Row("no key where some have one, per request", (anonymous_s - bare_s) / REQUESTS * 1e6, "us", limit=LIMIT_US),
    ]


def _app(consumers: Consumers | None) -> App:
    route = Route(methods=frozenset({"POST"}), permission="predict", handle=_answer)
    heads = Heads(LOOPBACK_NAMES)
    return App({"/movies/recommend": route}, "movies@1", heads=heads, limits=Limits(), consumers=consumers)


def _answer(_request: Request, respond: Respond) -> None:
    respond(_DONE)


def _request(authorization: bytes) -> Request:
    headers = {b"host": b"localhost", b"content-type": b"application/json", b"content-length": b"13", b"accept": b"*/*"}
    headers |= {b"authorization": authorization} if authorization else {}
    return Request("POST", "/movies/recommend", headers, b'{"user_id":7}')


def _cpu_s(app: App, request: Request) -> float:
    # As connections do it: a head that is known is admitted once, and each request answered.
    route = app.admit(request, len(request.body))
    if not isinstance(route, Route):
        raise TypeError(route)
    began = time.process_time()
    for _ in range(REQUESTS):
        app.answer(route, request, _nobody)
    return time.process_time() - began


def _nobody(_reply: Reply) -> None:
    """Nothing: the reply is not sent."""
