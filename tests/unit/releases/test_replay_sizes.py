"""By how much one answer differs from another."""

from typing import Any

import pytest

from penstock.releases.replay.sizes import size_of_change

SHOP = [{"rank": n + 1, "movie_id": n + 40, "score": 1 / (n + 1)} for n in range(4)]


def swapped(first: int, second: int) -> list[dict[str, Any]]:
    found = [dict(one) for one in SHOP]
    for one, other in ((first, second), (second, first)):
        found[one] = SHOP[other] | {"rank": one + 1, "score": SHOP[other]["score"]}
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (3, 3.0),
        (0.1 + 0.2, 0.3),
        ({"a": 1.0}, {"a": 1.0 + 1e-12}),
        ([], []),
        (["a", "b"], ["a", "b"]),
        (SHOP, [dict(one) for one in SHOP]),
        (None, None),
    ],
)
def test_what_is_the_same_has_no_size(before: Any, after: Any) -> None:
    """L8: equal numbers of another type, and sums in another order, are no change."""
    assert size_of_change(before, after) is None


def test_numbers_differ_absolutely_and_relatively() -> None:
    """L8: the larger of the two is what a difference is relative to, so that it is finite from zero on."""
    found = size_of_change(2.0, 2.5)
    assert found is not None
    assert (found.kind, found.absolute, found.relative, found.magnitude) == ("number", 0.5, 0.2, 0.2)
    found = size_of_change({"p": {"yes": 0.0, "no": 1.0}}, {"p": {"yes": 0.5, "no": 0.5}})
    assert found is not None
    assert (found.kind, found.relative, found.where) == ("number", 1.0, ("p.yes", "p.no"))
    found = size_of_change(-1, 1)
    assert found is not None
    assert (found.absolute, found.relative, found.magnitude) == (2.0, 2.0, 1.0)


def test_proven_equivalents_may_differ_as_they_were_proven() -> None:
    """L8: the tolerance of a faster equivalent is no change, and a hair more is one."""
    assert size_of_change(1.0, 1.0 + 5e-6, (1e-5, 0.0)) is None
    assert size_of_change(1.0, 1.0 + 5e-5, (1e-5, 0.0)) is not None
    assert size_of_change(0.0, 5e-7, (1e-9, 1e-6)) is None


def test_items_that_leave_a_list_are_a_share_of_it() -> None:
    """L8: of recommendations: how many are others, and how far the rest moved; items are known by their id."""
    found = size_of_change([1, 2, 3, 4], [1, 2, 5, 3])
    assert found is not None
    assert (found.kind, found.items, found.moved) == ("items", 0.25, 1)
    found = size_of_change(SHOP, [*SHOP[:3], SHOP[3] | {"movie_id": 99}])
    assert found is not None
    assert (found.kind, found.items) == ("items", 0.25)
    found = size_of_change(["a", "b"], [])
    assert found is not None
    assert (found.kind, found.items, found.moved) == ("items", 1.0, None)


def test_items_in_another_order_are_a_share_of_how_far_they_could_move() -> None:
    """L8: a list turned round is the largest change of order there is; a swap of neighbours is a small one."""
    found = size_of_change(["a", "b", "c", "d"], ["d", "c", "b", "a"])
    assert found is not None
    assert (found.kind, found.magnitude, found.items, found.moved) == ("order", 1.0, 0.0, 3)
    found = size_of_change(SHOP, swapped(1, 2))
    assert found is not None
    assert (found.kind, found.items, found.moved) == ("order", 0.0, 1)
    assert "rank" in found.where[-1]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("yes", "no", "category"),
        (True, False, "category"),
        (True, 1, "category"),
        (None, 1.0, "category"),
        ("1", 1, "category"),
        ({"a": 1}, {"b": 1}, "shape"),
        ([0.5, 0.5], [0.5, 0.25, 0.25], "shape"),
        ({"a": 1}, [1], "shape"),
        ({"label": "a", "p": 0.5}, {"label": "b", "p": 0.5}, "category"),
    ],
)
def test_everything_else_is_changed_or_not(before: Any, after: Any, kind: str) -> None:
    """L8: categories, text and shapes have no distance: they change altogether."""
    found = size_of_change(before, after)
    assert found is not None
    assert (found.kind, found.magnitude) == (kind, 1.0)
