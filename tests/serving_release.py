"""Releases made by hand for the tests of serving: a module with serve functions, and artifacts for their arguments."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from penstock.core.records import Artifact
from penstock.core.refs import ReleaseRef
from penstock.core.settings import Policy
from penstock.pipeline.graph import CodeFile, Edge, Fingerprint, Graph, Node, Param
from penstock.releases.manifest import Manifest, encode_manifest
from penstock.serving.processes.supervisor import LiveRelease
from penstock.store import codecs
from penstock.store.blobs import Blobs

CODE = '''
import os
import time
from dataclasses import dataclass

from penstock.core.rows import Row


class Movie(Row):
    movie_id: int
    title: str
    score: float


def recommend(*, user_id: int, k: int = 2) -> list[Movie]:
    """Movies for a user.

    The best first.
    """
    return [Movie(movie_id=i, title=f"Movie {i}", score=user_id + i / 10) for i in range(k)]


def which(*, n: int) -> str:
    return "VERSION"


def slow(*, n: int, wait_s: float, mark: str) -> int:
    open(mark, "w").close()
    time.sleep(wait_s)
    return n


def fragile(*, text: str) -> float:
    if text == "nan":
        return float("nan")
    raise ValueError("secret row value " + text)


def whoami(*, q: str = "") -> int:
    return os.getpid()


def guarded(*, wait_ms: int) -> str:
    if wait_ms < 0:
        raise RuntimeError("no")
    time.sleep(wait_ms / 1000)
    return "model"


def backup(*, wait_ms: int) -> str:
    return "popular"
'''


@contextmanager
def own_imports() -> Iterator[None]:
    """Forget the module `app_code` before and after: one release per process is the rule elsewhere."""
    paths = list(sys.path)
    sys.modules.pop("app_code", None)
    try:
        yield
    finally:
        sys.path[:] = paths
        sys.modules.pop("app_code", None)


def make_node(name: str, role: Any, params: dict[str, str], **options: Any) -> Node:
    """Return a node whose function lives in the module `app_code`."""
    return Node(
        name=name,
        role=role,
        function=f"app_code:{name}",
        file="app_code.py",
        line=1,
        edges=tuple(Edge(argument=a, source=a, node=a, form=form) for a, form in options.pop("takes", {}).items()),
        params=tuple(Param(name=p, type=t, required=True) for p, t in params.items()),
        outputs=(name,),
        options=options,
        doc=options.pop("doc", ""),
        code=Fingerprint(digest="0"),
    )


def default_nodes() -> tuple[Node, ...]:
    """Return the nodes of `CODE`."""
    return (
        make_node("recommend", "serve", {"user_id": "int", "k": "int"}, doc="Movies for a user.\n\nThe best first."),
        make_node("which", "serve", {"n": "int"}),
        make_node("slow", "serve", {"n": "int", "wait_s": "float", "mark": "str"}),
        make_node("fragile", "serve", {"text": "str"}),
        make_node("whoami", "serve", {"q": "str"}),
        make_node("guarded", "serve", {"wait_ms": "int"}),
        make_node("backup", "fallback", {"wait_ms": "int"}, deadline_ms=100, serves=["guarded"]),
    )


def make_manifest(
    blobs: Blobs,
    code: str = CODE,
    *,
    nodes: tuple[Node, ...] | None = None,
    serving: dict[str, dict[str, Artifact]] | None = None,
) -> Manifest:
    """Return a manifest of pipeline "movies" whose code is kept in `blobs`."""
    digest = blobs.put(inspect.cleandoc(code).encode())
    graph = Graph(
        pipeline="movies",
        goal="People find <something> to watch.",
        entry="app_code",
        variable="movies",
        import_root=".",
        nodes=default_nodes() if nodes is None else nodes,
        files=(CodeFile(path="app_code.py", digest=digest),),
        python="3.11",
    )
    return Manifest(
        pipeline="movies",
        goal=graph.goal,
        graph=graph,
        artifacts={},
        serving=serving or {},
        datasets={},
        params={},
        now=None,
        policy=Policy(),
        environment={},
        checks=(),
        evaluations={},
    )


def make_release(home: Path, version: int, code: str = CODE, **parts: Any) -> LiveRelease:
    """Keep a release `movies@version` in `home`; `VERSION` in the code becomes its number."""
    blobs = Blobs(home / "blobs")
    manifest = make_manifest(blobs, code.replace("VERSION", f"v{version}"), **parts)
    return LiveRelease(ref=ReleaseRef("movies", version), manifest=blobs.put(encode_manifest(manifest)))


ARTIFACT_CODE = """
import polars as pl

def lookup(titles: pl.DataFrame, weights, *, movie_id: int) -> str:
    return titles.filter(pl.col("movie_id") == movie_id)["title"][0] * weights["times"]

def score(weights, *, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.col("x") * weights["times"])
"""


def make_artifact_release(home: Path, version: int) -> LiveRelease:
    """Keep a release whose functions take a frame and a plain value."""
    blobs = Blobs(home / "blobs")
    titles = codecs.save(pl.DataFrame({"movie_id": [1, 2], "title": ["a", f"v{version}"]}), blobs)
    weights = codecs.save({"times": version}, blobs)
    nodes = (
        make_node("lookup", "serve", {"movie_id": "int"}, takes={"titles": "polars", "weights": "value"}),
        make_node("score", "serve", {"rows": "polars.DataFrame"}, takes={"weights": "value"}),
    )
    serving = {"lookup": {"titles": titles, "weights": weights}, "score": {"weights": weights}}
    return make_release(home, version, ARTIFACT_CODE, nodes=nodes, serving=serving)
