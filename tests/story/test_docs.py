"""What the docs tell a reader to do is done: their runnable blocks, in order, with the real command.

```python title="f.py"``` is saved; with `replace`, what stands before `---` becomes what follows. In ```console run```
each `$ ` line is run; each line below it must be in the output, parts set apart by two spaces in one line. A server
started with `&` gets a free port, and commands ask it there.
"""

import ast
import difflib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
PRINTED = "http://127.0.0.1:8000"
_APART = re.compile(r" {2,}")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what stands behind that, and its text."""

    language: str
    info: str
    text: str

    @property
    def title(self) -> str:
        found = _TITLE.search(self.info)
        return found[1] if found else ""

    @property
    def code(self) -> int:
        """The exit code that its commands end with: `run exit=3`, or 0."""
        return next((int(word.removeprefix("exit=")) for word in self.info.split() if word.startswith("exit=")), 0)

    @property
    def is_runnable(self) -> bool:
        return bool(self.title) or (self.language == "console" and "run" in self.info.split())


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


RUNNABLE = [page for page in PAGES if any(block.is_runnable for block in blocks(page))]


@pytest.mark.parametrize("page", RUNNABLE, ids=named)
def test_the_blocks_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        reader = Reader(tmp_path, stack)
        for block in blocks(page):
            if block.title:
                save(block, tmp_path / block.title)
            elif block.is_runnable:
                reader.follow(block)


# Explanations sketch signatures, which are not whole Python.
@pytest.mark.parametrize("page", [page for page in PAGES if "explanation" not in page.parts], ids=named)
def test_python_in_the_docs_is_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python" and "replace" not in block.info:
            ast.parse(block.text)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_a_script_becomes_a_pipeline_by_ten_lines() -> None:
    """The tutorial's promise: at most ten lines are added to a plain fit-and-predict script."""
    page = ROOT / "docs" / "tutorial" / "first-pipeline.md"
    script, pipeline = [block.text.splitlines() for block in blocks(page) if block.info.strip() == 'title="prices.py"']
    added = [line for line in difflib.ndiff(script, pipeline) if line.startswith("+ ") and line[2:].strip()]
    assert len(added) <= 10, "\n".join(added)


def save(block: Block, file: Path) -> None:
    if "replace" not in block.info:
        file.write_text(block.text, encoding="utf-8")
        return
    before, _, after = block.text.partition("---\n")
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{file.name} holds this {text.count(before)} times:\n{before}"
    file.write_text(text.replace(before, after), encoding="utf-8")


def commands(text: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip():
            found[-1][1].append(line.strip())
    return found


class Reader:
    """Somebody who does what a page says, in `folder`; what is started is stopped with `stack`."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.url = ""

    def follow(self, block: Block) -> None:
        for command, expected in commands(block.text):
            said = self.do(command, block.code)
            missing = [line for line in expected if not is_in(self.here(line), said)]
            assert not missing, f"after `{command}` no line holds {missing[0]!r}:\n{said}"

    def do(self, command: str, code: int) -> str:
        command = self.here(command)
        if command.endswith("&"):
            return self.start(command.removesuffix("&"))
        if command.startswith("curl"):
            return self.ask(shlex.split(command))
        # The docs are ours, and what a reader types goes through a shell.
        done = subprocess.run(command, shell=True, check=False, capture_output=True, **self.around())  # noqa: S602
        assert done.returncode == code, f"`{command}` ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return str(done.stdout)

    def start(self, command: str) -> str:
        server = subprocess.Popen([*shlex.split(command), "--port", "0"], stdout=subprocess.PIPE, **self.around())
        self.stack.callback(server.wait)
        self.stack.callback(server.terminate)
        assert server.stdout is not None
        self.stack.callback(server.stdout.close)
        first = next(line for line in server.stdout if "http://" in line)
        self.url = first.split(" on ")[1].split()[0]
        return str(first)

    def ask(self, words: list[str]) -> str:
        """Do what `curl URL -H HEADER -d BODY` does; curl itself need not be installed."""
        url = next(word for word in words if word.startswith("http"))
        answer = httpx.post(url, content=words[words.index("-d") + 1], headers={"content-type": "application/json"})
        assert answer.status_code == 200, answer.text
        return answer.text

    def here(self, text: str) -> str:
        return text.replace(PRINTED, self.url or PRINTED)

    def around(self) -> dict[str, Any]:
        """Where and how a command runs: in the folder, with this Python's programs first on the path."""
        programs = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"]]
        environment = {**os.environ, "PATH": os.pathsep.join(programs), "COLUMNS": "160", "NO_COLOR": "1"}
        return {"cwd": self.folder, "env": environment, "text": True}


def is_in(line: str, said: str) -> bool:
    parts = _APART.split(line)
    return any(all(part in given for part in parts) for given in said.splitlines())
