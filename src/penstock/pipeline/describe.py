"""From declarations to the graph: every function read, every input found, every mistake told at once.

Belongs here: putting the pieces together, and where the pipeline's module lies. Does not: the rules themselves.
"""

import inspect
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.core.digest import digest_bytes
from penstock.core.refs import NAME
from penstock.pipeline.annotations import Reader
from penstock.pipeline.declare import Declarations
from penstock.pipeline.drafts import EMPTY, Draft, Mistakes, Slot, read_draft
from penstock.pipeline.fingerprint import Analyzer
from penstock.pipeline.graph import CodeFile, Edge, Graph, Node, Param
from penstock.pipeline.notebook import from_namespace
from penstock.pipeline.order import arrange, cycles, inputs_of
from penstock.pipeline.params import parse_type, type_text
from penstock.pipeline.validate import REQUESTED, check_draft, is_plain, read_options
from penstock.pipeline.wiring import Wiring, stand_ins


@dataclass(frozen=True, slots=True)
class Home:
    """Where a pipeline is defined.

    Attributes:
        module: Name to import it by, with `import_root` on the path.
        variable: Name of the `Pipeline` object in it; "" when it has none.
        file: File of the module; None in a notebook.
        text: Source of the module made of the cells of a notebook; "" when there is a file.
    """

    module: str
    variable: str
    import_root: Path
    file: Path | None
    text: str = ""


def describe(declared: Declarations, root: Path) -> Graph:
    """Return the graph of a pipeline.

    Args:
        declared: What its decorators said.
        root: The project; paths in the graph are relative to it.

    Raises:
        DeclarationError: The pipeline is wrong; every mistake is named with its function and place.
    """
    return describe_live(declared, root)[0]


def describe_live(declared: Declarations, root: Path) -> tuple[Graph, dict[str, bytes]]:
    """Return the graph of a pipeline, and by path the files of its snapshot that lie on no disk: a notebook's cells.

    Args:
        declared: What its decorators said.
        root: The project; paths in the graph are relative to it.

    Raises:
        DeclarationError: The pipeline is wrong, or a name its cells need is bound in none of them.
    """
    root = root.resolve()
    reader, mistakes = Reader(), Mistakes(root)
    drafts = [read_draft(entry, reader) for entry in declared]
    _check_whole(declared, drafts, mistakes)
    for draft in drafts:
        check_draft(draft, mistakes)
    wiring = Wiring(declared.name, drafts, mistakes)
    edges = [wiring.edges(draft) for draft in drafts]
    replaced = stand_ins(drafts, mistakes)
    _check_cycles(drafts, edges, mistakes)
    mistakes.raise_any()
    home, analyzer = home_of(declared, root), Analyzer(root)
    if home.text:
        analyzer.add_module(home.module, home.text, called=declared.module, import_root=home.import_root)
    described = _Describer(home, analyzer, replaced, root, declared.module)
    nodes = [described.node(draft, wired) for draft, wired in zip(drafts, edges, strict=True)]
    texts = {_relative(home.import_root / f"{home.module}.py", root): home.text.encode()} if home.text else {}
    graph = Graph(
        pipeline=declared.name,
        goal=declared.goal,
        entry=home.module,
        variable=home.variable,
        import_root=_relative(home.import_root, root),
        nodes=arrange(nodes),
        files=_files(home, analyzer, nodes, texts),
        python=platform.python_version(),
        warnings=tuple(dict.fromkeys(warning for node in nodes for warning in node.code.warnings)),
    )
    return graph, texts


def home_of(declared: Declarations, root: Path) -> Home:
    """Return where the pipeline is defined; a script that runs as `__main__` gets the name it is imported by."""
    module = sys.modules.get(declared.module)
    variable = next((name for name, value in vars(module).items() if _holds(value, declared)), "") if module else ""
    file_text = getattr(module, "__file__", None)
    file = Path(file_text).resolve() if file_text else None
    if file is None or not file.is_file():
        return _cells(declared, variable, root)
    if declared.module != "__main__":
        depth = declared.module.count(".") + (file.name == "__init__.py")
        return Home(declared.module, variable, file.parents[depth], file)
    import_root = import_root_of(file)
    return Home(module_name(file, import_root), variable, import_root, file)


def _cells(declared: Declarations, variable: str, root: Path) -> Home:
    """Return the home of a pipeline made in a notebook or console: one module out of the cells that were run."""
    functions = [entry.function for entry in declared if inspect.unwrap(entry.function).__module__ == declared.module]
    namespace = vars(sys.modules[declared.module]) if declared.module in sys.modules else {}
    here = Path.cwd()  # where a notebook finds the modules beside it
    name = f"{re.sub('[^a-z0-9]', '_', declared.name)}_notebook"
    text = from_namespace(functions, namespace) if functions else ""
    return Home(name, variable if functions else "", here if here.is_relative_to(root) else root, None, text)


