"""E-mail by a real mail server: encrypted where it may be, one conversation per alert, no password in the clear."""

import email
import email.policy
import ssl
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
import trustme
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

sys.path.insert(0, str(Path(__file__).parents[2]))
from alert_receivers import Letterbox, mail_server
from alert_store import Store
from alert_windows import finding, window

TO = 'email = ["ada@example.org", "bob@example.org"]\n'


def letter_of(envelope: Envelope) -> EmailMessage:
    """Return what was taken as a letter."""
    assert isinstance(envelope.content, bytes)
    found = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.LeafCert]:
    """A certificate for this machine, of an authority that this process trusts."""
    authority = trustme.CA()
    with authority.cert_pem.tempfile(dir=str(tmp_path)) as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        yield authority.issue_cert("127.0.0.1")


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


def test_opened_and_resolved_are_one_conversation(tmp_path: Path) -> None:
    """M5: both arrive at everybody, each once, and a mail program shows them as one."""
    store, box = Store(tmp_path), Letterbox()
    with mail_server(box) as port:
        store.policy(f'{TO}smtp = "smtp://127.0.0.1:{port}"')
        store.follow(window(0, finding()))
        assert store.deliver().sent == 1
        store.follow(window(1))
        store.follow(window(2))
        assert store.deliver().sent == 1
    opened, resolved = (letter_of(found) for found in box.letters)
    assert box.letters[0].rcpt_tos == ["ada@example.org", "bob@example.org"]
    assert opened["Subject"] == "movies: the data changed (ratings.rating)"
    assert resolved["Subject"] == "RESOLVED movies: the data changed (ratings.rating)"
    assert opened["References"] == resolved["References"]
    assert opened["Message-ID"] != resolved["Message-ID"]
    text = opened.get_content()
    assert "what:      ratings.rating moved by 0.5" in text
    assert "next:      penstock why a1" in text


def test_a_password_goes_over_starttls(
    tmp_path: Path, certified: trustme.LeafCert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server offers encryption it is used, and only then is the password sent."""
    monkeypatch.setenv("PENSTOCK_SMTP_PASSWORD", "hunter2")
    store, box = Store(tmp_path), Letterbox()
    logins: list[tuple[bytes, bytes]] = []

    def admit(*said: object) -> AuthResult:
        assert isinstance(said[-1], LoginPassword)
        logins.append((said[-1].login, said[-1].password))
        return AuthResult(success=True)

    with mail_server(box, tls_context=_context(certified), require_starttls=True, authenticator=admit) as port:
        store.policy(f'{TO}smtp = "smtp://ops%40example.org@127.0.0.1:{port}"')
        store.follow(window(0, finding()))
        assert store.deliver().sent == 1
    assert logins == [(b"ops@example.org", b"hunter2")]
    assert letter_of(box.letters[0])["From"] == "ops@example.org"


def test_smtps_is_encrypted_from_the_start(tmp_path: Path, certified: trustme.LeafCert) -> None:
    """A server that speaks nothing else gets its letters."""
    store, box = Store(tmp_path), Letterbox()
    with mail_server(box, ssl_context=_context(certified)) as port:
        store.policy(f'{TO}smtp = "smtps://127.0.0.1:{port}"')
        store.follow(window(0, finding()))
        assert store.deliver().sent == 1
    assert len(box.letters) == 1


def test_a_certificate_that_nobody_trusts_gets_no_letter(tmp_path: Path) -> None:
    """Whoever stands between gets neither letter nor password."""
    store, box = Store(tmp_path), Letterbox()
    with mail_server(box, ssl_context=_context(trustme.CA().issue_cert("127.0.0.1"))) as port:
        store.policy(f'{TO}smtp = "smtps://127.0.0.1:{port}"')
        store.follow(window(0, finding()))
        assert store.deliver().failed == 1
    assert box.letters == []


def test_no_password_is_sent_in_the_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without encryption gets neither; the message is put aside and says why."""
    monkeypatch.setenv("PENSTOCK_SMTP_PASSWORD", "hunter2")
    store, box = Store(tmp_path), Letterbox()
    with mail_server(box) as port:
        store.policy(f'{TO}smtp = "smtp://ops@127.0.0.1:{port}"')
        store.follow(window(0, finding()))
        assert store.deliver().dead == 1
    assert box.letters == []
    assert store.deliveries()[0].error == "the mail server offers no encryption, and no password is sent without"


@pytest.mark.parametrize(("answer", "state"), [("451 later", "waiting"), ("554 never", "dead")])
def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(
    tmp_path: Path, answer: str, state: str
) -> None:
    """4xx is tried again with the same id; 5xx is put aside."""
    store, box = Store(tmp_path), Letterbox(refuse=[answer])
    with mail_server(box) as port:
        store.policy(f'{TO}smtp = "smtp://127.0.0.1:{port}"')
        store.follow(window(0, finding()))
        store.deliver()
        (row,) = store.deliveries()
        assert (row.state, row.error) == (state, f"the mail server answered {answer[:3]}")
        if state == "waiting":
            store.now = row.next_at
            assert store.deliver().sent == 1


def test_an_address_with_a_password_in_it_is_refused_unseen(tmp_path: Path) -> None:
    """It belongs in the environment; what is said about it does not hold it."""
    store = Store(tmp_path)
    store.policy(f'{TO}smtp = "smtp://ops:hunter2@127.0.0.1:2525"')
    store.follow(window(0, finding()))
    assert store.deliver().dead == 1
    assert store.deliveries()[0].error == "The address of 'email' holds a password."


def test_a_name_with_a_line_break_adds_no_header(tmp_path: Path) -> None:
    """What a column is called is text, never part of the letter's head."""
    store, box = Store(tmp_path), Letterbox()
    with mail_server(box) as port:
        store.policy(f'{TO}smtp = "smtp://127.0.0.1:{port}"')
        store.follow(window(0, finding(subject="x\r\nBcc: eve@example.org\udc80")))
        assert store.deliver().sent == 1
    assert letter_of(box.letters[0])["Bcc"] is None
    assert "Bcc: eve" in letter_of(box.letters[0])["Subject"]
