"""`movies.run()` and `movies.plan()` where people call them: in IPython, in a script, in a package, in a console."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

# Runs cells in a real IPython, as a notebook's kernel does, and reports what each `runs`, `text` and `html` held then.
_DRIVER = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
seen = []
for cell in json.load(sys.stdin):
    done = shell.run_cell(cell, store_history=True)
    if done.error_in_exec or done.error_before_exec:
        seen.append({"error": str(done.error_in_exec or done.error_before_exec)})
    elif done.result is not None:
        result = done.result
        seen.append({"nodes": getattr(result, "nodes", None), "release": getattr(result, "release", None),
                     "lines": [[l.node, l.action, l.reason] for l in getattr(result, "lines", ())],
                     "text": repr(result), "html": result._repr_html_() if hasattr(result, "_repr_html_") else ""})
sys.stdout.flush()
print("\\nSEEN" + json.dumps(seen))
"""

SETUP = """
from penstock import Pipeline
shop = Pipeline("shop", goal="Sell more.")
import os
os.getcwd();
"""
HELPERS = """
RATE = 2
def scaled(x):
    return x * RATE
"""
STEPS = """
@shop.step
def base(*, start: int = 1) -> int:
    return start + 1

@shop.step
def big(base: int) -> int:
    return scaled(base)

@shop.step
def plain(base: int) -> int:
    return base + 10

@shop.check
def is_positive(big: int, plain: int):
    assert big > 0
"""


def ipython(folder: Path, *cells: str) -> list[dict[str, Any]]:
    """Run cells in a fresh IPython in `folder`; return what the cells that show something showed."""
    environment = {**os.environ, "IPYTHONDIR": str(folder / ".ipython")}
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    assert "\nSEEN" in done.stdout, done.stdout + done.stderr
    seen: list[dict[str, Any]] = json.loads(done.stdout.rpartition("\nSEEN")[2])
    return seen


def python(folder: Path, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, input=text, check=False
    )


def test_a_helper_cell_that_changes_re_runs_only_what_reaches_it(tmp_path: Path) -> None:
    """The first run does everything, the second nothing, the third what uses the edited helper."""
    edited = HELPERS.replace("RATE = 2", "RATE = 3  # a comment")
    first, plan, again, changed = ipython(
        tmp_path, SETUP, HELPERS, STEPS, "shop.run()", "shop.plan()", "shop.run()", edited, "shop.run()"
    )
    assert first["nodes"] == dict.fromkeys(["base", "big", "plain", "is_positive"], "succeeded")
    assert first["release"] == "shop@1"
    assert {action for _, action, _ in plan["lines"]} == {"reuse"}
    assert set(again["nodes"].values()) == {"reused"}
    assert again["release"] == "shop@1"
    assert changed["nodes"] == {"base": "reused", "plain": "reused", "big": "succeeded", "is_positive": "succeeded"}
    assert changed["release"] == "shop@2"


def test_the_plan_names_the_cell_s_code_that_changed(tmp_path: Path) -> None:
    _, plan = ipython(
        tmp_path, SETUP, HELPERS, STEPS, "shop.run()", HELPERS.replace("x * RATE", "x + RATE"), "shop.plan()"
    )
    reasons = {node: (action, reason) for node, action, reason in plan["lines"]}
    assert reasons["big"][0] == "run"
    assert "`scaled` in shop_notebook.py" in reasons["big"][1]
    assert reasons["plain"] == ("reuse", "nothing it reaches has changed")


def test_reports_are_readable_in_a_cell(tmp_path: Path) -> None:
    plan, run, pipeline = ipython(tmp_path, SETUP, HELPERS, STEPS, "shop.plan()", "shop.run()", "shop")
    assert "never run" in plan["text"]
    assert plan["html"].startswith("<table><caption>Plan of shop")
    assert run["text"].startswith("Run r1 of shop: succeeded, release shop@1")
    assert "is_positive" in run["html"]
    assert "goal" not in pipeline["html"]
    assert "Sell more." in pipeline["html"]


def test_the_status_is_readable_in_a_cell(tmp_path: Path) -> None:
    """The six questions as text and as a table, as `penstock status` tells them."""
    found = ipython(tmp_path, SETUP, HELPERS, STEPS, "shop.run()", "shop.status()")[-1]
    assert found["text"].startswith("Status of shop, shop@1\n")
    for question in ("Is it fresh?", "Does it work for everyone?", "Does it pay?"):
        assert question in found["text"]
        assert f"<td>{question}</td>" in found["html"]
    assert "shop@1 is live since" in found["html"]


def test_cells_use_modules_beside_the_notebook(tmp_path: Path) -> None:
    """An edit of the module re-runs what reaches it, also in a later session."""
    (tmp_path / "tools.py").write_text("def twice(x):\n    return 2 * x\n", encoding="utf-8")
    cells = (SETUP, "from tools import twice", "@shop.step\ndef two() -> int:\n    return twice(1)\n", "shop.run()")
    (first,) = ipython(tmp_path, *cells)
    assert first["nodes"] == {"two": "succeeded"}
    (again,) = ipython(tmp_path, *cells)
    assert again["nodes"] == {"two": "reused"}
    assert again["release"] == "shop@1"
    (tmp_path / "tools.py").write_text("def twice(x):\n    return 4 * x // 2\n", encoding="utf-8")
    (changed,) = ipython(tmp_path, *cells)
    assert changed["nodes"] == {"two": "succeeded"}