def _files(home: Home, analyzer: Analyzer, nodes: Sequence[Node], texts: Mapping[str, bytes]) -> tuple[CodeFile, ...]:
    if home.file is not None:
        return analyzer.files(home.file)
    modules = dict.fromkeys(node.function.partition(":")[0] for node in nodes)
    found = [CodeFile(path=path, digest=digest_bytes(data)) for path, data in texts.items()]
    return tuple(sorted([*found, *analyzer.files_of(modules)], key=lambda file: file.path))


def import_root_of(file: Path) -> Path:
    """Return the directory to import `file` from: its own, or the parent of the top package it lies in."""
    directory = file.parent
    while (directory / "__init__.py").is_file():
        directory = directory.parent
    return directory


def module_name(file: Path, import_root: Path) -> str:
    """Return the dotted name of `file` below `import_root`."""
    parts = file.relative_to(import_root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _holds(value: object, declared: Declarations) -> bool:
    # Not `getattr`: a user's object may compute attributes, or fail, when asked for one it does not have.
    return inspect.getattr_static(value, "declared", None) is not None and (
        getattr(value, "declared", None) is declared
    )


def _check_whole(declared: Declarations, drafts: Sequence[Draft], mistakes: Mistakes) -> None:
    if not NAME.fullmatch(str(declared.name)):
        mistakes.note_whole(
            f"Pipeline {declared.name!r} has no usable name: "
            "use lower-case letters, digits, '.', '_' and '-', starting with a letter or digit."
        )
    if not drafts:
        mistakes.note_whole(
            f"Pipeline {declared.name!r} declares nothing. Put a decorator, as @{declared.name}.step, above a function."
        )


def _check_cycles(drafts: Sequence[Draft], edges: Sequence[tuple[Edge, ...]], mistakes: Mistakes) -> None:
    by_name = {draft.name: draft for draft in drafts}
    models = frozenset(draft.name for draft in drafts if draft.role in {"model", "baseline"})
    wired = dict(zip((draft.name for draft in drafts), edges, strict=True))
    needs = {name: inputs_of(found, models) for name, found in wired.items()}
    for cycle in cycles(needs):
        mistakes.note(
            by_name[cycle[0]], f"is part of a cycle: {' -> '.join(cycle)}. Break it where one can do without."
        )


@dataclass(frozen=True, slots=True)
class _Describer:
    """Turns drafts without mistakes into nodes."""

    home: Home
    analyzer: Analyzer
    replaced: Mapping[str, tuple[str, ...]]
    root: Path
    called: str

    def node(self, draft: Draft, edges: tuple[Edge, ...]) -> Node:
        function = inspect.unwrap(draft.declared.function)
        options = read_options(draft, Mistakes(self.root))
        if draft.role == "fallback":
            options["serves"] = list(self.replaced[draft.name])
        is_cell = bool(self.home.text) and function.__module__ == self.called
        module = self.home.module if is_cell or function.__module__ == "__main__" else function.__module__
        file, line = Path(draft.declared.place.file), draft.declared.place.line
        if is_cell:  # the number of a cell changes each time it runs, and what is recorded must not
            file, line = self.home.import_root / f"{module}.py", _line_of(function.__name__, self.home.text)
        return Node(
            name=draft.name,
            role=draft.role,
            function=f"{module}:{function.__qualname__}",
            file=_relative(file, self.root),
            line=line,
            edges=edges,
            params=tuple(_param(draft, slot) for slot in draft.asked),
            outputs=draft.outputs,
            returns=tuple("" if made is None else made.text for made in draft.makes()),
            each=draft.each,
            options=options,
            doc=inspect.cleandoc(function.__doc__ or ""),
            code=self.analyzer.fingerprint(function),
        )


def _line_of(name: str, text: str) -> int:
    found = re.search(rf"^[ \t]*(?:async\s+)?def\s+{re.escape(name)}\b", text, re.MULTILINE)
    return 1 if found is None else text.count("\n", 0, found.start()) + 1


def _param(draft: Draft, slot: Slot) -> Param:
    text = "" if slot.annotation is None else type_text(slot.annotation)
    if slot.default is EMPTY:
        return Param(name=slot.name, type=text, required=True)
    kind = None if draft.role in REQUESTED else parse_type(text)
    default = slot.default if kind is None else kind.accept(slot.default)
    return Param(name=slot.name, type=text, required=False, default=_as_json(default))


def _as_json(value: object) -> object:
    return msgspec.json.decode(msgspec.json.encode(value)) if is_plain(value) else None


def _relative(path: Path, root: Path) -> str:
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.as_posix()
