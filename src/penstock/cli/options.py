"""The options and arguments that several commands share, and how their text is read."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from penstock.core.errors import InputError

Project = Annotated[
    Path, typer.Option("--project", help="Directory of the project.", exists=True, file_okay=False, show_default=False)
]
HERE = Path()
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
PipelineName = Annotated[
    str | None,
    typer.Argument(metavar="[PIPELINE]", help="Name or file of the pipeline; needless where there is only one."),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NODE.PARAM=VALUE", help="Set a run parameter; may be repeated."),
]
Now = Annotated[
    str | None, typer.Option("--now", metavar="TIME", help="Logical time, as 2026-03-01 or 2026-03-01T04:00:00Z.")
]


def read_params(given: Sequence[str] | None) -> Mapping[str, object]:
    """Return settings by name; which names and values are lawful is for the pipeline to say.

    Raises:
        InputError: One has no "=".
    """
    found: dict[str, object] = {}
    for setting in given or ():
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise InputError(f"-p {setting!r} sets nothing.", hint="write it as -p node.param=value")
        found[name.strip()] = value
    return found


def read_time(text: str | None, *, option: str = "--now") -> datetime | None:
    """Return the UTC time that an ISO date or time stands for; without a zone it is taken as UTC.

    Raises:
        InputError: The text is no time.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "write it as 2026-03-01 or 2026-03-01T04:00:00Z"
        raise InputError(f"{option} {text!r} is no time.", hint=hint) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def read_names(given: Sequence[str] | None) -> frozenset[str]:
    """Return names that were repeated or separated by commas."""
    return frozenset(name.strip() for text in given or () for name in text.split(",") if name.strip())
