"""Where the pages are answered: a thread of the worker that listens on this host."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.core.errors import InputError
from penstock.project.people import admit_owner
from penstock.project.workspace import Workspace
from penstock.serving.http.requests import LOOPBACK_NAMES
from penstock.web.edge import Pages
from penstock.worker.listening import Listener, answer_at, read_place

PORT = 8700


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Pages that answer.

    Attributes:
        sign_in: Address that signs the account of this process in, once.
    """

    listener: Listener
    sign_in: str


def open_pages(workspace: Callable[[], Workspace], place: str | None, *, names: Sequence[str] = ()) -> Opened:
    """Answer the pages in a thread of their own.

    Args:
        workspace: Gives the project as it is now.
        place: "127.0.0.1:8700"; None takes port 8700, or any that is free where that is not.
        names: Host names by which a proxy with TLS lets others in.

    Raises:
        InputError: The place cannot be used, or is not on this host.
    """
    host, port = read_place(place or f"127.0.0.1:{PORT}")
    if host not in LOOPBACK_NAMES:
        raise InputError(
            f"The pages are not served at {host!r}: what is sent there could be read on the way.",
            hint="listen on 127.0.0.1, and let a proxy with TLS in front of it name itself by --name HOST",
        )
    pages = Pages(workspace, LOOPBACK_NAMES | {name.lower() for name in names}, is_secure=bool(names)).app()
    shown = f"[{host}]" if ":" in host else host
    try:
        listener = answer_at(pages, f"{shown}:{port}", name="pages")
    except InputError:
        if place is not None:
            raise
        listener = answer_at(pages, f"{shown}:0", name="pages")  # another worker of this host has them too
    base = f"https://{names[0]}" if names else listener.url
    return Opened(listener=listener, sign_in=f"{base}/sign-in?token={admit_owner(workspace()).token}")
