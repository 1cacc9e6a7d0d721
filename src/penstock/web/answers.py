"""What was answered: the use of a pipeline by its consumers, a search of the newest answers, and one explained."""

import polars as pl

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.refs import parse_name
from penstock.project.consumers import Usage, list_usage
from penstock.project.status import known_pipelines
from penstock.project.tracing import recent_predictions, trace
from penstock.serving.predictions.records import Prediction
from penstock.web.visit import View, Visit

_SHOWN, _MOST = 50, 200
_SOUGHT = ("key", "consumer", "release")


class Use(Record, frozen=True, kw_only=True):
    """How a pipeline was used in the last 24 hours, and its newest answers that were sought.

    Attributes:
        predictions: None for callers who may not see what people asked.
    """

    pipeline: str
    consumers: tuple[Usage, ...]
    predictions: tuple[Prediction, ...] | None


def use(visit: Visit) -> View:
    """Show who asks a pipeline, and, to editors, what was asked and answered."""
    name = parse_name(visit.path["name"], what="pipeline")
    if name not in known_pipelines(visit.workspace):
        raise NotFoundError(f"There is no pipeline {name!r}.", hint="see all of them on the first page")
    sought = {word: visit.query.get(word, "") for word in _SOUGHT}
    where = [pl.col(word) == value for word, value in sought.items() if value]
    is_failed = visit.query.get("failed", "") == "1"
    where += [pl.col("fallback") | pl.col("error").is_not_null()] if is_failed else []
    found: tuple[Prediction, ...] | None = None
    if visit.caller.may("editor", name):
        limit = visit.number("limit", _SHOWN, most=_MOST)
        found = tuple(
            recent_predictions(name, visit.workspace, where=pl.all_horizontal(where) if where else None, limit=limit)
        )
    data = Use(pipeline=name, consumers=list_usage(visit.workspace, name), predictions=found)
    more = {"sought": sought, "is_failed": is_failed}
    return View(template="answers.html", title=f"Answers of {name}", data=data, pipeline=name, more=more)


def answer(visit: Visit) -> View:
    """Explain one answer: what was asked, by which release, with which models, and what became of it."""
    name = parse_name(visit.path["name"], what="pipeline")
    wanted = visit.path["answer"]
    if len(wanted) > _MOST:
        raise InputError("This is not a prediction id.", hint="an id looks like p018f312b4c00...")
    found = trace(wanted, visit.workspace, pipeline=name, is_recomputed=False)
    return View(template="answer.html", title="An answer", data=found, pipeline=name)
