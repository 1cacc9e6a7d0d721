"""A release made callable: its code snapshot imported, its artifacts loaded and bound to its serve functions.

This runs user code, so only serving workers and short-lived processes call it; never the supervisor.
"""

import dataclasses
import functools
import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.errors import ArtifactError, NotFoundError, PenstockError, StepError
from penstock.core.records import Artifact
from penstock.pipeline.graph import Edge, Graph, Node, texts
from penstock.pipeline.snapshot import lay_out, tree_digest
from penstock.releases.manifest import Manifest
from penstock.serving.limits import Limits
from penstock.serving.program.fields import Fields, make_fields
from penstock.serving.program.stand_ins.binding import Bind, Binding
from penstock.serving.program.stand_ins.model import original_of
from penstock.serving.program.values import Values, values_of_rows
from penstock.store import codecs
from penstock.store.blobs import Blobs

_LIMITS = Limits()
_OUR_FOLDER = str(Path(__file__).parents[2])
_MACHINERY = ("<frozen importlib", str(Path(importlib.__file__).parent))


@dataclass(frozen=True, slots=True)
class ServeFunction:
    """A serve or fallback function with its artifacts bound.

    Attributes:
        name: The node's name, as in `POST /movies/recommend`.
        function: The user's own function, for its types.
        fields: How a request is parsed.
        fallback: What answers instead when this one fails or is late.
        deadline_s: How long this one may take before the fallback answers; None without a limit.
        examples: Requests that the release was made with, as plain JSON.
        key: The field that says whom or what the answer is about: one named like the key of a dataset; or None.
        stand_ins: The faster equivalents among its arguments.
    """

    name: str
    doc: str
    function: Callable[..., object]
    fields: Fields
    fallback: "ServeFunction | None"
    deadline_s: float | None
    key: str | None
    examples: tuple[dict[str, Any], ...]
    _bound: Callable[..., object]
    _plain: Callable[..., object]
    stand_ins: tuple[object, ...] = ()

    @property
    def original(self) -> "ServeFunction":
        """This function with the models as they were released in place of their equivalents."""
        return dataclasses.replace(self, _bound=self._plain, stand_ins=())

    def given(self, **values: object) -> "ServeFunction":
        """Return this function with other values for some of the arguments that the release gives it."""
        return dataclasses.replace(self, _bound=functools.partial(self._bound, **values))

    def call(self, fields: msgspec.Struct) -> object:
        """Call the function with parsed fields (those of a serve function suit its fallback)."""
        return self._bound(**self.fields.arguments(fields))

    def values(self, fields: msgspec.Struct) -> Values:
        """Call the function: one answer for its fields, or one for each of its rows.

        Raises:
            AnswerError: A function of rows gave something that has not one entry per row.
        """
        found = self.call(fields)
        if self.fields.rows is None:
            return Values([found])
        return values_of_rows(found, len(getattr(fields, self.fields.rows)))

    def answer(self, fields: msgspec.Struct) -> bytes:
        """Call the function and return its answer as JSON: of a function of rows, a list.

        Raises:
            AnswerError: The answer cannot be sent as JSON.
        """
        values = self.values(fields)
        return values.one_json() if self.fields.rows is None else values.json()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a serve function said.

    Attributes:
        json: The answer as JSON.
        fallback: The fallback gave it.
        error: Type of the error for which the fallback answered, or None.
    """

    json: bytes
    fallback: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A release, ready to answer.

    Attributes:
        pipeline: Name of the pipeline.
        goal: Its goal in words.
        functions: Serve functions by name; each knows its fallback.
        datasets: What the release was made from, "ratings@7".
    """

    pipeline: str
    goal: str
    functions: Mapping[str, ServeFunction]
    datasets: tuple[str, ...] = ()

    def function(self, node: str) -> ServeFunction:
        """Return the serve function called `node`.

        Raises:
            NotFoundError: The release has none of that name.
        """
        found = self.functions.get(node)
        if found is None:
            known = ", ".join(sorted(self.functions)) or "none"
            raise NotFoundError(f"Pipeline {self.pipeline!r} has no serve function {node!r}.", hint=f"it has: {known}")
        return found

    def answer(self, node: str, body: bytes) -> Answer:
        """Answer one request in this thread, by the fallback when the serve function fails.

        Raises:
            RequestError: The body is refused.
            StepError: The function failed and has no fallback.
        """
        function = self.function(node)
        fields = function.fields.parse(body)
        try:
            return Answer(function.answer(fields))
        except Exception as error:  # user code may raise anything; this is its boundary
            if function.fallback is None:
                raise _failed(f"Serve function {node!r} failed", error) from error
            failure = type(error).__qualname__
        return Answer(function.fallback.answer(fields), fallback=True, error=failure)


