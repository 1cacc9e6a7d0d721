"""The peers, each asked in an environment of its own about the same pairs of frames."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent / "peers"
# The newest versions of pandas, numpy and pyarrow with which each still runs.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "evidently": ("evidently>=0.7", "pandas<3", "numpy<2.3", "pyarrow"),
    "nannyml": ("nannyml>=0.13", "pandas<3", "numpy<2.3", "statsmodels", "scikit-learn<1.8", "pyarrow"),
    "whylogs": ("whylogs[viz]>=1.6", "ipython", "pandas<3", "numpy<2", "scipy", "pyarrow<20"),
    "deepchecks": (
        "deepchecks>=0.19",
        "pandas<2.2",
        "numpy<2",
        "scipy<1.14",
        "scikit-learn<1.4",
        "setuptools<81",
        "pyarrow<20",
    ),
    "alibi-detect": ("alibi-detect>=0.13", "pandas<3", "pyarrow"),
}
SCRIPTS = {"alibi-detect": "judge_alibi.py"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer said of the pairs: per pair the columns that it calls drifted; or why it said nothing."""

    version: str
    columns: dict[str, list[str]]
    seconds: float = 0.0
    reason: str = ""


def install(folder: Path) -> dict[str, str]:
    """Make the environments that are not there yet; return why some could not be made."""
    return {name: reason for name in REQUIREMENTS if (reason := _install(folder, name))}


def asked(folder: Path, name: str, pairs: Path, limit_s: float) -> Answer:
    """Let a peer judge all pairs; those that it does not get to within the limit are left out."""
    version = _version(folder, name)
    if not version:
        return Answer("", {}, reason=f"not installed in {folder}; --install makes its environment")
    script = HERE / SCRIPTS.get(name, f"judge_{name}.py")
    command = [str(_python(folder, name)), "-W", "ignore", str(script), str(pairs)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
        out, wrong = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        out, wrong = (late.stdout or b"").decode(), ""
    lines = [json.loads(line[2:]) for line in out.splitlines() if line.startswith("@@")]
    columns = {line["pair"]: line["columns"] for line in lines if "columns" in line}
    errors = [line["error"] for line in lines if "error" in line] or wrong.strip().splitlines()[-1:]
    taken = sum(line["seconds"] for line in lines) / max(len(lines), 1)
    return Answer(version, columns, taken, "" if columns else (errors or ["no pair within the time limit"])[0])


def _python(folder: Path, name: str) -> Path:
    return folder / name / "bin" / "python"


def _version(folder: Path, name: str) -> str:
    plain = name.replace("-", "_")
    found = sorted((folder / name).glob(f"lib/python*/site-packages/{plain}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").removeprefix(f"{plain}-") if found else ""


def _install(folder: Path, name: str) -> str:
    if _version(folder, name):
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder / name)],
        [str(_python(folder, name)), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    return ""
