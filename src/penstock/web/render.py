"""HTML of a view: the templates, and how times, numbers and references look."""

import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

_FOLDER = Path(__file__).parent / "templates"
_REFERENCE = re.compile(
    r"\b(?:(?P<release>[a-z0-9][a-z0-9._-]{0,127}@[0-9]{1,9})|(?P<run>r[0-9]{1,9})|(?P<alert>a[0-9]{1,9}))\b"
)
_SHOW = re.compile(
    r"penstock (?P<verb>show|why|alerts|runs|releases|status|rollouts)(?: (?P<what>[a-z0-9@._-]+))?(?P<rest>.*)"
)
_DIFF = re.compile(r"penstock diff (?P<before>[a-z0-9@._-]+) (?P<after>[a-z0-9@._-]+)")
_PLACES = {
    "alerts": "/alerts",
    "runs": "/runs",
    "releases": "/releases",
    "status": "/pipelines",
    "rollouts": "/pipelines",
}


def templates() -> Environment:
    """Return the templates; a name that no view gives is an error, not an empty place."""
    found = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "when": when,
        "lasting": lasting,
        "linked": linked,
        "link_of": link_of,
        "bytes": size,
        "figure": figure,
    }
    return found


def when(at: datetime | str | None) -> Markup:
    """Return a moment as `<time>`, which the page's script turns into the reader's own zone."""
    if at is None:
        return Markup("")
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    moment = moment.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC">{} UTC</time>').format(
        moment.isoformat(timespec="seconds"), moment.strftime("%Y-%m-%d %H:%M:%S"), moment.strftime("%Y-%m-%d %H:%M")
    )


def lasting(seconds: float | None) -> str:
    """Return a span of time in two figures: "0.31 s", "4.2 min", "3.1 h"."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def size(count: float | None) -> str:
    """Return bytes as "120 MB"."""
    if count is None:
        return ""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= length:
            return f"{count / length:.3g} {unit}"
    return f"{count:.0f} B"


def figure(value: float | None) -> str:
    """Return a figure with four digits that say something; a dash for none."""
    if value is None:
        return "–"  # noqa: RUF001  # a dash stands for no figure
    return f"{value:,.0f}" if abs(value) >= 10_000 or (value == int(value) and abs(value) >= 10) else f"{value:.4g}"


@pass_context
def linked(context: Context, text: str) -> Markup:
    """Return text whose releases, runs and alerts lead to their pages.

    A version of a dataset looks like a release; the pipelines that are `known` to the page tell them apart.
    """
    parts: list[Markup] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        parts.append(escape(text[end : found.start()]))
        kind = str(found.lastgroup)
        if kind == "release" and found[0].partition("@")[0] not in context["known"]:
            parts.append(escape(found[0]))
        else:
            parts.append(Markup('<a href="/{}s/{}">{}</a>').format(kind, found[0], found[0]))
        end = found.end()
    parts.append(escape(text[end:]))
    return Markup("").join(parts)


def link_of(command: str) -> str:
    """Return the page that shows what a command would print; "" where there is none."""
    pair = _DIFF.fullmatch(command)
    if pair is not None:
        return "/compare?" + urlencode({"before": pair["before"], "after": pair["after"]})
    found = _SHOW.fullmatch(command)
    if found is None or found["rest"].strip():
        return ""
    what, verb = found["what"], found["verb"]
    if verb in {"show", "why"}:
        reference = _REFERENCE.fullmatch(what or "")
        return "" if reference is None else f"/{reference.lastgroup}s/{reference[0]}"
    if verb in {"status", "rollouts"}:
        return f"/pipelines/{what}" if what else "/"
    return _PLACES[verb] + (f"?pipeline={what}" if what else "")
