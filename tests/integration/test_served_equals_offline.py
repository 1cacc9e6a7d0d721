"""What was served is answered again offline, a sample of each window, and a difference is an alarm (tO3, N8)."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import make_shop
from penstock.core.clock import Clock
from penstock.project.watching import equality
from penstock.project.watching.watch import look_at, watch
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.store.ledger import windows
from project_folder import Project

DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + 3 * DAY


def answered(project: Project, at: datetime, answers: list[str], release: str = "shop@1") -> list[str]:
    """Write answers to what tea costs, as a worker does."""
    log = PredictionLog(project.root / ".penstock", "shop", worker="w0-1", clock=Clock())
    fields = msgspec.Raw(b'{"item":"tea"}')
    made = []
    for answer in answers:
        made.append(log.new_id(at))
        answer_given = msgspec.Raw(answer.encode())
        log.append([LogEntry(id=made[-1], at=at, release=release, serve="price", fields=fields, answer=answer_given)])
    log.close()
    return made


def looked(project: Project, now: datetime) -> list[windows.KeptWindow]:
    with project.opened(Clock(now=lambda: now)) as workspace:
        watch(workspace, "shop", now)
        with workspace.ledger.read() as conn:
            return windows.page(conn, "shop", "equality:price")


@dataclass(frozen=True)
class Days:
    """Three days of answers, each looked at when it was over, and what was found; `wrong` was served otherwise."""

    project: Project
    wrong: str
    same: windows.KeptWindow
    different: windows.KeptWindow
    gone: windows.KeptWindow


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    project = make_shop(tmp_path_factory.mktemp("equality") / "shop")
    answered(project, NOW - DAY, ["3.0"] * 30)
    (same,) = looked(project, NOW)
    (wrong,) = answered(project, NOW, ["3.5"])
    answered(project, NOW, ["3.0", "3.0000000000000004"])
    (_, different) = looked(project, NOW + DAY)
    answered(project, NOW + DAY, ["9.9"], release="shop@77")
    (*_, gone) = looked(project, NOW + 2 * DAY)
    return Days(project, wrong, same, different, gone)


def test_a_sample_of_each_window_is_answered_again(days: Days) -> None:
    """tO3: of thirty answers as many as policy wants are asked again, and found to be the same."""
    (finding,) = days.same.findings
    assert (days.same.rows, finding["is_alarm"], finding["effect"]) == (20, False, 0.0)
    assert finding["said"] == "20 of 20 answers of 'price' that were answered again offline are the same."


def test_an_answer_served_otherwise_is_an_alarm(days: Days) -> None:
    """It leads to the answer by its id, and names the place of the difference, not its value."""
    (finding,) = days.different.findings
    assert (finding["kind"], finding["is_alarm"]) == ("feature_equality", True)
    assert finding["evidence"]["predictions"] == [days.wrong]
    assert finding["evidence"]["verdicts"] == {"close": 1, "different": 1, "equal": 1}
    assert finding["effect"] == pytest.approx(1 / 3)
    assert "3.5" not in str(finding)


def test_an_answer_of_a_release_that_is_gone_is_no_alarm(days: Days) -> None:
    """What cannot be compared is counted apart; a release that was removed is nobody's fault."""
    assert days.gone.start_at == NOW + DAY
    assert days.gone.findings[0]["evidence"]["verdicts"] == {"not recomputed": 1}
    assert not days.gone.is_alarm


def test_a_window_is_answered_again_once_and_an_empty_one_not_at_all(days: Days) -> None:
    """It costs a process: what is recorded is not asked again, and where nobody asked there is nothing to compare."""
    with days.project.opened() as workspace:
        assert list(equality.measure(look_at(workspace, "shop", NOW + 2 * DAY))) == []
        assert list(equality.measure(look_at(workspace, "shop", NOW + 4 * DAY))) == []


def test_policy_switches_it_off(tmp_path: Path) -> None:
    """`equality = 0` asks nothing again."""
    project = make_shop(tmp_path / "shop")
    answered(project, NOW - DAY, ["3.5"])
    project.write("[shop]\nequality = 0\n", "penstock.toml")
    with project.opened() as workspace:
        assert list(equality.measure(look_at(workspace, "shop", NOW))) == []
