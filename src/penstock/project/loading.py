"""A release in a Python process of one's own: the same code, checks and answers as over HTTP, without a server."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.core.errors import StepError
from penstock.core.plain import plain
from penstock.project.serving import served_release
from penstock.project.workspace import open_workspace, read_manifest
from penstock.serving.limits import Limits
from penstock.serving.plane.calls import Outcome, call
from penstock.serving.plane.questions import Question
from penstock.serving.program.load import Program, ServeFunction, load_program, user_frames

if TYPE_CHECKING:
    import polars as pl

# A caller's bound on rows is there to keep a server's memory; this process is the caller's own.
_LIMITS = Limits(rows=2**31)


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer.

    Attributes:
        answer: Plain values, as JSON would show them.
        fallback: The fallback gave it, because the function failed.
    """

    answer: Any
    fallback: bool


class LoadedRelease:
    """The serve functions of a release, callable in this process.

    Attributes:
        name: Its reference, "movies@3".
        functions: Names of its serve functions.
    """

    def __init__(self, name: str, program: Program) -> None:
        self.name = name
        self.functions = tuple(program.functions)
        self._program = program

    def __repr__(self) -> str:
        return f"LoadedRelease({self.name!r}, functions={self.functions!r})"

    def predict(self, function: str, /, **fields: Any) -> Prediction:
        """Ask one question, as `POST /movies/recommend` with these fields would.

        Args:
            function: Name of the serve function.
            fields: Its fields.

        Raises:
            NotFoundError: There is no such function.
            InputError: A field is missing, unknown or of another type.
            StepError: The function failed, and has no fallback.
        """
        known = self._program.function(function)
        parsed = known.fields.parse(msgspec.json.encode(fields, enc_hook=plain))
        outcome = _answered(known, parsed)
        return Prediction(msgspec.json.decode(outcome.json), outcome.fallback)

    def predict_rows(self, function: str, rows: "pl.DataFrame", /, **others: Any) -> "pl.DataFrame":
        """Ask a function of rows about all rows of a frame.

        Args:
            function: Name of the serve function.
            rows: Polars frame with the released columns.
            others: Its other fields.

        Returns:
            One row per row: the columns of the answer, or one called "answer".

        Raises:
            NotFoundError: There is no such function.
            InputError: It takes no rows, or a column is missing or of another type.
            StepError: The function failed, and has no fallback.
        """
        known = self._program.function(function)
        outcome = _answered(known, known.fields.of_rows(rows, others or None))
        if outcome.values is None:
            raise ValueError("an answer without values")
        return outcome.values.frame()


def load_release(release: str | None = None, *, project: str | Path = ".") -> LoadedRelease:
    """Load a release into this process: its code, its models, its checks of fields.

    One release per process: Python keeps the modules that it has imported. Predictions are not stored.

    Args:
        release: "movies@3", "movies" for the live one, or None for the only pipeline.
        project: A directory of the project.

    Raises:
        NotFoundError: There is no such release.
        ArtifactError: A stored artifact is damaged.
        StepError: The released code cannot be imported.

    Example:
        >>> from penstock import load_release
        >>> movies = load_release("movies")                                     # doctest: +SKIP
        >>> movies.predict("recommend", user_id=7, k=3).answer                  # doctest: +SKIP
    """
    with open_workspace(Path(project)) as workspace:
        found = served_release(release, workspace)
        manifest = read_manifest(found.manifest_digest, workspace)
        program = load_program(manifest, workspace.blobs, workspace.home / "code", limits=_LIMITS)
    return LoadedRelease(str(found.ref), program)


def _answered(function: ServeFunction, fields: msgspec.Struct) -> Outcome:
    name = function.fields.rows
    count = 1 if name is None else len(getattr(fields, name))
    question = Question(function=function, fields=(fields,), count=count, body=b"", kind="json", protocol="json")
    first = call(function, question)
    if first.error is None:
        return first
    if function.fallback is not None:
        second = call(function.fallback, question)
        if second.error is None:
            return msgspec.structs.replace(second, fallback=True)
    raise StepError(
        f"{user_frames(first.error)}Serve function {function.name!r} failed: "
        f"{type(first.error).__qualname__}: {first.error}.",
        hint="call the function by itself to debug it",
    ) from first.error
