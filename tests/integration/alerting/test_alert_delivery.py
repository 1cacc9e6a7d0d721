"""People hear of alerts: signed, once per message, again when it did not arrive, and never at the cost of the loop."""

import base64
import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from alert_receivers import receiver
from alert_store import IMPATIENT, Store
from alert_windows import DAY, finding, window
from penstock.core.errors import NotFoundError
from penstock.monitoring.findings import Window
from penstock.project.alerting.deliver import LEASE
from penstock.project.alerting.listing import list_dead, retry
from penstock.project.alerting.outbox import MOST_PER_HOUR, MOST_TRIES

TICK = "import sys; from alert_store import *; Store(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2])).deliver()"


def storm(count: int, day: int = 0) -> list[Window]:
    """Return so many causes at once."""
    return [window(day, finding(subject=f"t{n}.x"), monitor=f"data:t{n}") for n in range(count)]


def test_opened_and_resolved_arrive_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M5: a webhook hears of both, each once, signed over id, time and body, and says what, since when, what next."""
    monkeypatch.setenv("PENSTOCK_ALERT_SECRET", "s3cret")
    store = Store(tmp_path)
    with receiver() as hook:
        store.policy(f'webhook = "{hook.url}"')
        store.follow(window(0, finding(), finding(subject="ratings.user_id", effect=0.1)))
        assert store.deliver().sent == 1
        store.follow(window(1))
        store.follow(window(2))
        assert store.deliver().sent == 1
        assert store.deliver().sent == 0
    opened, resolved = hook.heard
    assert [one.said["type"] for one in hook.heard] == ["alert.opened", "alert.resolved"]
    data = opened.said["data"]
    assert (data["alert"], data["windows"], data["p"], data["budget"]) == ("a1", 1, 0.001, 0.01)
    assert data["moved"] == ["ratings.rating moved by 0.5", "ratings.user_id moved by 0.1"]
    assert data["next"].startswith("penstock why a1")
    signed = f"{opened.headers['webhook-id']}.{opened.headers['webhook-timestamp']}.".encode() + opened.body
    found = base64.b64encode(hmac.new(b"s3cret", signed, hashlib.sha256).digest()).decode()
    assert opened.headers["webhook-signature"] == f"v1,{found}"
    assert opened.key != resolved.key


def test_slack_gets_its_payload_and_no_markup_from_data(tmp_path: Path) -> None:
    """M5: the payload of incoming webhooks; what a column is called cannot mention anybody."""
    store = Store(tmp_path)
    with receiver() as hook:
        store.policy(f'slack = "{hook.url}"')
        store.follow(window(0, finding(subject="<!channel>")))
        store.deliver()
    said = hook.heard[0].said
    assert "<!channel>" not in json.dumps(said)
    assert "&lt;!channel&gt;" in said["text"]
    assert [block["type"] for block in said["blocks"]] == ["section", "section"]


def test_a_receiver_that_fails_is_tried_again_with_the_same_key_until_it_is_back(tmp_path: Path) -> None:
    """M5: down, then 500s, then back: the same message each time, later and later, and it arrives once."""
    store = Store(tmp_path)
    port = _free_port()
    store.policy(f'webhook = "http://127.0.0.1:{port}/hook"')
    store.follow(window(0, finding()))
    assert store.deliver().failed == 1
    assert store.deliver().failed == 0  # not before its time
    with receiver(port) as hook:
        hook.answers += [500, 503]
        waits = []
        for _ in range(3):
            (row,) = store.deliveries()
            waits.append(row.next_at - store.now)
            store.now = row.next_at
            store.deliver()
        assert len(set(hook.keys)) == 1
        assert len(hook.heard) == 3
    assert [row.state for row in store.deliveries()] == ["sent"]
    assert all(22 * 2**n <= wait.total_seconds() <= 38 * 2**n for n, wait in enumerate(waits))


def test_a_refused_message_is_dead_and_may_be_tried_again(tmp_path: Path) -> None:
    """M5: what a receiver will never take is put aside, said, and sent when a person asks for it."""
    store = Store(tmp_path)
    with receiver() as hook:
        store.policy(f'webhook = "{hook.url}"')
        store.follow(window(0, finding()))
        hook.answers.append(404)
        assert store.deliver().dead == 1
        store.now += 30 * DAY
        assert store.deliver().sent == 0
        with store.opened() as workspace:
            assert [(one.message, one.error) for one in list_dead(workspace)] == [
                ("a1/opened/webhook", "it answered 404")
            ]
            with pytest.raises(NotFoundError, match="'a9'"):
                retry(workspace, "a9")
            retry(workspace, "a1")
        assert store.deliver().sent == 1
        assert len(set(hook.keys)) == 1


def test_a_message_that_never_arrives_is_given_up(tmp_path: Path) -> None:
    """After its tries it is dead, not tried for ever."""
    store = Store(tmp_path)
    store.policy(f'webhook = "http://127.0.0.1:{_free_port()}/hook"')
    store.follow(window(0, finding()))
    for _ in range(MOST_TRIES):
        store.now += timedelta(hours=2)
        store.deliver()
    (row,) = store.deliveries()
    assert (row.state, row.tries) == ("dead", MOST_TRIES)


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_receiver_that_hangs_holds_up_nobody(tmp_path: Path, how: str) -> None:
    """It gets its seconds and no more, others hear meanwhile, and it is tried again later."""
    store = Store(tmp_path)
    with receiver() as slow, receiver() as quick:
        store.policy(f'webhook = "{slow.url}"\nslack = "{quick.url}"')
        slow.answers.append(how)
        store.follow(window(0, finding()))
        done = store.deliver(IMPATIENT)
        assert (done.sent, done.failed) == (1, 1)
        assert len(quick.heard) == 1
        rows = {row.channel: row for row in store.deliveries()}
        assert rows["slack"].state == "sent"
        assert (rows["webhook"].state, rows["webhook"].tries) == ("waiting", 1)
        store.now = rows["webhook"].next_at
        assert store.deliver().sent == 1
        assert len(set(slow.keys)) == 1


def test_a_storm_is_a_digest(tmp_path: Path) -> None:
    """M6: five hundred causes at once are one message, with counts, the first of them, and the keys of all."""
    store = Store(tmp_path)
    with receiver() as hook:
        store.policy(f'webhook = "{hook.url}"')
        store.follow(*storm(500))
        assert len(store.alerts()) == 500
        assert store.deliver().sent == 1
    (said,) = [one.said for one in hook.heard]
    assert said["type"] == "alerts.digest"
    assert (said["data"]["opened"], said["data"]["left_out"], len(said["data"]["keys"])) == (500, 450, 500)
    assert {row.state for row in store.deliveries()} == {"sent"}


def test_many_alerts_in_an_hour_are_few_messages(tmp_path: Path) -> None:
    """M6: one after another they use up what one target gets in an hour; the rest is a digest of the next hour."""
    store = Store(tmp_path)
    with receiver() as hook:
        store.policy(f'webhook = "{hook.url}"')
        for n in range(MOST_PER_HOUR + 10):
            store.follow(window(0, finding(), monitor=f"data:t{n}"))
            store.now += timedelta(seconds=30)
            store.deliver()
        assert len(hook.heard) == MOST_PER_HOUR
        store.now += timedelta(hours=1)
        store.deliver()
        assert len(hook.heard) == MOST_PER_HOUR + 1
    assert hook.heard[-1].said["data"]["opened"] == 10


@pytest.mark.parametrize(("point", "times"), [("alert_before_send", 1), ("alert_after_send", 2)])
@pytest.mark.parametrize("count", [1, 7])
def test_a_kill_loses_no_message_and_changes_no_key(tmp_path: Path, point: str, times: int, count: int) -> None:
    """M5: kill -9 before or after it went out: it arrives at least once, and twice only with the same key."""
    store = Store(tmp_path)
    with receiver() as hook:
        store.policy(f'webhook = "{hook.url}"')
        store.follow(*storm(count))
        assert _deliver_elsewhere(store, fault=f"{point}:kill") == -signal.SIGKILL
        assert {row.state for row in store.deliveries()} == {"sending"}
        store.follow(window(0, finding(), monitor="data:late"))  # what comes meanwhile joins no message that was tried
        store.deliver()
        first = [key for key in hook.keys if key == hook.keys[0]]
        assert len(first) == times
        assert len(set(hook.keys)) == 2
    assert {row.state for row in store.deliveries()} == {"sent"}


def test_a_kill_between_alert_and_sending_loses_nothing(tmp_path: Path) -> None:
    """The message is recorded with its alert, so whoever comes next sends it."""
    store = Store(tmp_path)
    with receiver() as hook:
        store.policy(f'webhook = "{hook.url}"')
        store.put(window(0, finding()))
        code = "import sys; from alert_store import *; from alert_windows import *\n"
        code += "Store(Path(sys.argv[1])).follow(window(0, finding()))"
        assert _elsewhere(code, [str(tmp_path)], fault="alert_after_commit:kill") == -signal.SIGKILL
        store.now += DAY
        store.follow(window(0, finding()))
        assert store.deliver().sent == 1
        assert len(hook.heard) == 1


def test_two_workers_send_each_message_once(tmp_path: Path) -> None:
    """While one sends, the other leaves it alone; side by side nothing is sent twice."""
    store = Store(tmp_path)
    with receiver() as hook:
        store.policy(f'webhook = "{hook.url}"')
        store.follow(*storm(3))
        words = [sys.executable, "-P", "-c", TICK, str(tmp_path), store.now.isoformat()]
        both = [subprocess.Popen(words, env=_environment()) for _ in range(2)]
        assert [process.wait(60) for process in both] == [0, 0]
        store.deliver()
        assert len(hook.heard) == 3
        assert len(set(hook.keys)) == 3


def test_whoever_sends_is_alone(tmp_path: Path) -> None:
    """The lease of sending is held by somebody alive: nothing is sent, and that is said."""
    store = Store(tmp_path)
    with receiver() as hook:
        store.policy(f'webhook = "{hook.url}"')
        store.follow(window(0, finding()))
        with _Holder(store):
            assert store.deliver().is_elsewhere
        assert hook.heard == []
        assert store.deliver().sent == 1


def test_secrets_are_in_no_log_and_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An address of Slack is a secret, and so is what signs: neither is logged or kept when sending fails."""
    monkeypatch.setenv("PENSTOCK_ALERT_SECRET", "canary-secret")
    store = Store(tmp_path)
    port = _free_port()
    store.policy(f'webhook = "http://127.0.0.1:{port}/canary-path"\nslack = "https://canary-host.invalid/canary-path"')
    store.follow(window(0, finding()))
    assert store.deliver().failed == 2
    said = capfd.readouterr()
    assert "alert_not_delivered" in said.out + said.err
    assert "canary" not in said.out + said.err
    assert all("canary" not in row.error for row in store.deliveries())


