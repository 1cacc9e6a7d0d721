"""A key depends on everything a result depends on, and the reason for a change is said in words."""

from typing import Any

import msgspec
import pytest

from penstock.pipeline.fingerprint import fingerprint_digest
from penstock.pipeline.graph import Fingerprint, Part
from penstock.pipeline.keys import Given, KeyParts, explain, node_key


def code(packages: dict[str, str] | None = None, **parts: tuple[str, str]) -> Fingerprint:
    made = {key.replace("__", ":"): Part(label=label, digest=digest) for key, (label, digest) in parts.items()}
    return Fingerprint(digest=fingerprint_digest(made, packages or {}), parts=made, packages=packages or {})


WEIGHTS = ("`_genre_weights` in features.py:31", "a")
BEFORE = KeyParts(
    node="recommender",
    role="model",
    code=code({"scikit-learn": "1.5.2"}, features___genre_weights=WEIGHTS),
    params={"factors": 64, "seed": 0},
    inputs={"train": Given(digest="t1"), "ratings": Given(digest="r1", label="ratings@6")},
    words={
        "now": Given(digest="n1", label="2013-10-01"),
        "champion": Given(digest="c1", label="movies@3"),
    },
    options={"slices": ["genre"], "metric": "ndcg"},
    python="3.11",
)


def replaced(**changes: Any) -> KeyParts:
    return msgspec.structs.replace(BEFORE, **changes)


CHANGES = [
    (
        {"code": code({"scikit-learn": "1.5.2"}, features___genre_weights=(WEIGHTS[0], "b"))},
        "`_genre_weights` in features.py:31 changed",
    ),
    (
        {
            "code": code(
                {"scikit-learn": "1.5.2"}, features___genre_weights=WEIGHTS, util__helper=("`helper` in util.py:3", "h")
            )
        },
        "`helper` in util.py:3 is new",
    ),
    ({"code": code({"scikit-learn": "1.5.2"})}, "`_genre_weights` in features.py is gone"),
    ({"code": code({"scikit-learn": "1.6.0"}, features___genre_weights=WEIGHTS)}, "scikit-learn 1.5.2 -> 1.6.0"),
    (
        {"code": code({"scikit-learn": "1.5.2", "polars": "1.30"}, features___genre_weights=WEIGHTS)},
        "polars 1.30 is now used",
    ),
    ({"code": code({}, features___genre_weights=WEIGHTS)}, "scikit-learn is no longer used"),
    ({"params": {"factors": 128, "seed": 0}}, "factors 64 -> 128"),
    ({"params": {"factors": 64.0, "seed": 0}}, "factors 64 -> 64.0"),
    ({"params": {"factors": float("nan"), "seed": 0}}, "factors 64 -> nan"),
    ({"params": {"factors": "x" * 50, "seed": 0}}, f"factors 64 -> '{'x' * 36}..."),
    ({"params": {"factors": 64, "seed": 0, "k": "a"}}, "parameter k is new ('a')"),
    ({"params": {"factors": 64}}, "parameter seed is gone"),
    ({"inputs": BEFORE.inputs | {"train": Given(digest="t2")}}, "train changed"),
    (
        {
            "inputs": BEFORE.inputs
            | {"ratings": Given(digest="r2", change="ratings has 3,120 new rows since ratings@6")}
        },
        "ratings has 3,120 new rows since ratings@6",
    ),
    ({"inputs": BEFORE.inputs | {"titles": Given(digest="x")}}, "titles is a new input"),
    ({"inputs": {"train": Given(digest="t1")}}, "ratings is no longer an input"),
    (
        {"words": BEFORE.words | {"now": Given(digest="n2", label="2013-10-08")}},
        "now 2013-10-01 -> 2013-10-08",
    ),
    (
        {"words": BEFORE.words | {"champion": Given(digest="c2", label="movies@4")}},
        "champion movies@3 -> movies@4",
    ),
    ({"words": BEFORE.words | {"since": Given(digest="s")}}, "it now takes since"),
    ({"words": {"now": BEFORE.words["now"]}}, "it no longer takes champion"),
    ({"options": {"slices": ["genre", "decade"], "metric": "ndcg"}}, "options changed: slices"),
    ({"options": {}}, "options changed: slices, metric"),
    ({"python": "3.12"}, "Python 3.11 -> 3.12"),
    ({"role": "baseline"}, "model recommender -> baseline recommender"),
    ({"format": 2}, "results are kept in a new format (1 -> 2)"),
]


@pytest.mark.parametrize(("changes", "words"), CHANGES, ids=[words for _, words in CHANGES])
def test_each_change_changes_the_key_and_is_said_in_words(changes: dict[str, Any], words: str) -> None:
    after = replaced(**changes)
    assert explain(BEFORE, after) == words
    assert node_key(after) != node_key(BEFORE)


def test_a_node_without_a_past_was_never_run() -> None:
    assert explain(None, BEFORE) == "never run"


def test_labels_do_not_count() -> None:
    """A function that moved down its file is the same function."""
    moved = code({"scikit-learn": "1.5.2"}, features___genre_weights=("`_genre_weights` in features.py:99", "a"))
    after = replaced(code=moved, inputs=BEFORE.inputs | {"train": Given(digest="t1", label="new words")})
    assert node_key(after) == node_key(BEFORE)
    assert explain(BEFORE, after) == "nothing changed"


def test_the_most_telling_reasons_come_first_and_few() -> None:
    after = replaced(
        code=code({"scikit-learn": "1.6.0"}, features___genre_weights=(WEIGHTS[0], "b")),
        params={"factors": 128, "seed": 0},
        inputs=BEFORE.inputs | {"train": Given(digest="t2")},
        python="3.12",
    )
    assert explain(BEFORE, after) == (
        "`_genre_weights` in features.py:31 changed; factors 64 -> 128; train changed; and 2 more"
    )


def test_parts_travel_as_json() -> None:
    again = msgspec.json.decode(msgspec.json.encode(BEFORE), type=KeyParts)
    assert node_key(again) == node_key(BEFORE)


def test_the_order_of_parts_does_not_count() -> None:
    turned = replaced(params=dict(reversed(BEFORE.params.items())), options=dict(reversed(BEFORE.options.items())))
    assert node_key(turned) == node_key(BEFORE)
