"""How failures are told: message and hint on standard error, JSON where asked for, an exit code; never a traceback."""

import json
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from penstock.core.errors import PenstockError
from penstock.core.settings import load_settings

TERMINATED = 143
_OURS = "this is a fault of Penstock; please report it with the file above"


def tell(error: Exception, given: Sequence[str]) -> int:
    """Say what failed and return the exit code of the process.

    Args:
        error: What came out of a command.
        given: The arguments of the process.
    """
    if isinstance(error, PenstockError):
        _say(error.code, error.message, error.hint, given)
        return TERMINATED if error.code == "cancelled" else error.exit_code
    usage = getattr(error, "format_message", None)
    if callable(usage):
        path = getattr(getattr(error, "ctx", None), "command_path", "penstock")
        _say("input", str(usage()).replace("Value error, ", ""), f"see {path} --help", given)
        return 2
    log = _keep(error, given)
    _say("crash", f"{type(error).__name__}: {error} (all of it in {log})", _OURS, given)
    return 1


def tell_cancelled(given: Sequence[str]) -> None:
    """Say that the person stopped the command."""
    _say("cancelled", "Cancelled.", "what is finished is kept; the same command goes on from there", given)


def _say(code: str, message: str, hint: str, given: Sequence[str]) -> None:
    if "--json" in given:
        print(json.dumps({"error": {"code": code, "message": message, "hint": hint}}, ensure_ascii=False))
    lead = "" if code == "cancelled" else "Error: "
    print(f"{lead}{message}", file=sys.stderr)
    if hint:
        print(f"Hint: {hint}", file=sys.stderr)


def _keep(error: Exception, given: Sequence[str]) -> Path:
    """Write the whole traceback to a file: for whoever mends Penstock, not for whoever uses it."""
    named = [given[i + 1] for i, word in enumerate(given[:-1]) if word == "--project"]
    name = f"crash-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.log"
    text = "".join(traceback.format_exception(error))
    try:
        path = load_settings(Path(*named[:1])).home / "tmp" / name
        path.write_text(text, encoding="utf-8", errors="replace")
    except (OSError, PenstockError):  # no store, or one that cannot be written: it may be the very thing that failed
        path = Path(tempfile.gettempdir()) / f"penstock-{name}"
        path.write_text(text, encoding="utf-8", errors="replace")
    return path
