"""The pages of a small project as a person reaches them: a thread that listens, and somebody signed in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from penstock.core.clock import Clock
from penstock.project import people
from penstock.project.workspace import Workspace
from penstock.store.ledger.people import EVERY, Role
from penstock.web.edge import Pages
from penstock.worker.listening import answer_at
from project_folder import Project

SHOP = """
import polars as pl

from penstock import Pipeline

shop = Pipeline("shop", goal="People find <what> they need.")
WORD = "one"


@shop.dataset(key="person")
def buyers() -> pl.DataFrame:
    return pl.DataFrame({"person": range(60), "bought": [p % 3 for p in range(60)], "kind": ["a", "b"] * 30})


@shop.model
def best(buyers: pl.DataFrame) -> str:
    return WORD


@shop.baseline
def usual(buyers: pl.DataFrame) -> str:
    return "usual"


@shop.evaluate(metric="fit", slices=("kind",))
def fit(model, buyers: pl.DataFrame) -> pl.DataFrame:
    good = 0.9 if model != "usual" else 0.4
    return buyers.select("person", "kind", fit=good + pl.col("bought") / 50)


@shop.serve(examples=[{"person": 1}])
def show(best: str, *, person: int) -> str:
    return best
"""


@dataclass(frozen=True, slots=True)
class Site:
    """Pages that answer.

    Attributes:
        url: "http://127.0.0.1:8700".
    """

    url: str
    workspace: Workspace

    @property
    def cookie(self) -> str:
        """Name of the cookie of a session."""
        return f"penstock_session_{httpx.URL(self.url).port}"

    def session(self, name: str, role: Role, pipeline: str = EVERY) -> str:
        """Let somebody in and sign them in; return the value of their cookie."""
        made = people.add_person(self.workspace, name, role, pipeline=pipeline, by="test")
        signed_in = people.sign_in(self.workspace, made.token)
        assert signed_in is not None
        return signed_in.token

    @contextmanager
    def client(self, name: str, role: Role, pipeline: str = EVERY) -> Iterator[httpx.Client]:
        """Browse as somebody with a role: with their cookie, and the Origin that a browser sends."""
        cookies = {self.cookie: self.session(name, role, pipeline)}
        headers = {"origin": self.url}
        with httpx.Client(base_url=self.url, cookies=cookies, headers=headers, timeout=60) as client:
            yield client


def make_shops(root: Path) -> Project:
    """Make a pipeline with two releases, the second live."""
    root.mkdir(exist_ok=True)
    project = Project(root, "shop")
    project.write(SHOP, "shop.py")
    assert project.run().release == "shop@1"
    project.change('WORD = "one"', 'WORD = "two"', "shop.py")
    assert project.run().release == "shop@2"
    return project


@contextmanager
def answered(project: Project, clock: Clock | None = None) -> Iterator[Site]:
    """Answer the pages of a project at a free port until the block ends."""
    with project.opened(clock) as workspace:
        names = frozenset({"127.0.0.1", "localhost"})
        listener = answer_at(Pages(lambda: workspace, names).app(), "127.0.0.1:0", name="pages")
        try:
            yield Site(listener.url, workspace)
        finally:
            listener.stop()
