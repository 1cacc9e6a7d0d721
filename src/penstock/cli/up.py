"""`penstock up`: the worker, in the foreground until Ctrl-C."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import msgspec
import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.core.lazy import import_quickly
from penstock.core.settings import parse_duration, webhook_token
from penstock.project.workspace import open_workspace
from penstock.serving.observe.events import log_events
from penstock.worker.tick import pipelines_of
from penstock.worker.up import Beat, Up, stopped_by_signals


def up(
    *,
    every: Annotated[str, typer.Option(help="Time between looks.")] = "30s",
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Let other systems ask for retrains here; see PENSTOCK_WEBHOOK_TOKEN."),
    ] = None,
    pages: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where the pages are; port 8700 of this host, or a free one."),
    ] = None,
    no_pages: Annotated[bool, typer.Option("--no-pages", help="Serve no pages.")] = False,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Host name by which a proxy with TLS lets others see the pages.")
    ] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Keep pipelines fresh until Ctrl-C: take in rows, join truth, look at windows, retrain, release.

    Any number of them may run, on one machine or on several with one ledger: they share the work, and what one that
    dies leaves behind is taken over. With --json a line tells of each look.

    With --listen, POST /pipelines/NAME/retrain with the headers Authorization: Bearer TOKEN and Idempotency-Key: KEY
    asks for a retrain, once per key; TOKEN is in the environment, PENSTOCK_WEBHOOK_TOKEN.

    The pages are served too, at an address that signs you in once; others are let in by penstock people. With --json
    they are served where --pages asks for them.

    Example:
        penstock up
        penstock up --every 5m
        penstock up --listen 127.0.0.1:8900
        penstock up --pages 127.0.0.1:8700 --name penstock.example.org
    """
    log_events(is_terminal=sys.stderr.isatty())
    with open_workspace(project) as workspace:
        worker = Up(workspace, every_s=parse_duration(every), on_beat=_tell if as_json else None)
        names = pipelines_of(workspace)
        # Signals first: whoever reads where it listens may stop it at once.
        with (
            stopped_by_signals(worker),
            _listening(worker, listen, as_json=as_json),
            _paged(
                worker,
                pages,
                name or [],
                is_wanted=not no_pages and (pages is not None or not as_json),
                as_json=as_json,
            ),
        ):
            if not as_json:
                kept = ", ".join(names) or "nothing yet: no pipeline is released or scheduled"
                print(f"Keeping {kept}; looks every {every}.  (Ctrl-C stops)", flush=True)
            worker.run()
    if not as_json:
        print("Stopped; retrains that were under way begin again with the next worker.")


@contextmanager
def _listening(worker: Up, place: str | None, *, as_json: bool) -> Iterator[None]:
    if place is None:
        yield
        return
    # Loaded only when asked for: no other worker pays for a web server.
    listening = import_quickly("penstock.worker.listening")
    found = listening.listen(lambda: worker.workspace, place, webhook_token(), on_asked=worker.hurry)
    try:
        print(msgspec.json.encode({"url": found.url}).decode() if as_json else f"Listening at {found.url}", flush=True)
        yield
    finally:
        found.stop()


@contextmanager
def _paged(worker: Up, place: str | None, names: Sequence[str], *, is_wanted: bool, as_json: bool) -> Iterator[None]:
    if not is_wanted:
        yield
        return
    opened = import_quickly("penstock.web.serving").open_pages(lambda: worker.workspace, place, names=names)
    try:
        said = f"Pages: {opened.sign_in}  (signs you in once, within ten minutes)"
        told = {"pages": opened.listener.url, "sign_in": opened.sign_in}
        print(msgspec.json.encode(told).decode() if as_json else said, flush=True)
        yield
    finally:
        opened.listener.stop()


def _tell(beat: Beat) -> None:
    print(msgspec.json.encode(beat).decode(), flush=True)
