"""How a message reaches people: webhook, Slack and its like, e-mail. Each says plainly why it did not.

A receiver gets so many seconds per message. Addresses and secrets stand in no error and no log: an address of Slack is
itself a secret.
"""

import base64
import binascii
import hashlib
import hmac
import json
import smtplib
import ssl
from datetime import datetime
from email.message import EmailMessage
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import httpx

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.core.settings import AlertPolicy, read_secret

WEBHOOK_SECRET, SMTP_PASSWORD = "PENSTOCK_ALERT_SECRET", "PENSTOCK_SMTP_PASSWORD"  # names of variables
_AGAIN = frozenset({408, 409, 425, 429})  # refusals that another try may not meet
_LONGEST_TEXT = 2900  # of a block of Slack, which takes 3000


class Target(Record, frozen=True, kw_only=True):
    """Where messages go.

    Attributes:
        channel: "webhook", "slack" or "email".
        address: A URL; of the mail server for "email".
        people: Addresses of "email".
    """

    channel: str
    address: str
    people: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Target({self.channel})"


class Message(Record, frozen=True, kw_only=True):
    """What is said.

    Attributes:
        key: The same for the same message, however often it is tried.
        thread: The same for all messages about one alert.
        kind: "alert.opened", "alert.resolved", "alert.joined" or "alerts.digest".
        title: One line.
        text: Plain text.
        data: For programs.
        at: When what it tells of happened.
        sent_at: When it is tried, which is what a signature vouches for.
    """

    key: str
    thread: str
    kind: str
    title: str
    text: str
    at: datetime
    sent_at: datetime
    data: dict[str, Any]


class UndeliveredError(Exception):
    """A message did not arrive.

    Args:
        reason: Why, without addresses.
        is_final: Another try would not change it.
        after_s: How long the receiver asked to be left alone.
    """

    def __init__(self, reason: str, *, is_final: bool = False, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.is_final, self.after_s = reason, is_final, after_s


def target_of(channel: str, policy: AlertPolicy) -> Target:
    """Return where a channel leads.

    Raises:
        InputError: Policy names none, or one that cannot be.
    """
    address = {"webhook": policy.webhook, "slack": policy.slack, "email": policy.smtp}.get(channel)
    if not address or (channel == "email" and not policy.email):
        raise InputError(f"Policy names nobody for {channel!r}.", hint="say so under alerts in penstock.toml")
    schemes = ("smtp", "smtps") if channel == "email" else ("http", "https")
    parsed = _split(address)
    if parsed is None or parsed.scheme not in schemes or not parsed.hostname:
        raise InputError(f"The address of {channel!r} is not of the form {schemes[1]}://host.", hint="mend it")
    if parsed.password is not None:
        raise InputError(
            f"The address of {channel!r} holds a password.",
            hint=f"put the password of the mail server in {SMTP_PASSWORD}; a webhook is signed with {WEBHOOK_SECRET}",
        )
    return Target(channel=channel, address=address, people=policy.email if channel == "email" else ())


def send(target: Target, message: Message, timeout_s: float) -> None:
    """Send a message.

    Raises:
        UndeliveredError: It did not arrive, as far as one can tell.
    """
    match target.channel:
        case "webhook":
            body = _json({"type": message.kind, "timestamp": message.at.isoformat(), "data": message.data})
            _post(target, body, signed(message, body, read_secret(WEBHOOK_SECRET)), timeout_s)
        case "slack":
            _post(target, _json(slack_payload(message)), {}, timeout_s)
        case _:
            _mail(target, message, timeout_s)


def signed(message: Message, body: bytes, secret: str | None) -> dict[str, str]:
    """Return the headers of a webhook: Standard Webhooks (standardwebhooks.com), HMAC-SHA256 of id, time and body.

    A secret that begins with "whsec_" is base64, as that standard writes it; any other is taken as it is.
    """
    moment = str(int(message.sent_at.timestamp()))
    headers = {"webhook-id": message.key, "webhook-timestamp": moment, "idempotency-key": message.key}
    if not secret:
        return headers
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True) if secret.startswith("whsec_") else None
    except binascii.Error as error:
        raise UndeliveredError(f"{WEBHOOK_SECRET} begins with whsec_ and is not base64", is_final=True) from error
    content = f"{message.key}.{moment}.".encode() + body
    found = hmac.new(secret.encode() if key is None else key, content, hashlib.sha256).digest()
    return headers | {"webhook-signature": f"v1,{base64.b64encode(found).decode()}"}


