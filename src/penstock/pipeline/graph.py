"""The graph of a pipeline as frozen data: what the user's file says, without the user's code.

Made in a process that imports the file; read everywhere else (supervisor, releases, web), where user code never runs.
"""

from typing import Any, Literal

import msgspec

from penstock.core.records import Record

Role = Literal["dataset", "step", "model", "baseline", "evaluate", "check", "serve", "fallback", "outcome"]
Form = Literal[
    "lazy",  # pl.LazyFrame: scans, may be larger than memory
    "polars",  # pl.DataFrame
    "pandas",  # pd.DataFrame
    "arrow",  # pa.Table
    "batches",  # Iterator[pa.RecordBatch]
    "value",  # whatever was stored, as it was stored
    "evaluation",  # the rows of an evaluation with its statistics, as checks receive them
    "parts",  # dict of key to value: all outputs of a fan-out
    "word",  # a word of the platform: since, now, champion, model, predictions
    "key",  # the key of this call in a fan-out
]
RowsForm = Literal["polars", "numpy", "pandas", "arrow"]
_ROWS: dict[str, RowsForm] = {
    "polars.DataFrame": "polars",
    "numpy.ndarray": "numpy",
    "pandas.DataFrame": "pandas",
    "pyarrow.Table": "arrow",
}
WORDS = frozenset({"since", "now", "champion", "model", "predictions"})
# What a dataset may take of the pipeline's own service. Elsewhere "feedback" is a name like any other.
SERVED = frozenset({"predictions", "feedback"})


class Param(Record, frozen=True, kw_only=True):
    """A parameter after the star: given by a caller."""

    name: str
    type: str
    required: bool
    default: Any = None


class Edge(Record, frozen=True, kw_only=True):
    """A parameter before the star: given by the pipeline.

    Attributes:
        argument: Name of the function's parameter.
        source: Name of the dataset or output it takes, or the word itself.
        node: Name of the node that makes `source`; "" for words and keys.
        form: Form in which the function wants it.
    """

    argument: str
    source: str
    node: str
    form: Form


class Part(Record, frozen=True, kw_only=True):
    """One thing a fingerprint covers, so a plan can say what changed.

    Attributes:
        label: What a person reads: "`_genre_weights` in features.py:31".
        digest: Digest of its normalised syntax tree.
    """

    label: str
    digest: str


class Fingerprint(Record, frozen=True, kw_only=True):
    """Everything of the user's project and environment that a function reaches.

    Attributes:
        digest: Digest over `parts` and `packages`.
        parts: By stable key ("features:_genre_weights"), without line numbers.
        packages: Distribution name to version, for the installed packages the reached code imports.
        warnings: What could not be seen statically, one sentence each.
    """

    digest: str
    parts: dict[str, Part] = {}
    packages: dict[str, str] = {}
    warnings: tuple[str, ...] = ()


class Node(Record, frozen=True, kw_only=True):
    """A function with its role in the pipeline.

    Attributes:
        function: Where it lives, "module:qualname" within the code snapshot.
        file: Path relative to the project root; `line` is where its `def` stands.
        outputs: Names of its outputs; one named like the node when the user gave none.
        each: Column to fan out over, or None.
        returns: Text of the return annotation of each output ("" when there is none).
        options: What the decorator was given: key, time, metric, slices, deadline_ms, within, value, examples...
        after: Names of check nodes that must pass before this node may start.
    """

    name: str
    role: Role
    function: str
    file: str
    line: int
    edges: tuple[Edge, ...]
    params: tuple[Param, ...]
    outputs: tuple[str, ...]
    returns: tuple[str, ...] = ()
    each: str | None = None
    options: dict[str, Any] = {}
    after: tuple[str, ...] = ()
    doc: str = ""
    code: Fingerprint


class CodeFile(Record, frozen=True, kw_only=True):
    """A file of the code snapshot: path relative to the project root, digest of its bytes."""

    path: str
    digest: str


class Graph(Record, frozen=True, kw_only=True):
    """A whole pipeline, nodes in an order in which they can run.

    Attributes:
        entry: Module that defines the pipeline, importable with `import_root` (relative to the root) on the path.
        variable: Name of the `Pipeline` object in that module.
        files: Every project file the pipeline imports: the code snapshot.
    """

    pipeline: str
    goal: str
    entry: str
    variable: str
    import_root: str
    nodes: tuple[Node, ...]
    files: tuple[CodeFile, ...]
    python: str
    warnings: tuple[str, ...] = ()

    def node(self, name: str) -> Node:
        """Return the node called `name`; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


def encode_graph(graph: Graph) -> bytes:
    """Return the graph as canonical JSON."""
    return msgspec.json.encode(graph, order="deterministic")


def decode_graph(data: bytes) -> Graph:
    """Read what `encode_graph` wrote."""
    return msgspec.json.decode(data, type=Graph)


def rows_form(text: str) -> RowsForm | None:
    """Return in which form a field of this type takes rows, from the text of its type; None when it does not."""
    return _ROWS.get(text.partition("[")[0])


def texts(value: Any) -> tuple[str, ...]:
    """Return an option that names one thing, several, or none, as a tuple of names."""
    return (value,) if isinstance(value, str) else tuple(value or ())