def test_magics_and_trials_are_left_out(tmp_path: Path) -> None:
    """What a cell tried, printed or asked of the shell is no part of the pipeline."""
    cells = (
        SETUP,
        "%pwd",
        "tried = [scaled(2)] if 'scaled' in dir() else []",
        HELPERS,
        "scaled(3)",
        STEPS,
        "shop.run()",
    )
    run = ipython(tmp_path, *cells)[-1]
    assert run["release"] == "shop@1"
    (code,) = (tmp_path / ".penstock" / "code").glob("*/shop_notebook.py")
    assert "tried" not in code.read_text(encoding="utf-8")
    assert "shop.run" not in code.read_text(encoding="utf-8")


def test_a_failing_step_shows_the_users_traceback(tmp_path: Path) -> None:
    (failed,) = ipython(tmp_path, SETUP, "@shop.step\ndef broken() -> int:\n    return 1 // 0\n", "shop.run()")
    assert "ZeroDivisionError" in failed["error"]
    assert "in broken" in failed["error"]


def test_a_failed_check_says_what_it_found(tmp_path: Path) -> None:
    cells = (SETUP, "@shop.step\ndef n() -> int:\n    return 3\n@shop.check\ndef small(n: int):\n    assert n < 2\n")
    (failed,) = ipython(tmp_path, *cells, "shop.run()")
    assert "Check 'small' failed for shop run r1" in failed["error"]
    assert "3" in failed["error"]


def test_a_release_made_in_a_notebook_is_served_from_its_cells(tmp_path: Path) -> None:
    """The proof that serving answers as the pipeline did loads the cells from the blobs alone."""
    serve = "@shop.serve(examples=[{'x': 2}])\ndef ask(base: int, *, x: int) -> int:\n    return scaled(base) + x\n"
    (run,) = ipython(tmp_path, SETUP, HELPERS, STEPS, serve, "shop.run()")
    assert run["release"] == "shop@1"
    assert "same_answers" in run["text"]


def script(folder: Path, name: str, tail: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SETUP + HELPERS + STEPS + textwrap.dedent(tail), encoding="utf-8")
    return file


def test_a_script_runs_itself(tmp_path: Path) -> None:
    script(tmp_path, "shop.py", "if __name__ == '__main__':\n    print(shop.plan())\n    print(shop.run())\n")
    first, second = python(tmp_path, "shop.py"), python(tmp_path, "shop.py")
    assert first.returncode == second.returncode == 0, first.stderr
    assert "Run r1 of shop: succeeded, release shop@1" in first.stdout
    assert "reuse" in second.stdout


def test_a_script_that_runs_itself_while_imported_is_told_how(tmp_path: Path) -> None:
    """Without the guard it would start itself for ever."""
    script(tmp_path, "shop.py", "shop.run()\n")
    done = python(tmp_path, "shop.py")
    assert done.returncode != 0
    assert "calls shop.run() while it is imported" in done.stderr
    assert "if __name__ == '__main__': shop.run()" in done.stderr


def test_a_package_runs_from_outside(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("", encoding="utf-8")
    script(tmp_path, "store/pipelines/sales.py", "")
    (tmp_path / "store" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "store" / "pipelines" / "__init__.py").write_text("", encoding="utf-8")
    code = "from store.pipelines.sales import shop; print(shop.run(params={'base.start': 4}))"
    done = python(tmp_path, "-c", code)
    assert "release shop@1" in done.stdout, done.stderr


def test_one_of_several_pipelines_in_a_file_runs_alone(tmp_path: Path) -> None:
    other = "other = Pipeline('other')\n@other.step\ndef one() -> int:\n    return 1\n"
    script(tmp_path, "both.py", f"{other}\nif __name__ == '__main__':\n    print(other.run())\n")
    done = python(tmp_path, "both.py")
    assert "release other@1" in done.stdout, done.stderr


@pytest.mark.parametrize("now", ["2026-03-01", "2026-03-01T04:00:00+00:00"])
def test_the_logical_time_may_be_given_as_text(tmp_path: Path, now: str) -> None:
    step = "@shop.step\ndef day(now) -> str:\n    return str(now.date())\n"
    code = f"{step}if __name__ == '__main__':\n    print(shop.run(now={now!r}).outcome.now)\n"
    (tmp_path / "shop.py").write_text(SETUP + code, encoding="utf-8")
    done = python(tmp_path, "shop.py")
    assert done.stdout.startswith("2026-03-01T"), done.stderr


def test_a_time_that_is_none_is_refused(tmp_path: Path) -> None:
    script(tmp_path, "shop.py", "if __name__ == '__main__':\n    shop.plan(now='soon')\n")
    assert "now='soon' is no time" in python(tmp_path, "shop.py").stderr
