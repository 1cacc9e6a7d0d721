"""When a rollout moves."""

from datetime import timedelta

import pytest

from penstock.core.errors import InputError
from penstock.releases.rollout import Found, decide, parse_stage, parse_stages

STAGES = parse_stages(["shadow", "1%", "10%"])
MINUTE = timedelta(minutes=1)


def test_stages_end_with_everybody() -> None:
    """L5, L6: what policy says is read into shares that grow, and the last stage is the whole."""
    assert [(stage.name, stage.share, stage.is_shadow) for stage in STAGES] == [
        ("shadow", 0.0, True),
        ("1%", 0.01, False),
        ("10%", 0.1, False),
        ("100%", 1.0, False),
    ]
    assert [stage.name for stage in parse_stages([])] == ["100%"]


@pytest.mark.parametrize("text", ["", "10", "ten", "0%", "101%", "-5%", "1e1%", "10 pct", "nan%"])
def test_what_is_no_stage_is_refused(text: str) -> None:
    """A stage is a shadow or a share between nobody and everybody."""
    with pytest.raises(InputError, match=r"is no stage of a rollout\. Hint: write"):
        parse_stage(text)


@pytest.mark.parametrize("texts", [["10%", "1%"], ["10%", "10%"], ["10%", "shadow"], ["shadow", "shadow"]])
def test_stages_that_do_not_grow_are_refused(texts: list[str]) -> None:
    """A later stage never has fewer users."""
    with pytest.raises(InputError, match="do not grow"):
        parse_stages(texts)


@pytest.mark.parametrize(
    ("stage", "held", "requests", "broken", "action", "said"),
    [
        (0, 30, 500, (), "stay", "held at shadow for 30 s more"),
        (0, 60, 99, (), "stay", "waits at shadow for requests: 99 of 100"),
        (0, 60, 100, (), "advance", "on to 1%"),
        (2, 61, 100, (), "finish", "on to 100%"),
        (2, 1, 3, ("it fails",), "roll_back", "it fails"),
        (0, 999, 9999, ("it fails", "it is slow"), "roll_back", "it fails; it is slow"),
    ],
)
def test_a_stage_ends_by_time_requests_and_guards(
    stage: int, held: int, requests: int, broken: tuple[str, ...], action: str, said: str
) -> None:
    """tI6: no stage is left early, without having been seen by enough people, or with anything against it."""
    found = Found(requests=requests, broken=broken)
    move = decide(STAGES, stage, held=timedelta(seconds=held), hold=MINUTE, found=found, least=100)
    assert move.action == action
    assert said in move.reason
