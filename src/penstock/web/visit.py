"""What a page gets and what it gives: the request as far as pages may see it, and a view."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.core.errors import InputError
from penstock.project.people import Caller
from penstock.project.workspace import Workspace

_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request whose caller was found good.

    Attributes:
        path: Values of the path, "name" of "/pipelines/{name}".
        query: Of the address; the first value of each name.
        form: What was sent, as text.
        prefix: Scheme and host of this server, "http://127.0.0.1:8700".
        key: What the caller named this wish, so that it is one however often it is sent; "" for no name.
    """

    workspace: Workspace
    caller: Caller
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    prefix: str = ""
    key: str = ""

    def number(self, name: str, default: int, *, most: int) -> int:
        """Return a number of the address between 1 and `most`.

        Raises:
            InputError: It is none.
        """
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdecimal() or len(text) > _DIGITS or not 1 <= int(text) <= most:
            raise InputError(f"{name} {text[:40]!r} is no number from 1 to {most:,}.", hint=f"leave out {name}")
        return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A page, before it is HTML or JSON.

    Attributes:
        template: Which of `templates`.
        title: Of the page.
        data: A record or a list of records: the JSON twin.
        pipeline: Whom it is about: callers without a role there do not get it. None for a page that holds only what
            this caller may see.
        more: What only the HTML needs.
    """

    template: str
    title: str
    data: object
    pipeline: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """An action that was carried out.

    Attributes:
        said: In a sentence.
        to: The page where one sees it.
        data: What JSON callers get.
    """

    said: str
    to: str
    data: object