def slack_payload(message: Message) -> dict[str, Any]:
    """Return a message as incoming webhooks of Slack, Mattermost, Rocket.Chat and others take it."""
    title, text = _escaped(message.title), _escaped(message.text[:_LONGEST_TEXT])
    blocks = [
        {"type": "section", "text": {"type": "mrkdwn", "text": f"*{title[:_LONGEST_TEXT]}*"}},
        {"type": "section", "text": {"type": "mrkdwn", "text": f"```{text}```"[:3000]}},
    ]
    return {"text": title, "blocks": blocks}


def mail(target: Target, message: Message) -> EmailMessage:
    """Return a message as an e-mail; all about one alert are one conversation."""
    parsed = urlsplit(target.address)
    user = unquote(parsed.username or "")
    letter = EmailMessage()
    letter["From"] = user if "@" in user else f"penstock@{parsed.hostname}"
    letter["To"] = ", ".join(target.people)
    letter["Subject"] = message.title
    letter["Date"] = message.at
    letter["Message-ID"] = f"<{message.key}@penstock>"
    letter["References"] = f"<{message.thread}@penstock>"
    letter["Auto-Submitted"] = "auto-generated"
    letter["X-Idempotency-Key"] = message.key
    letter.set_content(f"{message.title}\n\n{message.text}\n")
    return letter


def _post(target: Target, body: bytes, headers: dict[str, str], timeout_s: float) -> None:
    said = {"content-type": "application/json", "user-agent": "penstock", **headers}
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0))
    try:
        # Redirects are not followed: what was configured is what is called. The body of the answer is not read.
        with (
            httpx.Client(timeout=timeout, follow_redirects=False) as client,
            client.stream("POST", target.address, content=body, headers=said) as answer,
        ):
            status, after = answer.status_code, answer.headers.get("retry-after", "")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise UndeliveredError(f"no answer: {type(error).__name__}") from error
    if not 200 <= status < 300:
        is_final = status < 500 and status not in _AGAIN
        after_s = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else 0.0
        raise UndeliveredError(f"it answered {status}", is_final=is_final, after_s=after_s)


def _connected(place: SplitResult, context: ssl.SSLContext, timeout_s: float) -> smtplib.SMTP:
    host = place.hostname or ""
    if place.scheme == "smtps":
        return smtplib.SMTP_SSL(host, place.port or 465, timeout=timeout_s, context=context)
    return smtplib.SMTP(host, place.port or 587, timeout=timeout_s)


def _mail(target: Target, message: Message, timeout_s: float) -> None:
    parsed = urlsplit(target.address)
    context = ssl.create_default_context()
    try:
        with _connected(parsed, context, timeout_s) as server:
            server.ehlo()
            is_private = parsed.scheme == "smtps"
            if not is_private and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
                is_private = True
            _log_in(server, unquote(parsed.username or ""), is_private=is_private)
            refused = server.send_message(mail(target, message))
    except smtplib.SMTPAuthenticationError as error:
        raise UndeliveredError(f"the mail server refused the log-in: {error.smtp_code}", is_final=True) from error
    except smtplib.SMTPRecipientsRefused as error:
        raise UndeliveredError("the mail server refused every address", is_final=_is_final(error)) from error
    except smtplib.SMTPResponseException as error:
        raise UndeliveredError(
            f"the mail server answered {error.smtp_code}", is_final=error.smtp_code >= 500
        ) from error
    except (smtplib.SMTPException, OSError) as error:
        raise UndeliveredError(f"the mail server did not take it: {type(error).__name__}") from error
    if refused:
        raise UndeliveredError(
            f"the mail server refused {len(refused)} of {len(target.people)} addresses", is_final=True
        )


def _log_in(server: smtplib.SMTP, user: str, *, is_private: bool) -> None:
    password = read_secret(SMTP_PASSWORD)
    if not user or password is None:
        return
    if not is_private:
        raise UndeliveredError("the mail server offers no encryption, and no password is sent without", is_final=True)
    server.login(user, password)


def _is_final(error: smtplib.SMTPRecipientsRefused) -> bool:
    return all(code >= 500 for code, _ in error.recipients.values())


def _split(address: str) -> SplitResult | None:
    try:
        parsed = urlsplit(address)
        _ = parsed.port
    except ValueError:
        return None
    return parsed


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
