"""Beginning is quick because little is loaded: what each beginning loads is listed here."""

import json
import subprocess
import sys

import pytest

HEAVY = frozenset({
    "alembic", "altair", "deltalake", "fsspec", "httpx", "implicit", "jinja2", "lightgbm", "numpy", "pandas", "polars",
    "pyarrow", "ray", "scipy", "sklearn", "skops", "sqlalchemy", "starlette", "structlog", "torch", "uvicorn", "uvloop",
})  # fmt: skip
_LOADED = "import json, sys; print('LOADED' + json.dumps(sorted(sys.modules)))"
_HELP = f"""
import sys
from penstock.cli import main
sys.argv = ["penstock", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code
{_LOADED}
"""


def loaded_by(code: str) -> set[str]:
    """Return the modules a fresh Python has loaded after `code`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.rpartition("LOADED")[2]))


def packages(modules: set[str]) -> set[str]:
    """Return the installed packages among modules, ours included."""
    tops = {name.partition(".")[0] for name in modules}
    return {top for top in tops if not top.startswith("_")} - set(sys.stdlib_module_names)


def rooms(modules: set[str]) -> set[str]:
    """Return the rooms of Penstock among modules."""
    return {name.split(".")[1] for name in modules if name.startswith("penstock.")}


@pytest.fixture(scope="module")
def before() -> set[str]:
    """What Python loads for itself, path hooks of editable installs included."""
    return loaded_by(_LOADED)


def test_import_penstock_loads_nothing_else(before: set[str]) -> None:
    """`import penstock` loads nothing of Penstock but what makes its words lazy, and no library."""
    new = loaded_by(f"import penstock; {_LOADED}") - before
    assert {name for name in new if name.startswith("penstock")} == {"penstock", "penstock.core", "penstock.core.lazy"}
    assert packages(new) == {"penstock"}


def test_writing_a_pipeline_loads_no_library_but_msgspec(before: set[str]) -> None:
    """`from penstock import Pipeline` loads the rooms a declaration needs: no ledger, no lake, no engine."""
    new = loaded_by(f"from penstock import Pipeline; {_LOADED}") - before
    assert packages(new) - {"typing_extensions"} == {"penstock", "msgspec"}  # msgspec loads it where it is installed
    assert rooms(new) == {"authoring", "core", "pipeline", "project"}
    assert {name for name in new if name.startswith("penstock.project.")} == set()


def test_declaring_a_pipeline_loads_no_more(before: set[str]) -> None:
    code = "from penstock import Pipeline\np = Pipeline('p')\n@p.step\ndef one() -> int:\n    return 1\nrepr(p)\n"
    assert not packages(loaded_by(code + _LOADED) - before) & HEAVY


def test_importing_a_pipeline_s_file_to_read_it_loads_no_library() -> None:
    """The process that inspects a file loads what the file itself imports, and nothing heavy of ours."""
    assert not packages(loaded_by(f"import penstock.pipeline.inspect; {_LOADED}")) & HEAVY


def test_help_loads_no_heavy_library() -> None:
    """`penstock --help` lists every command without loading what they need."""
    new = loaded_by(_HELP)
    assert not packages(new) & HEAVY
    assert rooms(new) <= {"cli", "core"}


def test_a_run_loads_only_what_a_run_of_kept_results_needs() -> None:
    """`penstock run` reads no syntax tree of a file it knows, no data library, and no other database than its own."""
    new = loaded_by(f"import penstock.cli.run; {_LOADED}")
    assert packages(new) & HEAVY == {"sqlalchemy"}
    needless = {"describe", "fingerprint", "modules", "wiring", "notebook", "validate"}
    assert not new & {"sqlalchemy.dialects.postgresql", *(f"penstock.pipeline.{name}" for name in needless)}


def test_the_command_that_serves_loads_no_frames() -> None:
    """`penstock serve` waits for its worker, not for libraries that only workers need."""
    new = packages(loaded_by(f"import penstock.cli.serve; {_LOADED}"))
    assert not new & {"numpy", "polars", "pyarrow", "deltalake", "uvicorn", "starlette", "sklearn"}
