"""URLs as a source: fetched only when they changed, page by page, with retries and a limit of size."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import polars as pl
from blake3 import blake3

from penstock.core.errors import DataError, InputError
from penstock.sources.cursors import decode_value, encode_value, own_cursor
from penstock.sources.reading import Format, Reading, ending_format, read_file
from penstock.sources.source import Batch

_CONTENT: dict[str, Format] = {
    "text/csv": "csv",
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/vnd.apache.parquet": "parquet",
}
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient and how greedy a fetch may be.

    Attributes:
        size_bytes: Most bytes of one page.
        pages: Most pages of one intake.
        tries: Tries for each page.
        wait_s: Wait before the second try, doubled each time up to a minute.
        timeout_s: Longest silence of the server.
    """

    size_bytes: int = 4 * 2**30
    pages: int = 10_000
    tries: int = 4
    wait_s: float = 1.0
    timeout_s: float = 30.0


def http(
    url: str,
    *,
    column: str | None = None,
    parameter: str = "since",
    headers: Mapping[str, str] | None = None,
    reading: Reading | None = None,
    limits: Limits | None = None,
) -> "Http":
    """Read a CSV, JSON-lines or Parquet document, and the pages its `Link: rel="next"` headers lead to.

    Without `column` the whole document is new whenever the server says it changed (ETag, Last-Modified) and its bytes
    did. With `column` the largest value taken in is sent as the query parameter `parameter`.

    Args:
        url: Where it is.
        column: A growing column the server can filter by.
        parameter: Name of the query parameter.
        headers: Sent with each request, as for authorization.
        reading: Format and types; by default the ending of the URL or the server's content type says the format.
        limits: How patient and how greedy.

    Raises:
        InputError: The URL is not http or https.

    Example:
        >>> http("https://example.org/ratings.csv").url
        'https://example.org/ratings.csv'
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise InputError(f"{_shown(url)!r} is not a web address.", hint="start it with https://")
    return Http(url, column, parameter, dict(headers or {}), reading or Reading(), limits or Limits())


class _BusyError(Exception):
    """The server asked to come again; its argument is the status."""


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer of the server, as a file."""

    path: Path
    name: str
    etag: str | None
    modified: str | None
    format: Format | None
    next_url: str | None


