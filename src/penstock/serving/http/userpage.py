"""The page of a pipeline for the people it is made for: ask, see the answer and why, say whether it was right.

Rendered once when a worker starts; every text is escaped. Its script and style are files of the same origin.
"""

import html
from pathlib import Path
from typing import Any

from penstock.serving.http.openapi import HTML, resolve_schema, to_json
from penstock.serving.messages import Header, Reply
from penstock.serving.program.load import Program, ServeFunction

PATH = "/app"
_SOURCES = b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
POLICY: Header = (
    b"content-security-policy",
    _SOURCES + b"; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
)
_FOLDER = Path(__file__).parent
_KINDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "boolean"}


def user_pages(program: Program, release: str, document: dict[str, Any], *, takes_feedback: bool) -> dict[str, Reply]:
    """Return the page with its script and style, by path.

    Args:
        program: The release.
        release: Its reference as text, "movies@3".
        document: Its OpenAPI document, for the types of the fields.
        takes_feedback: There is a route for feedback.
    """
    page = _render(program, release, document, takes_feedback=takes_feedback)
    return {
        PATH: Reply(200, page.encode(), kind=HTML, headers=(POLICY,)),
        f"{PATH}/page.js": Reply(200, (_FOLDER / "page.js").read_bytes(), kind=b"text/javascript; charset=utf-8"),
        f"{PATH}/page.css": Reply(200, (_FOLDER / "page.css").read_bytes(), kind=b"text/css; charset=utf-8"),
    }


def _render(program: Program, release: str, document: dict[str, Any], *, takes_feedback: bool) -> str:
    sections = "".join(_section(program, function, document) for function in program.functions.values())
    names = [f'<a href="#{_text(name)}">{_text(_words(name))}</a>' for name in program.functions]
    links = f"<nav>{''.join(names)}</nav>" if len(names) > 1 else ""
    made_from = ", ".join(program.datasets) or "no datasets"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{_text(_words(program.pipeline))}</title>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f'<link rel=stylesheet href="{PATH}/page.css"><script src="{PATH}/page.js" defer></script>'
        f'<body data-feedback="{"yes" if takes_feedback else "no"}" data-made-from="{_text(made_from)}">'
        f"<header><h1>{_text(_words(program.pipeline))}</h1><p>{_text(program.goal)}</p>{links}</header>"
        "<noscript><p>This page asks with a script. Without one, see <a href=/docs>how to ask by hand</a>.</noscript>"
        f"<main>{sections}</main>"
        f"<footer>Release {_text(release)}, made from {_text(made_from)}. <a href=/docs>For programs</a></footer>"
    )


def _section(program: Program, function: ServeFunction, document: dict[str, Any]) -> str:
    path = f"/{program.pipeline}/{function.name}"
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = resolve_schema(body, document)
    example = function.examples[0] if function.examples else {}
    required = schema.get("required", [])
    fields = "".join(
        _field(f"{function.name}-{name}", name, _Shown(field, document, example.get(name), name in required))
        for name, field in schema.get("properties", {}).items()
    )
    return (
        f'<section id="{_text(function.name)}"><h2>{_text(_words(function.name))}</h2>'
        f"<p>{_text(function.doc.strip().partition(chr(10))[0])}</p>"
        f'<form data-path="{_text(path)}" autocomplete=off novalidate>{fields}<button>Ask</button></form>'
        "<div class=answer aria-live=polite hidden></div></section>"
    )


class _Shown:
    """What is known of one field: its type in words of the page, its values, and what it holds at first."""

    def __init__(self, field: dict[str, Any], document: dict[str, Any], example: object, is_required: bool) -> None:  # noqa: FBT001  # used once, above
        options = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
        kind = resolve_schema(options[0], document) if len(options) == 1 else {}
        self.values: list[Any] = list(kind.get("enum", ()))
        self.kind = "choice" if self.values else _KINDS.get(str(kind.get("type")), "json")
        self.default = field.get("default")
        self.is_required = is_required
        self.example = example
        self.low, self.high = kind.get("minimum"), kind.get("maximum")

    @property
    def first(self) -> str:
        """The text the field holds at first."""
        if self.example is None:
            return ""
        return self.example if self.kind == "text" and isinstance(self.example, str) else to_json(self.example)


def _field(identifier: str, name: str, shown: _Shown) -> str:
    empty = "may be empty" if shown.default is None else f"{to_json(shown.default)} when empty"
    hint = "" if shown.is_required else f" <small>{_text(empty)}</small>"
    named = f'id="{_text(identifier)}" name="{_text(name)}" data-kind="{shown.kind}"'
    needed = " required" if shown.is_required else ""
    return f'<label for="{_text(identifier)}">{_text(_words(name))}{hint}</label>{_input(named, needed, shown)}'


def _input(named: str, needed: str, shown: _Shown) -> str:
    match shown.kind:
        case "choice" | "boolean":
            values = shown.values or [True, False]
            options = "".join(
                f'<option value="{_text(to_json(value))}"{" selected" if value == shown.example else ""}>'
                f"{_text(value if isinstance(value, str) else to_json(value))}</option>"
                for value in values
            )
            empty = "" if shown.is_required else "<option value=''></option>"
            return f"<select {named}{needed}>{empty}{options}</select>"
        case "integer" | "number":
            mode = "numeric" if shown.kind == "integer" else "decimal"
            return f'<input {named}{needed} inputmode={mode} value="{_text(shown.first)}">'
        case "text":
            return f'<input {named}{needed} value="{_text(shown.first)}">'
        case _:
            return f"<textarea {named}{needed} rows=5 spellcheck=false>{_text(shown.first)}</textarea>"


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _text(value: object) -> str:
    return html.escape(str(value))
