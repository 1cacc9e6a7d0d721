"""The public `Pipeline`: decorators that note what a function is for, and verbs that act on the whole.

Belongs here: what a user types and sees in a notebook. Does not: rules (`pipeline`), execution (`project`).
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Protocol, TypeVar, overload

from penstock import project
from penstock.core.lazy import import_quickly
from penstock.pipeline.declare import Declarations, Declared, declare, names
from penstock.pipeline.graph import Role

if TYPE_CHECKING:  # loaded when a pipeline runs, not when one is written
    from penstock.project.planning import PlanReport
    from penstock.project.running import RunReport
    from penstock.project.status import Status

Function = Callable[..., object]
F = TypeVar("F", bound=Function)
Names = str | Sequence[str]


class Decorator(Protocol):
    """Notes what a function is for and returns it unchanged."""

    def __call__(self, function: F, /) -> F:
        """Note `function`."""


class Pipeline:
    """A pipeline in one file of plain functions: each decorator says what a function is for and returns it unchanged.

    Parameters before `*` are given by the pipeline (they name a dataset, an output, or one of the words `since`,
    `now`, `champion`, `model`, `predictions`); parameters after `*` are given by a caller.

    Args:
        name: Name of the pipeline, as in `movies@12`.
        goal: What it is for, in one sentence.

    Example:
        >>> from penstock import Pipeline
        >>> numbers = Pipeline("numbers", goal="Show how a pipeline is written.")
        >>> @numbers.step
        ... def total(*, upto: int = 10) -> int:
        ...     return sum(range(upto))
        >>> total(upto=4)
        6
    """

    def __init__(self, name: str, *, goal: str = "") -> None:
        # The module that calls: it is what a run imports, so a pipeline made of included parts still has a home.
        module = str(sys._getframe(1).f_globals.get("__name__", "__main__"))  # noqa: SLF001 - no public way to ask
        self.declared = Declarations(name, goal=goal, module=module)

    @overload
    def dataset(self, function: F, /) -> F: ...
    @overload
    def dataset(
        self,
        *,
        key: Names | None = None,
        time: str | None = None,
        ranges: Mapping[str, tuple[float | None, float | None]] | None = None,
        allow_nulls: Names | None = None,
    ) -> Decorator: ...
    def dataset(
        self,
        function: Function | None = None,
        *,
        key: Names | None = None,
        time: str | None = None,
        ranges: Mapping[str, tuple[float | None, float | None]] | None = None,
        allow_nulls: Names | None = None,
    ) -> object:
        """Declare a source of rows, taken in incrementally and kept in versions.

        It may take `predictions` and `feedback`, the tables of what the pipeline served and what was said of it, and
        so make rows to learn from of them.

        Args:
            function: The function, when the decorator stands bare.
            key: Columns that identify a row; a newer row with the same key replaces the older.
            time: Column that says when a row became true; its largest value is the next `since`.
            ranges: Lowest and highest lawful value by column (None for no bound); other rows go to quarantine.
            allow_nulls: Columns that may be null.
        """
        options = {"key": names(key), "time": time, "ranges": ranges, "allow_nulls": names(allow_nulls)}
        return self._note("dataset", function, options)

    @overload
    def step(self, function: F, /) -> F: ...
    @overload
    def step(self, *, outputs: Names | None = None, each: str | None = None) -> Decorator: ...
    def step(
        self, function: Function | None = None, *, outputs: Names | None = None, each: str | None = None
    ) -> object:
        """Declare a step: its output has the function's name, or the names in `outputs`, returned as a tuple.

        Args:
            function: The function, when the decorator stands bare.
            outputs: Names of the outputs.
            each: Column to fan out over: one call per key, one output per key.
        """
        return self._note("step", function, {}, outputs=names(outputs), each=each)

    @overload
    def model(self, function: F, /) -> F: ...
    @overload
    def model(self, *, each: str | None = None) -> Decorator: ...
    def model(self, function: Function | None = None, *, each: str | None = None) -> object:
        """Declare the function that makes the model: the candidate in every evaluation.

        Args:
            function: The function, when the decorator stands bare.
            each: Column to fan out over: one model per key.
        """
        return self._note("model", function, {}, each=each)

    @overload
    def baseline(self, function: F, /) -> F: ...
    @overload
    def baseline(self, *, each: str | None = None) -> Decorator: ...
    def baseline(self, function: Function | None = None, *, each: str | None = None) -> object:
        """Declare a simple model that the candidate has to beat; evaluated on the same rows.

        Args:
            function: The function, when the decorator stands bare.
            each: Column to fan out over.
        """
        return self._note("baseline", function, {}, each=each)

    @overload
    def evaluate(self, function: F, /) -> F: ...
    @overload
    def evaluate(
        self,
        *,
        metric: str | None = None,
        slices: Names | None = None,
        key: Names | None = None,
        higher_is_better: bool = True,
    ) -> Decorator: ...
    def evaluate(
        self,
        function: Function | None = None,
        *,
        metric: str | None = None,
        slices: Names | None = None,
        key: Names | None = None,
        higher_is_better: bool = True,
    ) -> object:
        """Declare an evaluation: one row per example, run for the candidate, each baseline and the champion in turn.

        Args:
            function: The function, when the decorator stands bare; its first parameter is `model`.
            metric: Column that decides; None takes the first numeric column.
            slices: Columns to report the metric by.
            key: Columns that identify an example, so that models are compared on the same ones; None pairs by order.
            higher_is_better: Whether a larger metric is better.
        """
        options = {
            "metric": metric,
            "slices": names(slices),
            "key": names(key),
            "higher_is_better": higher_is_better,
        }
        return self._note("evaluate", function, options)

    @overload
    def check(self, function: F, /) -> F: ...
    @overload
    def check(self) -> Decorator: ...
    def check(self, function: Function | None = None) -> object:
        """Declare what must be true of its inputs: plain `assert`s; what consumes the same inputs waits for it."""
        return self._note("check", function, {})

    @overload
    def serve(self, function: F, /) -> F: ...
    @overload
    def serve(
        self, *, examples: Sequence[Mapping[str, object]] = (), columns: str | Sequence[str] = ()
    ) -> Decorator: ...
    def serve(
        self,
        function: Function | None = None,
        *,
        examples: Sequence[Mapping[str, object]] = (),
        columns: str | Sequence[str] = (),
    ) -> object:
        """Declare how the release answers: parameters after `*` are the fields of a request.

        Args:
            function: The function, when the decorator stands bare.
            examples: Requests, as field to value, that are shown in the docs and asked of every release.
            columns: Of the rows that callers send, where the function takes rows; by default those the model was
                given.
        """
        return self._note("serve", function, {"examples": list(examples) or None, "columns": columns or None})

    @overload
    def fallback(self, function: F, /) -> F: ...
    @overload
    def fallback(self, *, deadline_ms: float = 50.0) -> Decorator: ...
    def fallback(self, function: Function | None = None, *, deadline_ms: float = 50.0) -> object:
        """Declare what answers, with the same fields, when the serve function has not by the deadline, or failed.

        Args:
            function: The function, when the decorator stands bare.
            deadline_ms: How long the serve function may take, in milliseconds.
        """
        return self._note("fallback", function, {"deadline_ms": deadline_ms})

    @overload
    def outcome(self, function: F, /) -> F: ...
    @overload
    def outcome(self, *, within: str | None = None, value: float | None = None) -> Decorator: ...
    def outcome(
        self, function: Function | None = None, *, within: str | None = None, value: float | None = None
    ) -> object:
        """Declare how the truth is joined, late, to the served `predictions`.

        Args:
            function: The function, when the decorator stands bare.
            within: How long after a prediction the truth may come, as "14d".
            value: What one good outcome is worth, in money.
        """
        return self._note("outcome", function, {"within": within, "value": value})

    def include(self, other: "Pipeline") -> None:
        """Reuse everything that `other` declares."""
        self.declared.include(other.declared)

    def plan(self, *, params: Mapping[str, object] | None = None, now: datetime | str | None = None) -> "PlanReport":
        """Say for each node whether it would run or be reused, and why; runs nothing."""
        return project.plan_pipeline(self.declared, params=params, now=now)

    def run(
        self,
        *,
        params: Mapping[str, object] | None = None,
        now: datetime | str | None = None,
        force: Sequence[str] = (),
    ) -> "RunReport":
        """Run what changed, and release the result when every check passed.

        Args:
            params: Run parameters, as `{"recommender.factors": 128}`.
            now: Logical time of the run; the present when None.
            force: Nodes to run even if nothing changed.

        Raises:
            DeclarationError: The pipeline is wrong; every mistake is named.
            StepError: User code failed; its traceback comes first.
            CheckError: A check did not pass, so there is no release.
        """
        return project.run_pipeline(self.declared, params=params, now=now, force=force)

    def status(self) -> "Status":
        """Say how it stands: fresh, working for everyone, holding the load, healthy, changed by whom, paying.

        Raises:
            NotFoundError: Nothing of it was run yet.
        """
        found: Status = import_quickly("penstock.worker.standing").stand(self.declared)
        return found

    def __repr__(self) -> str:
        heading = f"Pipeline {self.declared.name!r}" + (f": {self.declared.goal}" if self.declared.goal else "")
        return "\n".join([heading, *(f"  {d.role:<8}  {d.name}" for d in self.declared)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{escape(d.name)}</th><td>{escape(d.role)}</td><td>{escape(_inputs(d))}</td>'
            f"<td>{escape(_outputs(d))}</td></tr>"
            for d in self.declared
        )
        goal = f"<p>{escape(self.declared.goal)}</p>" if self.declared.goal else ""
        heads = "".join(f'<th scope="col">{head}</th>' for head in ("Node", "Role", "Inputs", "Outputs"))
        return (
            f"<section>{goal}<table><caption>Pipeline {escape(self.declared.name)}</caption>"
            f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></section>"
        )

    def _note(
        self,
        role: Role,
        function: Function | None,
        options: Mapping[str, object],
        *,
        outputs: object = None,
        each: object = None,
    ) -> object:
        def note(noted: F, /) -> F:
            self.declared.add(declare(role, noted, options, outputs=outputs, each=each))
            return noted

        return note if function is None else note(function)


def _inputs(declared: Declared) -> str:
    code = getattr(declared.function, "__code__", None)
    return "" if code is None else ", ".join(code.co_varnames[: code.co_argcount])


def _outputs(declared: Declared) -> str:
    if declared.role in {"check", "serve", "fallback", "outcome"}:
        return ""
    return ", ".join(map(str, declared.outputs)) if isinstance(declared.outputs, tuple) else declared.name
