"""A file is imported in a process of its own, and only when something it depends on changed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.core.errors import DeclarationError, InputError, NotFoundError
from penstock.core.process import is_running
from penstock.core.settings import Policy
from penstock.pipeline.graph import Graph
from penstock.pipeline.inspection import find_target, inspect_project

FLOW = """\
from pathlib import Path
from helpers import base
from penstock import Pipeline

p = Pipeline("p", goal="Test.")
with Path(__file__).with_name("imports.log").open("a") as log:
    log.write("imported\\n")
print("hello from the user")

@p.step
def a(*, k: int = 1) -> int:
    return base() + k
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "helpers.py").write_text("def base() -> int:\n    return 1\n")
    return tmp_path


def ask(project: Path, target: str = "flow.py") -> tuple[Graph, ...]:
    return inspect_project(project, target, project / ".penstock" / "tmp")


def imports(project: Path) -> int:
    return len((project / "imports.log").read_text().splitlines())


def test_an_unchanged_project_runs_no_user_code(project: Path) -> None:
    """The second answer comes from disk and is the same."""
    first = ask(project)
    assert ask(project) == first
    assert imports(project) == 1
    assert [file.path for file in first[0].files] == ["flow.py", "helpers.py"]


def test_a_file_that_is_only_touched_is_not_imported_again(project: Path) -> None:
    """A new time stamp over the same bytes changes nothing."""
    first = ask(project)
    os.utime(project / "helpers.py", (1, 1))
    assert ask(project) == first
    assert imports(project) == 1


@pytest.mark.parametrize("change", ["edit", "edit keeping size and time", "new module", "new package", "damaged cache"])
def test_whatever_may_change_the_graph_is_looked_at_again(project: Path, change: str) -> None:
    """An edit two modules away, a file that could shadow a package, and a broken cache are all noticed."""
    first = ask(project)
    helpers = project / "helpers.py"
    before = helpers.stat()
    match change:
        case "edit":
            helpers.write_text("def base() -> int:\n    return 22\n")
        case "edit keeping size and time":
            helpers.write_text("def base() -> int:\n    return 2\n")
            os.utime(helpers, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "new module":
            (project / "json.py").touch()
        case "new package":
            (project / "polars").mkdir()
        case _:
            (cache,) = (project / ".penstock" / "tmp").glob("graph-*.json")
            cache.write_bytes(cache.read_bytes()[:100])
    second = ask(project)
    assert imports(project) == 2
    assert (second == first) is (not change.startswith("edit"))


def test_a_failing_import_shows_the_users_frames_and_the_place(project: Path) -> None:
    """The traceback starts in the user's file and holds no line of ours."""
    (project / "helpers.py").write_text("def base() -> int:\n    return 1\n\nimport nowhere_to_be_found\n")
    with pytest.raises(DeclarationError, match=r"flow.py cannot be imported at helpers.py:4: ModuleNotFound") as caught:
        ask(project)
    text = str(caught.value)
    assert text.index("flow.py") < text.index('helpers.py", line 4') < text.index("No module named")
    assert "importlib" not in text
    assert "penstock/pipeline" not in text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:\n", r"flow.py cannot be imported.*SyntaxError"),
        ("import sys\nsys.exit(3)\n", r"flow.py ends the process while it is imported \(exit code 3\)"),
        ("import os\nos._exit(9)\n", r"the process that imports it ended with exit code 9"),
        ("import os\nos.kill(os.getpid(), 9)\n", r"the process that imports it ended with signal 9"),
        (
            "from penstock import Pipeline\np = Pipeline('p')\n@p.step\ndef b(x): ...\n",
            r"Step 'b' \(flow.py:4\) needs 'x'",
        ),
    ],
)
def test_a_file_that_gives_no_graph_says_why(project: Path, source: str, message: str) -> None:
    """Whatever the user's code does to its process, one clear error comes back."""
    (project / "flow.py").write_text(source)
    with pytest.raises(DeclarationError, match=f"(?s){message}"):
        ask(project)


def test_a_file_without_a_pipeline_or_with_a_taken_name_is_refused(project: Path) -> None:
    """Both are answered with what to do."""
    with pytest.raises(InputError, match=r"helpers.py makes no Pipeline. Hint: write: name = Pipeline"):
        ask(project, "helpers.py")
    (project / "argparse.py").write_text(FLOW)
    with pytest.raises(InputError, match=r"argparse.py cannot be imported as 'argparse'.*Hint: rename the file"):
        ask(project, "argparse.py")


def test_a_module_name_a_package_and_several_pipelines_work(tmp_path: Path) -> None:
    """A dotted name below src is found; parts included elsewhere in the file are not pipelines of their own."""
    package = tmp_path / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "flows.py").write_text(
        "from penstock import Pipeline\nfrom shop.rates import rate\n"
        "one, two, part = Pipeline('one'), Pipeline('two'), Pipeline('part')\none.include(part)\n"
        "@part.step\ndef a() -> float: return rate()\n@two.step\ndef b() -> float: return rate()\n"
    )
    (package / "rates.py").write_text("def rate(): return 0.5\n")
    graphs = ask(tmp_path, "shop.flows")
    assert [(graph.pipeline, graph.entry, graph.import_root) for graph in graphs] == [
        ("one", "shop.flows", "src"),
        ("two", "shop.flows", "src"),
    ]
    assert find_target(tmp_path) == package / "flows.py"


def test_the_sensible_file_is_found(project: Path) -> None:
    """One file needs no name; of several, the pipeline's name or the policy decides."""
    assert find_target(project) == project / "flow.py"
    (project / "other.py").write_text("from penstock import Pipeline\nq = Pipeline('q')\n")
    with pytest.raises(InputError, match=r"2 files may be meant: flow.py, other.py"):
        find_target(project)
    assert find_target(project, pipeline="q") == project / "other.py"
    assert find_target(project, policies={"p": Policy(file="flow.py")}) == project / "flow.py"
    with pytest.raises(NotFoundError, match=r"No file in .* makes a Pipeline"):
        find_target(project / ".penstock")
    with pytest.raises(NotFoundError, match=r"'gone.py' is neither a file nor a module"):
        ask(project, "gone.py")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_file_that_never_ends_does_not_outlive_who_asked(tmp_path: Path) -> None:
    """A person who kills a command that hangs has nothing left to kill."""
    (tmp_path / "flow.py").write_text(
        "import os\nimport signal\nopen('pid.half', 'w').write(str(os.getpid()))\n"
        "os.rename('pid.half', 'pid')\nsignal.pause()\n"
    )
    asks = "import sys\nfrom pathlib import Path\nfrom penstock.pipeline.inspection import inspect_project\n"
    asks += "inspect_project(Path(sys.argv[1]), 'flow.py', Path(sys.argv[1], 'cache'))\n"
    asking = subprocess.Popen([sys.executable, "-c", asks, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert asking.poll() is None
        assert time.monotonic() < deadline
    hanging = int((tmp_path / "pid").read_text())
    assert is_running(hanging)
    asking.kill()
    asking.wait()
    while is_running(hanging):
        assert time.monotonic() < deadline
