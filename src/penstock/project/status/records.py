"""What the answers to the six questions consist of: lines, each with a verdict and what leads to its evidence."""

from datetime import datetime
from typing import Any, Literal

from penstock.core.records import Record
from penstock.project import shown

# "look": somebody should; "unknown": there is no evidence yet; "said": a fact that is neither good nor bad.
Verdict = Literal["fine", "look", "unknown", "said"]
Name = Literal["fresh", "works", "load", "healthy", "changed", "pays"]

QUESTIONS: dict[Name, str] = {
    "fresh": "Is it fresh?",
    "works": "Does it work for everyone?",
    "load": "Will it hold the load?",
    "healthy": "Is it healthy?",
    "changed": "Who changed what?",
    "pays": "Does it pay?",
}


class Line(Record, frozen=True, kw_only=True):
    """One fact.

    Attributes:
        said: In words, with its figures.
        leads_to: A command that shows the evidence, or the next step where there is none; "" where `said` is all.
        figures: The same for programs: plain JSON.
    """

    verdict: Verdict
    said: str
    leads_to: str = ""
    figures: dict[str, Any] = {}


class Answer(Record, frozen=True, kw_only=True):
    """The answer to one question: "look" where a line asks for it, "unknown" where none says that it is fine."""

    name: Name
    question: str
    verdict: Verdict
    lines: tuple[Line, ...]


class Status(Record, frozen=True, kw_only=True):
    """How a pipeline stands.

    Attributes:
        release: The live one, "movies@3"; None before the first.
        live_since: When it went live.
        by: Who let it: a run, a person.
    """

    pipeline: str
    now: datetime
    verdict: Verdict
    answers: tuple[Answer, ...]
    release: str | None = None
    live_since: datetime | None = None
    by: str = ""

    def __repr__(self) -> str:
        return f"Status of {self.pipeline}, {self.release or 'no release'}\n{shown.table_text(self._rows())}"

    def _repr_html_(self) -> str:
        caption = f"Status of {self.pipeline}, {self.release or 'no release'}"
        return shown.table_html(caption, ("Question", "", "What is known", "Leads to"), self._rows())

    def _rows(self) -> list[shown.Row]:
        """Return a row per line; a question stands at its first."""
        return [
            ("" if place else one.question, "" if place else one.verdict, line.said, line.leads_to)
            for one in self.answers
            for place, line in enumerate(one.lines)
        ]


class Waits(Record, frozen=True, kw_only=True):
    """A reason to retrain that has not led to a run yet.

    Attributes:
        cause: "new_data:ratings@8".
        said: What is the reason.
        held: Why it waits; "" where only its turn has to come.
        until: When that is over, if time alone decides.
    """

    cause: str
    said: str
    held: str = ""
    until: datetime | None = None


class Due(Record, frozen=True, kw_only=True):
    """What the next look of a worker would decide: its preview, as far as it is about one pipeline.

    Attributes:
        slot: The next moment of the schedule; None without one.
        begins: What would be run.
        waits: What would go on waiting.
        skips: What would be skipped, and why.
        worth: What is expected of a retrain, in a sentence; "" where nothing is known.
        figures: The figures of that.
        is_worth: Whether it gains more than it costs; None where nothing is known.
        is_weighed: Something begins that is run only where its gain exceeds its cost.
    """

    slot: datetime | None = None
    begins: tuple[Waits, ...] = ()
    waits: tuple[Waits, ...] = ()
    skips: tuple[Waits, ...] = ()
    worth: str = ""
    figures: dict[str, Any] = {}
    is_worth: bool | None = None
    is_weighed: bool = False


def answer(name: Name, lines: list[Line]) -> Answer:
    """Return the answer that lines give: what asks for a look first."""
    verdicts = {line.verdict for line in lines}
    verdict: Verdict = "look" if "look" in verdicts else "fine" if "fine" in verdicts else "unknown"
    ordered = sorted(lines, key=lambda line: line.verdict != "look")
    return Answer(name=name, question=QUESTIONS[name], verdict=verdict, lines=tuple(ordered))


def unknown(what: str, step: str, leads_to: str = "") -> Line:
    """Return a line that says what is not known, and what brings it."""
    return Line(verdict="unknown", said=f"not known yet: {what}; {step}", leads_to=leads_to)
