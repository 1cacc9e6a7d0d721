"""What breaks an application, and what does not."""

from typing import Any

import msgspec
import pytest

from penstock.core.settings import Policy
from penstock.pipeline.graph import Fingerprint, Graph, Node, Param
from penstock.releases.contract import Relied, breaks
from penstock.releases.manifest import Example, Manifest

MOVIE = {"id": 7, "title": "Alien", "score": 0.5}
USER, K = Param(name="user_id", type="int", required=True), Param(name="k", type="int", required=False, default=10)


def released(
    *params: Param, answer: Any = (MOVIE, MOVIE), returns: str = "list[Movie]", name: str = "recommend"
) -> Manifest:
    """Return a release with one serve function that gave an answer to one example."""
    node = Node(
        name=name,
        role="serve",
        function=f"movies:{name}",
        file="movies.py",
        line=1,
        edges=(),
        params=params,
        outputs=(name,),
        returns=(returns,),
        code=Fingerprint(digest="0"),
    )
    graph = Graph(
        pipeline="movies",
        goal="",
        entry="movies",
        variable="movies",
        import_root=".",
        nodes=(node,),
        files=(),
        python="3.11",
    )
    plain = msgspec.to_builtins(answer)
    return Manifest(
        pipeline="movies",
        goal="",
        graph=graph,
        artifacts={},
        serving={},
        datasets={},
        params={},
        now=None,
        policy=Policy(),
        environment={},
        checks=(),
        evaluations={},
        examples={name: (Example(fields={"user_id": 1}, answer=list(plain) if isinstance(plain, tuple) else plain),)},
    )


BEFORE = released(USER, K)
WEBSITE, APP = (
    Relied(consumer="website", function="recommend", fields=frozenset({"user_id", "k"})),
    Relied(consumer="app", fields=frozenset({"user_id"}), answer=("title",)),
)


def told(after: Manifest, before: Manifest = BEFORE, *relied: Relied) -> list[str]:
    return [str(one) for one in breaks(before, after, relied or (WEBSITE, APP))]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (released(USER, K, name="suggest"), ["website: recommend: it is gone", "app: recommend: it is gone"]),
        (released(USER), ["website: recommend: field k is gone"]),
        (
            released(USER, msgspec.structs.replace(K, type="str")),
            ["website: recommend: field k was int and is str"],
        ),
        (
            released(USER, K, Param(name="country", type="str", required=True)),
            [f"{name}: recommend: field country is new and required" for name in ("website", "app")],
        ),
        (released(USER, msgspec.structs.replace(K, required=True)), ["app: recommend: field k is required"]),
        (
            released(USER, K, answer=[{"id": 7, "title": "Alien"}]),
            ["website: recommend: score of the answer is gone"],
        ),
        (
            released(USER, K, answer=[MOVIE | {"title": 9}]),
            [f"{name}: recommend: title of the answer was text and is number" for name in ("website", "app")],
        ),
        (
            released(USER, K, answer=[MOVIE, {"id": 8, "title": "Brazil"}]),
            ["website: recommend: score of the answer is gone"],
        ),
    ],
)
def test_a_breach_names_who_is_hit_and_by_what(after: Manifest, said: list[str]) -> None:
    """Q58: function, field, type, requirement, answer: each breach names only consumers that rely on it."""
    assert told(after) == said


@pytest.mark.parametrize(
    "after",
    [
        BEFORE,
        released(USER, K, Param(name="country", type="str", required=False)),
        released(USER, msgspec.structs.replace(K, type="int | None")),
        released(msgspec.structs.replace(USER, type="float", required=False), K),
        released(USER, K, answer=[MOVIE | {"year": 1979}], returns="list[Film]"),
        released(USER, K, answer=[MOVIE | {"score": 1}]),
    ],
)
def test_what_takes_or_gives_more_breaks_nobody(after: Manifest) -> None:
    """Q58: a field more, a wider type, one not needed any more, an answer with more in it: everybody goes on."""
    assert told(after) == []


def test_without_examples_the_annotation_of_the_answer_decides() -> None:
    """Q58: an answer that was never seen is known by its type; a map by key has no fields of its own."""
    before = released(USER, answer=[], returns="float | None")
    assert told(released(USER, answer=[], returns="float"), before) == []
    assert told(released(USER, answer=[], returns="str"), before, APP) == [
        "app: recommend: the answer was float | None and is str"
    ]
    scores = released(USER, answer={"7": 0.5}, returns="dict[str, float]")
    assert told(released(USER, answer={"9": 0.5}, returns="dict[str, float]"), scores) == []


def test_who_never_said_what_they_send_is_taken_to_send_all() -> None:
    """Q58: nothing known of a consumer means every field may be theirs."""
    assert told(released(USER), BEFORE, Relied(consumer="unknown")) == ["unknown: recommend: field k is gone"]
