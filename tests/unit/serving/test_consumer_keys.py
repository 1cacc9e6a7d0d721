"""Who asks, and who may not: keys by their hashes, quotas by a bucket."""

from pathlib import Path

import msgspec

from penstock.core.tokens import new_token, read_token
from penstock.serving.http.app import App
from penstock.serving.http.requests import LOOPBACK_NAMES, Heads
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Respond, Route
from penstock.serving.protocols.consumers import Admission, Consumers, KeyHolder, write_keys


class Door:
    """An app behind keys, and a clock that a test sets."""

    def __init__(self, folder: Path, *, require_key: bool = False, workers: int = 1) -> None:
        self.now_s = 100.0
        self.file = folder / "keys" / "movies.json"
        self.key, token = new_token("serve")
        self.holder = KeyHolder(name="website", key_id=token.id, key_hash=token.hash, rate_per_s=10.0, burst=4.0)
        self.holders = [self.holder]
        write_keys(self.file, self.holders)
        admission = Admission(keys=str(self.file), require_key=require_key, workers=workers)
        self.consumers = Consumers(admission, now_s=lambda: self.now_s)
        self.refused: list[int] = []
        self.app = App(
            {
                "/ask": Route(methods=frozenset({"POST"}), permission="predict", handle=who),
                "/docs": Route(methods=frozenset({"GET"}), permission="read", handle=who),
            },
            "movies@1",
            heads=Heads(LOOPBACK_NAMES),
            limits=Limits(),
            refused=self.refused.append,
            consumers=self.consumers,
        )

    def ask(self, key: str | None = None, *, path: str = "/ask", **headers: str) -> Reply:
        """Return the reply to a request."""
        said = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
        said |= {} if key is None else {"authorization": f"Bearer {key}"}
        replies: list[Reply] = []
        told = {name.encode(): value.encode() for name, value in said.items()}
        self.app.handle(Request("POST" if path == "/ask" else "GET", path, told), replies.append)
        (reply,) = replies
        return reply

    def hold(self, *holders: KeyHolder) -> None:
        """Write who has a key, and let the worker look."""
        write_keys(self.file, holders)
        self.consumers.refresh()


def who(request: Request, respond: Respond) -> None:
    respond(Reply(200, request.headers.get(b"x-penstock-consumer", b"")))


def code_of(reply: Reply) -> str:
    code: str = msgspec.json.decode(reply.body)["error"]["code"]
    return code


def test_a_key_says_who_asks_and_without_one_nobody_takes_its_name(tmp_path: Path) -> None:
    """Q58: the name comes from the key, whatever a header claims; who has no key may have any name but a taken one."""
    door = Door(tmp_path)
    assert door.ask(door.key, x_penstock_consumer="somebody").body == b"website"
    assert (door.ask().status, door.ask().body) == (200, b"")
    assert door.ask(x_penstock_consumer="notebook").body == b"notebook"
    claimed = door.ask(x_penstock_consumer="website")
    assert (claimed.status, code_of(claimed)) == (401, "key_required")
    assert door.ask("eyJhbGciOi.of-a-proxy").status == 200  # another's token is none of ours


def test_a_key_that_is_not_good_is_refused_in_one_way(tmp_path: Path) -> None:
    """Q58: unknown, wrong, cut, of another kind: 401, and nothing told of which; no secret is in what is said."""
    door = Door(tmp_path)
    other, _ = new_token("serve")
    wrong = door.key[:-1] + ("0" if door.key[-1] != "0" else "1")
    for key in (other, wrong, door.key[:-1], f"{door.key}0", door.key.replace("_serve_", "_admin_"), "pst_"):
        reply = door.ask(key)
        assert (reply.status, code_of(reply)) == (401, "bad_key"), key
        assert (b"www-authenticate", b"Bearer") in reply.headers
        assert key[-40:].encode() not in reply.body
    assert door.refused == [401] * 6


def test_where_a_key_is_needed_only_health_is_everybodys(tmp_path: Path) -> None:
    """Q58: with require_key no page, no answer and no metric without a key, but probes go on."""
    door = Door(tmp_path, require_key=True)
    assert [door.ask(path=path).status for path in ("/ask", "/docs", "/healthz", "/readyz")] == [401, 401, 200, 200]
    assert [door.ask(door.key, path=path).status for path in ("/ask", "/docs")] == [200, 200]


def test_a_revoked_key_is_refused_at_the_next_look(tmp_path: Path) -> None:
    """Q58: also a key that was found good before; and a key that came anew is taken."""
    door = Door(tmp_path)
    assert door.ask(door.key).status == 200
    key, token = new_token("serve")
    door.hold(KeyHolder(name="app", key_id=token.id, key_hash=token.hash))
    assert door.ask(door.key).status == 401
    assert door.ask(key).body == b"app"
    door.file.write_bytes(b"[{")  # what cannot be read changes nothing
    door.consumers.refresh()
    assert door.ask(key).body == b"app"


def test_a_quota_is_a_bucket_that_fills_again(tmp_path: Path) -> None:
    """Q58: the burst at once, then 429 with when to come back, then as many as the rate gives; pages are free."""
    door = Door(tmp_path, workers=2)  # half of 10 per second and of 4 at once
    assert [door.ask(door.key).status for _ in range(3)] == [200, 200, 429]
    refused = door.ask(door.key)
    assert (code_of(refused), dict(refused.headers)[b"retry-after"]) == ("quota", b"1")
    assert door.ask(door.key, path="/docs").status == 200
    door.hold(door.holder, KeyHolder(name="app", key_id="0" * 12, key_hash="0"))
    assert door.ask(door.key).status == 429  # another's key gives nobody a new quota
    door.now_s += 0.2
    assert [door.ask(door.key).status for _ in range(2)] == [200, 429]
    door.now_s += 3600
    assert [door.ask(door.key).status for _ in range(3)] == [200, 200, 429]


def test_keys_are_random_and_only_their_hash_is_kept(tmp_path: Path) -> None:
    """Q58: 192 random bits; the file of a server holds no secret and is its owner's alone."""
    door = Door(tmp_path)
    keys = {new_token("serve")[0] for _ in range(100)}
    assert len(keys) == 100
    token = read_token(door.key)
    assert token is not None
    assert (token.id, token.hash) == (door.holder.key_id, door.holder.key_hash)
    assert len(door.key.rpartition("_")[2]) * 4 >= 160
    assert door.key.rpartition("_")[2] not in door.file.read_text()
    assert door.file.stat().st_mode & 0o077 == 0