def test_a_channel_that_policy_no_longer_names_is_not_waited_for(tmp_path: Path) -> None:
    """The message is put aside and says why."""
    store = Store(tmp_path)
    store.policy('webhook = "http://127.0.0.1:9/hook"')
    store.follow(window(0, finding()))
    store.policy("")
    assert store.deliver().dead == 1
    assert store.deliveries()[0].error == "Policy names nobody for 'webhook'."


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """What was configured is what is called, and nothing that it points at."""
    store = Store(tmp_path)
    with receiver() as hook:
        store.policy(f'webhook = "{hook.url}"')
        hook.answers.append(302)
        store.follow(window(0, finding()))
        assert store.deliver().dead == 1
        assert len(hook.heard) == 1


def _deliver_elsewhere(store: Store, fault: str = "") -> int:
    return _elsewhere(TICK, [str(store.root), store.now.isoformat()], fault)


def _elsewhere(code: str, words: list[str], fault: str = "") -> int:
    done = subprocess.run([sys.executable, "-P", "-c", code, *words], env=_environment(fault), timeout=60, check=False)
    return done.returncode


def _environment(fault: str = "") -> dict[str, str]:
    found = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return found | {"PENSTOCK_FAULT": fault} if fault else found


class _Holder:
    """A process that holds the lease of sending while the block lasts."""

    def __init__(self, store: Store) -> None:
        code = "import sys; from alert_store import *; from penstock.store.ledger import leases\n"
        code += "from penstock.core.process import this_process\n"
        code += "with Store(Path(sys.argv[1])).opened() as w, w.ledger.write() as conn:\n"
        code += f"    leases.acquire(conn, {LEASE!r}, this_process(), 60)\n"
        code += "print('held', flush=True); sys.stdin.read()"
        words = [sys.executable, "-P", "-c", code, str(store.root)]
        self._process = subprocess.Popen(
            words, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"

    def __exit__(self, *_: object) -> None:
        self._process.communicate("")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