def answers(program: Program, node: str, requests: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Return the answers of a serve function, without its fallback, as plain JSON values.

    Raises:
        RequestError: A request does not fit the fields.
        StepError: The function failed.
    """
    function = program.function(node)
    found = []
    for request in requests:
        fields = function.fields.parse(msgspec.json.encode(request))
        try:
            found.append(msgspec.json.decode(function.answer(fields)))
        except PenstockError:
            raise
        except Exception as error:  # user code may raise anything; this is its boundary
            raise _failed(f"Serve function {node!r} failed", error) from error
    return found


def load_program(
    manifest: Manifest, blobs: Blobs, code_root: Path, *, limits: Limits = _LIMITS, bind: Bind | None = None
) -> Program:
    """Load a release: verify and bind every artifact, import the code snapshot, prepare the fields.

    One release per process: Python keeps the modules it has imported.

    Args:
        manifest: The release.
        blobs: Where its artifacts and code files are.
        code_root: Folder for laid-out snapshots; this one goes to a folder named by its digest.
        limits: Bounds on requests.
        bind: What a function gets for an argument, given its own name, the argument's and the value loaded; None for
            the faster equivalents that the release has proven.

    Raises:
        DamagedError: A stored artifact or code file is not what was stored.
        StepError: The user's module cannot be imported.
        UnsupportedError: A field has a type that no request can fill.
    """
    graph = manifest.graph
    folder = _put_on_path(graph, blobs, code_root)
    nodes = [node for node in graph.nodes if node.role in {"serve", "fallback"}]
    arguments = _Arguments(blobs, bind or Binding(manifest, blobs).bind)
    parts = {
        node.name: _Parts(
            function := _import_function(node, folder),
            _bind(node, function, manifest, arguments),
            make_fields(node.name, function, limits, manifest.inputs.get(node.name, ())),
        )
        for node in nodes
    }
    fallbacks = [node for node in nodes if node.role == "fallback"]
    functions: dict[str, ServeFunction] = {}
    for node in nodes:
        if node.role != "serve":
            continue
        backup = next((f for f in fallbacks if _stands_in(f, node)), None)
        deadline_ms = None if backup is None else backup.options.get("deadline_ms")
        functions[node.name] = _serve_function(
            node,
            parts[node.name],
            key=_key_field(graph, parts[node.name].fields),
            examples=tuple(example.fields for example in manifest.examples.get(node.name, ())),
            fallback=None if backup is None else _serve_function(backup, parts[backup.name]),
            deadline_s=None if deadline_ms is None else float(deadline_ms) / 1000,
        )
    return Program(
        pipeline=manifest.pipeline,
        goal=manifest.goal,
        functions=functions,
        datasets=tuple(f"{name}@{dataset.version}" for name, dataset in sorted(manifest.datasets.items())),
    )


@dataclass(frozen=True, slots=True)
class _Bound:
    call: Callable[..., object]
    plain: Callable[..., object]
    stand_ins: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Parts:
    function: Callable[..., object]
    bound: _Bound
    fields: Fields


def _serve_function(
    node: Node,
    parts: _Parts,
    *,
    fallback: ServeFunction | None = None,
    deadline_s: float | None = None,
    key: str | None = None,
    examples: tuple[dict[str, Any], ...] = (),
) -> ServeFunction:
    return ServeFunction(
        name=node.name,
        doc=node.doc,
        function=parts.function,
        fields=parts.fields,
        fallback=fallback,
        deadline_s=deadline_s,
        key=key,
        examples=examples,
        stand_ins=parts.bound.stand_ins,
        _bound=parts.bound.call,
        _plain=parts.bound.plain,
    )


def _key_field(graph: Graph, fields: Fields) -> str | None:
    keys = {name for node in graph.nodes if node.role == "dataset" for name in texts(node.options.get("key"))}
    return next((spec.name for spec in fields.specs if spec.name in keys), None)


def _stands_in(fallback: Node, serve: Node) -> bool:
    # The graph says for which functions it stands in: those that take the same fields.
    return serve.name in fallback.options.get("serves", ())


def _put_on_path(graph: Graph, blobs: Blobs, code_root: Path) -> str:
    target = code_root / tree_digest(graph.files)
    lay_out({file.path: blobs.read(file.digest) for file in graph.files}, target)
    folder = str((target / graph.import_root).resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    return folder


def _bind(node: Node, function: Callable[..., object], manifest: Manifest, arguments: "_Arguments") -> _Bound:
    kept = manifest.serving.get(node.name, {})
    makers: dict[str, Callable[[], object]] = {}
    values: dict[str, object] = {}
    for edge in node.edges:
        artifact = kept.get(edge.argument)
        if artifact is None:
            raise ArtifactError(
                f"Release of {manifest.pipeline!r} holds nothing for argument {edge.argument!r} of {node.name!r}.",
                hint="make a new release with `penstock run`",
            )
        if edge.form == "batches":  # an iterator is used up by one call, so each call gets its own
            makers[edge.argument] = arguments.batches(artifact)
        else:
            values[edge.argument] = arguments.load(artifact, edge, node)
    plain = {name: original_of(value) for name, value in values.items()}
    return _Bound(
        _remade(functools.partial(function, **values), makers),
        _remade(functools.partial(function, **plain), makers),
        tuple(value for name, value in values.items() if value is not plain[name]),
    )


def _remade(bound: Callable[..., object], makers: Mapping[str, Callable[[], object]]) -> Callable[..., object]:
    if not makers:
        return bound

    def call(**fields: object) -> object:
        return bound(**{name: make() for name, make in makers.items()}, **fields)

    return call


class _Arguments:
    """Loads each (artifact, form) once, however many functions take it."""

    def __init__(self, blobs: Blobs, bind: Bind) -> None:
        self._blobs = blobs
        self._bind = bind
        self._loaded: dict[tuple[str, str], object] = {}

    def load(self, artifact: Artifact, edge: Edge, node: Node) -> object:
        key = (artifact.digest, edge.form)
        if key not in self._loaded:
            self._loaded[key] = codecs.load(artifact, self._blobs, form=edge.form, verify="full")
        return self._bind(node.name, edge.argument, self._loaded[key])

    def batches(self, artifact: Artifact) -> Callable[[], object]:
        table: Any = codecs.load(artifact, self._blobs, form="arrow", verify="full")
        return lambda: iter(table.to_batches())


def _import_function(node: Node, folder: str) -> Callable[..., object]:
    module, _, qualname = node.function.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in qualname.split("."):
            found = getattr(found, name)
    except Exception as error:  # importing runs the user's module, which may raise anything
        raise _failed(f"{node.function!r} of the released code cannot be imported", error) from error
    origin = str(getattr(sys.modules[module], "__file__", ""))
    if not origin.startswith(folder):  # an installed package of that name, or another release in this process
        raise StepError(
            f"Module {module!r} came from {origin!r}, not from the released code.",
            hint="give the module a name of its own, and load one release per process",
        )
    function: Callable[..., object] = found
    return function


def user_frames(error: BaseException) -> str:
    """Return the frames of the user's own code in a traceback, as text, without values."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((_OUR_FOLDER, *_MACHINERY))
    ]
    return "".join(traceback.format_list(frames))


def _failed(what: str, error: Exception) -> StepError:
    return StepError(
        f"{user_frames(error)}{what}: {type(error).__qualname__}: {error}.",
        hint="call the function by itself to debug it",
    )
