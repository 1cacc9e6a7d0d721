"""What a pipeline file promises is what happens: parameters of checks, keys of fan-outs, nulls, what went live."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import CheckError
from penstock.engine.events import Event, RunStarted
from penstock.project.running import RunReport
from penstock.store.ledger import events
from project_folder import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty folder."""
    return Project(tmp_path)


def parts(project: Project, report: RunReport, node: str) -> dict[str, object]:
    """Return what a fan-out made, by key."""
    return {part: project.output(report, node, part=part) for part in report.outcome.kept[node]}


def test_a_check_is_given_its_run_parameters(project: Project) -> None:
    """A threshold that is asked for judges, and a result under another threshold is not reused."""
    project.write(
        """
        import polars as pl
        from penstock import Pipeline

        flow = Pipeline("flow")

        @flow.dataset
        def rows() -> pl.DataFrame:
            return pl.DataFrame({"v": [1, 2, 3]})

        @flow.check
        def enough(rows: pl.DataFrame, *, least: int = 2) -> None:
            assert rows.height >= least
        """
    )
    assert project.run().release == "flow@1"
    strict = project.run(params={"least": 10})
    assert (strict.release, strict.nodes["enough"]) == (None, "failed")


FAN_OUT = """
import polars as pl
from penstock import Pipeline

flow = Pipeline("flow")

@flow.dataset
def rows() -> pl.DataFrame:
    return pl.DataFrame({"shop": [KEYS], "v": [1, 2, 3, 4]})

@flow.step(each="shop")
def small(rows: pl.DataFrame, *, least: int = 0) -> pl.DataFrame:
    return rows.filter(pl.col("v") > least)

@flow.step(each="shop")
def told(small: pl.DataFrame, shop) -> list:
    return [shop, small.height]

@flow.step
def whole(small: pl.DataFrame) -> int:
    return small.height
"""


@pytest.mark.parametrize(
    ("keys", "shops"),
    [
        pytest.param("'a\\tb', 'a\\tb', 'a', 'c'", ["a\tb", "a", "c"], id="a tab"),
        pytest.param("'', '', 'a', 'c'", ["", "a", "c"], id="nothing"),
        pytest.param("'#split', '#split', 'a', 'c'", ["#split", "a", "c"], id="a name of the platform"),
        pytest.param("'\"\"', '\"\"', '', 'c'", ['""', "", "c"], id="quotes"),
        pytest.param("7, 7, 8, 9", [7, 8, 9], id="numbers"),
    ],
)
def test_every_key_gets_its_own_rows_and_is_itself(project: Project, keys: str, shops: list[object]) -> None:
    """Whatever a key looks like, also when the rows were cut by an earlier run and in a second fan-out."""
    project.write(FAN_OUT.replace("KEYS", keys))
    wanted = dict(zip(shops, [2, 1, 1], strict=True))
    given: list[dict[str, int]] = [{}, {"least": -1}]  # the second reuses the rows as they were cut
    for params in given:
        report = project.run(params=params)
        assert report.release is not None, report
        told: list[Any] = [value for value in parts(project, report, "told").values() if isinstance(value, list)]
        assert dict(told) == wanted
        assert project.output(report, "whole") == 4


def test_nulls_are_set_aside_from_the_first_intake_on(project: Project) -> None:
    """Naming the columns that may be null makes all others firm, at once."""
    project.write(
        """
        import polars as pl
        from penstock import Pipeline

        flow = Pipeline("flow")

        @flow.dataset(allow_nulls="note")
        def rows() -> pl.DataFrame:
            return pl.DataFrame({"note": [None, "x"], "v": [1, None]})
        """
    )
    project.run()
    first = project.versions("flow", "rows")[0]
    assert (first.rows, first.reasons) == (1, {"v: null": 1})


def test_a_changed_value_of_another_type_is_not_taken_for_the_old_one(project: Project) -> None:
    """3.7 is not 3, and text that is no number is not null: neither passes as a row that is known."""
    project.write(
        """
        import polars as pl
        from penstock import Pipeline

        flow = Pipeline("flow")

        @flow.dataset(key="id")
        def rows() -> pl.DataFrame:
            return pl.DataFrame({"id": [1, 2, 3], "v": [3, None, 5]})
        """
    )
    project.run()
    project.change("[3, None, 5]", "[3.7, None, 5.0]")
    refused = project.run()
    assert refused.release is None
    assert "v: Float64 -> expected Int64" in refused.failures["rows"].message
    project.change("[3.7, None, 5.0]", "['3', 'seven', '6']")
    assert project.run().release is not None
    latest = project.versions("flow", "rows")[-1]
    assert latest.reasons == {"v: text that is not a Int64": 1}
    assert project.rows(latest).sort("id").rows() == [(1, 3), (2, None), (3, 6)]


def test_what_was_not_compared_with_the_live_release_does_not_replace_it(project: Project) -> None:
    """A release that went live while a run was under way stays; the run says that it must be made again."""
    project.write(
        """
        import polars as pl
        from penstock import Pipeline

        flow = Pipeline("flow")

        @flow.dataset
        def rows() -> pl.DataFrame:
            return pl.DataFrame({"v": [1, 2, 3]})

        @flow.step
        def most(rows: pl.DataFrame, *, above: int = 0) -> int:
            return rows.filter(pl.col("v") > above).height
        """
    )
    project.run()

    def overtake(event: Event) -> None:
        if isinstance(event, RunStarted):
            assert project.run(params={"above": 1}).release == "flow@2"

    with pytest.raises(CheckError, match="flow@2"):
        project.run(params={"above": 2}, listener=overtake)
    assert project.live("flow") == "flow@2"
    assert project.run(params={"above": 2}).release == "flow@3"


