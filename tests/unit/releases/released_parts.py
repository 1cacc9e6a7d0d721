"""A release made by hand with something of everything, for the tests of this room."""

import inspect
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from penstock.core.records import CheckResult, Interval
from penstock.core.settings import Policy
from penstock.core.states import NodeState
from penstock.engine.state import RunOutcome
from penstock.pipeline.graph import CodeFile, Edge, Fingerprint, Graph, Node, Param
from penstock.releases.manifest import Example, Manifest, ReleasedDataset, ReleasedEvaluation
from penstock.store import codecs
from penstock.store.blobs import Blobs

CODE = '''
def find(titles, model, *, movie_id: int) -> str:
    """Title of a movie."""
    return titles.filter(titles["movie_id"] == movie_id)["title"][0] * model["times"]
'''


def make_node(name: str, role: Any, takes: dict[str, Any] | None = None, **options: Any) -> Node:
    """Return a node of the module `released_code`."""
    return Node(
        name=name,
        role=role,
        function=f"released_code:{name}",
        file="released_code.py",
        line=1,
        edges=tuple(Edge(argument=a, source=a, node=a, form=form) for a, form in (takes or {}).items()),
        params=(Param(name="movie_id", type="int", required=True),) if role == "serve" else (),
        outputs=(name,),
        options=options,
        code=Fingerprint(digest="0", packages={"polars": pl.__version__}),
    )


def quality_rows(**changes: Any) -> pl.DataFrame:
    """Return ten evaluation rows, some columns replaced."""
    rows = pl.DataFrame({"user_id": range(10), "ndcg": [i / 10 for i in range(10)], "genre": ["a", "b"] * 5})
    return rows.with_columns(**{name: pl.Series(values) for name, values in changes.items()})


def make_manifest(blobs: Blobs, *, code: str = CODE, rows: pl.DataFrame | None = None, **parts: Any) -> Manifest:
    """Return a manifest of pipeline "movies" with everything it names kept in `blobs`."""
    titles = codecs.save(pl.DataFrame({"movie_id": [1, 2], "title": ["Alien", "Brazil"]}), blobs)
    model = codecs.save({"times": 2, "weights": pl.DataFrame({"w": [0.5, 0.25]})}, blobs)
    popular = codecs.save({"times": 1}, blobs)
    judged = codecs.save(quality_rows() if rows is None else rows, blobs)
    graph = Graph(
        pipeline="movies",
        goal="People find something to watch.",
        entry="released_code",
        variable="movies",
        import_root=".",
        nodes=(
            make_node("titles", "dataset", key=("movie_id",)),
            make_node("model", "model", {"titles": "polars"}),
            make_node("popular", "baseline", {"titles": "polars"}),
            make_node("quality", "evaluate", key=("user_id",), slices=("genre",), metric="ndcg"),
            make_node("find", "serve", {"titles": "polars", "model": "value"}),
        ),
        files=(CodeFile(path="released_code.py", digest=blobs.put(inspect.cleandoc(code).encode() + b"\n")),),
        python="3.11",
    )
    manifest = Manifest(
        pipeline="movies",
        goal=graph.goal,
        graph=graph,
        artifacts={
            "model/model": model,
            "popular/popular": popular,
            "frozen:titles/frozen:titles": titles,
            "quality/model/quality": judged,
        },
        serving={"find": {"titles": titles, "model": model}},
        datasets={
            "titles": ReleasedDataset(
                version=3,
                digest="d" * 64,
                schema=(("movie_id", "Int64"), ("title", "String")),
                contract={"movie_id": {"min": 1}},
            )
        },
        params={"model": {"factors": 64, "rate": 1.0}},
        now="2026-01-01T00:00:00+00:00",
        policy=Policy(slo={"p99_ms": 50.0}),
        environment={"python": "3.11.7", "packages": {"polars": "1.30.0", "scikit-learn": "1.5.2"}},
        checks=(CheckResult(name="is_good", passed=True, message="held"),),
        evaluations={
            "quality": ReleasedEvaluation(
                metric="ndcg",
                means={"model": {"ndcg": Interval(mean=0.45, low=0.4, high=0.5, n=10)}},
                rows={"model": judged},
            )
        },
        examples={"find": (Example(fields={"movie_id": 1}, answer="AlienAlien"),)},
    )
    return msgspec.structs.replace(manifest, **parts)


def make_outcome(manifest: Manifest, **parts: Any) -> RunOutcome:
    """Return the outcome of a run that did everything."""
    states = {n.name: NodeState.SUCCEEDED for n in manifest.graph.nodes if n.role != "serve"}
    outcome = RunOutcome(
        run_id=41, state="succeeded", nodes=states, kept={}, datasets={}, checks=(), failures={}, now=manifest.now
    )
    return msgspec.structs.replace(outcome, **parts)


def every_blob(blobs: Blobs) -> list[Path]:
    """Return the files of all blobs."""
    return [blobs.path(digest) for digest in blobs.digests()]
