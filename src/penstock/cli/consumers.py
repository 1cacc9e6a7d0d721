"""`penstock consumers`: the applications that ask, their keys, and how they use a pipeline."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Project
from penstock.cli.tables import counted, grid, indented, open_console, write_json
from penstock.core.errors import InputError
from penstock.project import consumers as registered
from penstock.project.consumers import Usage
from penstock.project.workspace import open_workspace
from penstock.store.ledger.consumers import Consumer, Contract, NewConsumer

_VERBS = ("list", "show", "add", "rotate", "revoke")
_FORMS = "penstock consumers [list] [PIPELINE], or show, add, rotate or revoke with PIPELINE and NAME"


def consumers(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[list|show|add|rotate|revoke] [PIPELINE] [NAME]", help="What to do, and with whom."),
    ] = None,
    *,
    rate: Annotated[str | None, typer.Option("--rate", help="Most requests in the long run, as 50/s or 600/m.")] = None,
    burst: Annotated[int | None, typer.Option("--burst", min=1, help="Most requests at once.")] = None,
    p99: Annotated[str | None, typer.Option("--p99", help="Promise that 99 % are answered within, as 50ms.")] = None,
    fields: Annotated[
        str | None, typer.Option("--fields", help="Fields it sends, as user_id,k; else those seen in the log.")
    ] = None,
    answer: Annotated[
        str | None, typer.Option("--answer", help="Fields of an answer that it reads, as title,score; else all.")
    ] = None,
    function: Annotated[str | None, typer.Option("--function", help="The serve function it asks; else any.")] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Register the applications that ask a pipeline: each with a key, a quota, a promise, and what it relies on.

    `add` and `rotate` print the key once; only its hash is kept. A server takes changes up within two seconds. Without
    a verb, all are listed with their use of the last 24 hours. A release that would break one of them fails its check.

    Example:
        penstock consumers add movies website --rate 50/s --burst 100 --p99 50ms --fields user_id,k
        penstock consumers movies
        penstock consumers rotate movies website
        penstock consumers revoke movies website
    """
    verb, pipeline, name = _read(words or [])
    options = {"--rate": rate, "--burst": burst, "--p99": p99, "--fields": fields, "--answer": answer}
    given = [option for option, value in (options | {"--function": function}).items() if value is not None]
    if given and verb != "add":
        raise InputError(f"{given[0]} is said when a consumer is added.", hint="penstock consumers add ... " + given[0])
    with open_workspace(project, to_look=verb in {"list", "show"}) as workspace:
        if verb == "list":
            return _list(registered.list_usage(workspace, pipeline), as_json=as_json)
        if pipeline is None or name is None:
            raise InputError(f"`penstock consumers {verb}` needs a pipeline and a name.", hint=_FORMS)
        if verb == "show":
            return _show(registered.show_usage(workspace, pipeline, name), as_json=as_json)
        if verb == "revoke":
            return _revoked(registered.revoke_key(workspace, pipeline, name), as_json=as_json)
        if verb == "rotate":
            return _keyed(registered.rotate_key(workspace, pipeline, name), as_json=as_json)
        contract = Contract(
            function=function or "", fields=registered.read_fields(fields), answer=registered.read_fields(answer)
        )
        new = NewConsumer(
            pipeline=pipeline,
            name=name,
            quota=registered.parse_quota(rate, burst),
            promise=registered.parse_promise(p99),
            contract=contract,
        )
        return _keyed(registered.add_consumer(workspace, new), as_json=as_json)


def _read(words: Sequence[str]) -> tuple[str, str | None, str | None]:
    verb, rest = (words[0], list(words[1:])) if words and words[0] in _VERBS else ("list", list(words))
    most = 1 if verb == "list" else 2
    if len(rest) > most:
        raise InputError(f"There is one word too many: {rest[most]!r}.", hint=_FORMS)
    pipeline, name = (*rest, None, None)[:2]
    return verb, pipeline, name


def _keyed(found: registered.Keyed, *, as_json: bool) -> int:
    one = found.consumer
    if as_json:
        write_json({"consumer": one.name, "pipeline": one.pipeline, "key_id": one.key_id, "key": found.key})
        return 0
    print(f"Consumer {one.name!r} of {one.pipeline!r} has this key, which is shown only now:\n")
    print(f"  {found.key}\n")
    print(f"It is sent with each request: -H 'authorization: Bearer {found.key[: len('pst_serve_') + 4]}...'")
    return 0


def _revoked(one: Consumer, *, as_json: bool) -> int:
    if as_json:
        write_json({"consumer": one.name, "pipeline": one.pipeline, "revoked_at": one.revoked_at})
    else:
        print(f"The key of {one.name!r} is refused from now on.")
    return 0


def _list(found: Sequence[Usage], *, as_json: bool) -> int:
    if as_json:
        write_json(found)
        return 0
    console = open_console()
    if not found:
        console.print("No consumers. Register one: penstock consumers add PIPELINE NAME")
        return 0
    table = grid("left", "whole", "whole", "right", "right", "right", "right", "right", "fold")
    heads = ("", "", "", "requests", "errors", "fallbacks", "p50", "p99", "")
    table.add_row(*(Text(head, style="dim") for head in heads))
    rows = [
        (
            one.pipeline,
            one.name or "(nobody says)",
            f"{one.requests:,}",
            f"{one.errors:,}",
            f"{one.fallbacks:,}",
            _ms(one.p50_ms),
            _ms(one.p99_ms),
            "; ".join(_about(one)),
        )
        for one in found
    ]
    console.print("In the last 24 hours", style="bold")
    console.print(indented(table, rows))
    return 0


def _show(one: Usage, *, as_json: bool) -> int:
    if as_json:
        write_json(one)
        return 0
    relies = [f"function {one.contract.function}"] if one.contract.function else []
    relies += [f"sends {', '.join(one.contract.fields)}"] if one.contract.fields else []
    relies += [f"reads {', '.join(one.contract.answer)}"] if one.contract.answer else []
    rows = [
        (
            "key",
            "none" if not one.registered else f"revoked {one.revoked_at:%Y-%m-%d %H:%M}" if one.revoked_at else "good",
        ),
        ("quota", one.quota or "no limit"),
        ("promise", "; ".join(_about(one, is_whole=True)) or "none"),
        ("relies on", "; ".join(relies) or "whatever it is seen to send, and all of the answer"),
        ("last 24 h", f"{counted(one.requests, 'request')}, {counted(one.errors, 'error')}"),
        ("", f"{counted(one.fallbacks, 'fallback')}; p50 {_ms(one.p50_ms) or '-'}, p99 {_ms(one.p99_ms) or '-'}"),
    ]
    console = open_console()
    console.print(Text(f"{one.name}  ", style="bold").append(f"asks {one.pipeline}", style="not bold"))
    console.print(indented(grid("left", "whole", "fold"), [(Text(head, style="dim"), text) for head, text in rows]))
    return 0


def _about(one: Usage, *, is_whole: bool = False) -> list[str]:
    said = [one.promise] if one.promise else []
    if one.kept is not None:
        said = [f"{one.promise}: {'kept' if one.is_kept else 'BROKEN'}, {one.kept:.2%} in time"]
    if is_whole:
        return said
    said += [one.quota] if one.quota else []
    said += ["no key"] if not one.registered else ["key revoked"] if one.revoked_at is not None else []
    return said


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} ms"
