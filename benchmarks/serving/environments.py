"""Environments of the servers, ours as well: one each, made by `pip` in a folder that the caller names.

None disturbs another, and none holds libraries that its users would not have.
"""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).parents[2]
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "penstock": ("--editable", f"{_ROOT}[sklearn,lightgbm]"),
    "mosec": ("mosec>=0.9",),
    "litserve": ("litserve>=0.2.17",),
    "kserve": ("kserve>=0.15",),
    # 1.7 asks uvloop for a loop that 0.22 no longer makes.
    "mlserver": ("mlserver>=1.7", "mlserver-sklearn", "mlserver-lightgbm", "uvloop<0.22"),
    "bentoml": ("bentoml>=1.4",),
    "mlflow": ("mlflow>=3",),
    "ray": ("ray[serve]>=2.40",),
}
_SAME = ("scikit-learn", "lightgbm", "numpy")  # in the versions that we have: the same model, the same arithmetic


def install(folder: Path) -> dict[str, str]:
    """Make the environments that are not there yet, one after the other; return why some could not be made."""
    return {name: reason for name in REQUIREMENTS if (reason := _install(folder, name))}


def python_of(folder: Path, name: str) -> Path:
    """Return the interpreter of an environment; "" is the one that runs this."""
    return Path(sys.executable) if not name else folder / name / "bin" / "python"


def version_of(folder: Path, name: str) -> str:
    """Return the version of the peer that an environment was made for, or "" when there is none."""
    if not name:
        return ""
    found = sorted((folder / name).glob(f"lib/python*/site-packages/{name}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").removeprefix(f"{name}-") if found else ""


def _install(folder: Path, name: str) -> str:
    if version_of(folder, name):
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    same = [f"{package}=={metadata.version(package)}" for package in _SAME]
    for command in (
        [sys.executable, "-m", "venv", str(folder / name)],
        [str(python_of(folder, name)), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name], *same],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    return ""