@dataclass(frozen=True, slots=True)
class Http:
    """Rows behind a URL; made by `http`. Its `repr` leaves out the URL and headers, which may hold secrets."""

    url: str = field(repr=False)
    column: str | None
    parameter: str
    headers: Mapping[str, str] = field(repr=False)
    reading: Reading
    limits: Limits

    def batches(self, cursor: Any) -> Iterator[tuple[Batch, Any]]:
        """Yield the rows of a document that changed, or those past the last value; see `Source.batches`."""
        last = own_cursor(cursor, "http")
        with (
            httpx.Client(timeout=self.limits.timeout_s, follow_redirects=True, headers=self.headers) as client,
            tempfile.TemporaryDirectory(prefix="penstock-") as folder,
        ):
            if self.column is None:
                yield from self._changed(client, last, Path(folder))
            else:
                yield from self._newer(client, last, self.column, folder=Path(folder))

    def _changed(self, client: httpx.Client, last: dict[str, Any], folder: Path) -> Iterator[tuple[Batch, Any]]:
        conditions = {"If-None-Match": last.get("etag"), "If-Modified-Since": last.get("last_modified")}
        sent = {name: value for name, value in conditions.items() if value}
        pages = list(self._pages(client, self.url, sent, folder=folder))
        whole = blake3()
        for page in pages:
            whole.update_mmap(page.path)
        digest = whole.hexdigest()
        if not pages or digest == last.get("digest"):
            return
        after = {"source": "http", "digest": digest, "etag": pages[0].etag, "last_modified": pages[0].modified}
        held: Batch | None = None
        for batch in (batch for page in pages for batch in self._read(page)):
            if held is not None:
                yield held, last or None
            held = batch
        if held is not None:
            yield held, after

    def _newer(
        self, client: httpx.Client, last: dict[str, Any], column: str, *, folder: Path
    ) -> Iterator[tuple[Batch, Any]]:
        value = decode_value(last.get("value"))
        url = httpx.URL(self.url)
        if value is not None:
            text = value.isoformat() if hasattr(value, "isoformat") else str(value)
            url = url.copy_merge_params({self.parameter: text})
        largest = value
        held: pl.DataFrame | None = None
        for page in self._pages(client, str(url), {}, folder=folder):
            for batch in self._read(page):
                frame = batch if isinstance(batch, pl.DataFrame) else pl.DataFrame(batch)
                # Many servers answer "since" with the value itself included.
                fresh = frame if value is None else frame.filter(pl.col(column) > value)
                if held is not None:
                    yield held, last or None
                held = fresh
                largest = _largest(fresh, column, largest)
        if held is not None and held.height:
            # Pages need not come in order of the column, so only the last batch may move the cursor.
            yield held, {"source": "http", "value": encode_value(largest)}

    def _read(self, page: _Page) -> Iterator[Batch]:
        reading = self.reading if self.reading.format else replace(self.reading, format=page.format)
        return read_file(page.path, page.name, reading)

    def _pages(self, client: httpx.Client, url: str, sent: Mapping[str, str], *, folder: Path) -> Iterator[_Page]:
        following: str | None = url
        for number in range(self.limits.pages):
            if following is None:
                return
            page = self._fetch(client, following, sent if number == 0 else {}, folder / f"page-{number}")
            if page is None:
                return
            yield page
            following = page.next_url
        if following is not None:
            raise DataError(
                f"{_shown(url)} has more than {self.limits.pages} pages.", hint="raise Limits.pages if that is right"
            )

    def _fetch(self, client: httpx.Client, url: str, sent: Mapping[str, str], path: Path) -> _Page | None:
        """Return a page; None when the server says it did not change."""
        problem = ""
        for attempt in range(self.limits.tries):
            if attempt:
                time.sleep(min(60.0, self.limits.wait_s * 2 ** (attempt - 1)))
            try:
                return self._try(client, url, sent, path)
            except _BusyError as error:
                problem = f"status {error.args[0]}"
            except httpx.TransportError as error:
                problem = type(error).__name__
        raise DataError(
            f"{_shown(url)} did not answer in {self.limits.tries} tries: {problem}.",
            hint="nothing was taken in; look at the server, then take the data in again",
        )

    def _try(self, client: httpx.Client, url: str, sent: Mapping[str, str], path: Path) -> _Page | None:
        with client.stream("GET", url, headers=dict(sent)) as answer:
            if answer.status_code in _AGAIN:
                raise _BusyError(answer.status_code)
            return self._accept(answer, path)

    def _accept(self, answer: httpx.Response, path: Path) -> _Page | None:
        shown = _shown(str(answer.url))
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return None
        if not answer.is_success:
            raise DataError(f"{shown} answered with status {answer.status_code}.", hint="check the address and headers")
        size_bytes = 0
        with path.open("wb") as file:
            for chunk in answer.iter_bytes():
                size_bytes += len(chunk)
                if size_bytes > self.limits.size_bytes:
                    raise DataError(
                        f"{shown} sent more than {self.limits.size_bytes} bytes.", hint="raise Limits.size_bytes"
                    )
                file.write(chunk)
        following = answer.links.get("next", {}).get("url")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        return _Page(
            path=path,
            name=shown,
            etag=answer.headers.get("etag"),
            modified=answer.headers.get("last-modified"),
            format=_CONTENT.get(kind) or ending_format(answer.url.path),
            next_url=urljoin(str(answer.url), following) if following else None,
        )


def _largest(frame: pl.DataFrame, column: str, before: Any) -> Any:
    if column not in frame.columns:
        raise DataError(f"The rows have no column {column!r}.", hint=f"they have {', '.join(frame.columns[:20])}")
    if frame[column].null_count():
        raise DataError(f"Column {column!r} has nulls, so it cannot say what is new.", hint="name another column")
    largest: Any = frame[column].max()
    return largest if before is None or (largest is not None and largest > before) else before


def _shown(url: str) -> str:
    """Return a URL without what may be secret: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