def test_the_champion_is_debugged_with_the_code_it_was_released_with(project: Project) -> None:
    """A class that was edited since does not answer for the live release, whose code is another."""
    project.write(
        """
        from dataclasses import dataclass

        import polars as pl
        from penstock import Pipeline

        flow = Pipeline("flow")

        @dataclass
        class Line:
            slope: float

            def tell(self) -> str:
                return "as released"

        @flow.dataset
        def rows() -> pl.DataFrame:
            return pl.DataFrame({"v": [1.0, 2.0, 3.0]})

        @flow.model
        def line(rows: pl.DataFrame) -> Line:
            return Line(1.0)

        @flow.evaluate(metric="v")
        def quality(model: Line, rows: pl.DataFrame) -> pl.DataFrame:
            print(f"model {model.tell()}, code {Line(1.0).tell()}")
            return rows
        """
    )
    assert project.run().release == "flow@1"
    project.change('return "as released"', 'return "as edited"')
    done = project.command("debug", "quality", "--part", "champion")
    assert "model as released, code as edited" in done.stdout, done.stdout + done.stderr


def test_a_broken_row_that_stays_in_the_source_is_set_aside_once(tmp_path: Path) -> None:
    """D3, Q16: reading everything again with the same broken row makes no version, and so no release."""
    project = Project(tmp_path, "prices")
    project.write(
        "import polars as pl\nfrom penstock import Pipeline\n\nprices = Pipeline('prices')\n\n"
        "@prices.dataset(key='a', ranges={'b': (0, 5)})\n"
        "def rows() -> pl.DataFrame:\n    return pl.DataFrame({'a': [1, 2, 3], 'b': [1.0, 99.0, 3.0]})\n\n"
        "@prices.step\ndef total(rows: pl.DataFrame) -> float:\n    return rows['b'].sum()\n"
    )
    reports = [project.run() for _ in range(3)]
    assert [report.release for report in reports] == ["prices@1"] * 3
    versions = [report.outcome.datasets["rows"] for report in reports]
    assert [(v.version, v.rows, v.rows_quarantined) for v in versions] == [(1, 2, 1)] * 3
    with project.opened() as workspace:
        assert workspace.lake.table("prices", "rows").quarantine().collect().height == 1


def test_another_key_than_rows_were_taken_in_by_is_refused(project: Project) -> None:
    """D2: a dataset whose declared key changes would mean something else under the same name; nothing is released."""
    text = (
        "import polars as pl\nfrom penstock import Pipeline\n\nshop = Pipeline('shop')\n\n"
        "@shop.dataset(key='a')\ndef rows() -> pl.DataFrame:\n    return pl.DataFrame({'a': [1, 2], 'b': [1, 2]})\n\n"
        "@shop.step\ndef count(rows: pl.DataFrame) -> int:\n    return rows.height\n"
    )
    project.write(text)
    assert project.run().release == "shop@1"
    project.write(text.replace("key='a'", "key='bb'"))
    report = project.run()
    assert report.release is None
    assert "taken in with key ['a'], and is now declared with ['bb']" in report.failures["rows"].message


CHAMPION = """
import polars as pl
from penstock import Pipeline

one = Pipeline("one")

@one.step(outputs=("train", "test"))
def split() -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.DataFrame({"x": [1.0, 2.0]}), pl.DataFrame({"id": [1, 2, 3], "x": [1.0, 2.0, 3.0]})

@one.model
def mean(train: pl.DataFrame) -> dict[str, float]:
    return {"NAME": train["x"].mean()}

@one.evaluate(metric="near", key="id")
def quality(model, test: pl.DataFrame) -> pl.DataFrame:
    return test.select("id", near=-(pl.col("x") - model["NAME"]).abs())
"""


def test_a_live_release_that_cannot_be_judged_any_more_does_not_block_for_ever(project: Project) -> None:
    """E3, tI4: the run says how to go on; going on without the champion is asked for by name and recorded."""
    project.write(CHAMPION.replace("NAME", "mean"))
    assert project.run().release == "one@1"
    project.write(CHAMPION.replace("NAME", "average"))
    blocked = project.run()
    assert blocked.release is None
    assert "--without-champion" in blocked.failures["quality"].hint
    done = project.command("run", "--quiet", "--without-champion")
    assert done.returncode == 0, done
    with project.opened() as workspace, workspace.ledger.read() as conn:
        newest = next(e for e in events.page(conn) if e.action == "release.created")
    assert (newest.target, newest.details["compared_with"]) == ("one@2", "none, though one@1 was live")


def test_looking_makes_no_store(project: Project) -> None:
    """A command that only looks leaves no trace in a folder that is no project, and a misspelt name is told."""
    assert project.command("runs").returncode == 0
    assert not (project.root / ".penstock").exists()
    project.write(CHAMPION.replace("NAME", "mean"))
    project.run()
    done = project.command("releases", "onee")
    assert (done.returncode, "did you mean 'one'" in done.stderr) == (2, True)
