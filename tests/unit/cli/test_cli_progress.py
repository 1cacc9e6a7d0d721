"""A run as it is told while it goes on, in a pipe."""

import io

from rich.console import Console

from penstock.cli.progress import watch
from penstock.core.records import CheckResult, DatasetVersion, Failure, Usage
from penstock.core.states import NodeState
from penstock.engine.events import Event, NodeEnded, RunStarted, UnitEnded, UnitStarted, Waiting
from penstock.pipeline.graph import Fingerprint, Graph, Node

_GRAPH = Graph(
    pipeline="movies",
    goal="",
    entry="movies",
    variable="movies",
    import_root=".",
    nodes=tuple(
        Node(
            name=name, role="step", function="m:f", file="m.py", line=1, edges=(), params=(), outputs=(name,),
            code=Fingerprint(digest=""),
        )
        for name in ("ratings", "fit")
    ),
    files=(),
    python="3.11",
)  # fmt: skip


def told(*events: Event, quiet: bool = False, verbose: bool = False) -> str:
    file = io.StringIO()
    with watch(_GRAPH, Console(file=file, width=120), is_quiet=quiet, is_verbose=verbose) as tell:
        for event in (RunStarted(run_id=4, pipeline="movies", total=3), *events):
            tell(event)
    return file.getvalue()


def ended(node: str, state: NodeState = NodeState.SUCCEEDED, reason: str = "never run", **more: object) -> NodeEnded:
    return NodeEnded(node=node, role="step", state=state, reason=reason, units=1, **more)  # type: ignore[arg-type]  # only what the test names


def failing(*, will_retry: bool, part: str = "") -> UnitEnded:
    failure = Failure(kind="exception", message="Step 'fit' raised ValueError: no\nmore of it")
    return UnitEnded(node="fit", part=part, failure=failure, usage=Usage(), will_retry=will_retry)


def test_starts_and_ends_are_lines() -> None:
    text = told(UnitStarted(node="fit", part="", reason="never run", number=1), ended("fit"))
    assert "Run r4 of movies" in text
    assert "running" in text
    assert "done" in text


def test_an_intake_says_what_came_in() -> None:
    version = DatasetVersion(
        pipeline="movies", dataset="ratings", version=3, digest="d", table="t", delta_version=1, rows=90,
        rows_added=3120, rows_quarantined=12,
    )  # fmt: skip
    assert "ratings@3: 3,120 new rows, 12 set aside" in told(ended("ratings", dataset=version, is_new_version=True))
    assert "ratings@3: no new rows" in told(ended("ratings", dataset=version))


def test_nodes_of_the_platform_are_named_only_when_they_fail() -> None:
    broken = CheckResult(name="time_leakage", passed=False, message="train ends after test begins", built_in=True)
    assert "no-leakage" not in told(ended("no-leakage:train:test"))
    assert "no-leakage" in told(ended("no-leakage:train:test"), verbose=True)
    text = told(ended("no-leakage:train:test", NodeState.FAILED, checks=(broken,)))
    assert "FAILED" in text
    assert "time_leakage did not pass" in text


def test_a_failure_says_its_first_line_and_a_retry_says_so() -> None:
    assert "retrying" in told(failing(will_retry=True))
    text = told(failing(will_retry=False), ended("fit", NodeState.FAILED))
    assert "Step 'fit' raised ValueError: no" in text
    assert "more of it" not in text


def test_the_first_failing_part_is_said_at_once() -> None:
    """Before the node as a whole has ended, which may take long; and once, however many parts fail."""
    assert "Step 'fit' raised ValueError: no" in told(failing(will_retry=False, part="a"))
    assert told(failing(will_retry=False, part="a"), failing(will_retry=False, part="b")).count("FAILED") == 1


def test_a_skipped_node_says_why() -> None:
    assert "something it needs did not succeed" in told(ended("fit", NodeState.SKIPPED, ""))


def test_waiting_for_another_process_is_said_once() -> None:
    text = told(Waiting(node="fit", part=""), Waiting(node="fit", part=""))
    assert text.count("another process") == 1


def test_quiet_is_silent() -> None:
    assert told(ended("fit"), quiet=True) == ""
