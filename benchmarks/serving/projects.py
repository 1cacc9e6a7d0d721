"""Real projects of ours for the comparison: the pipelines beside this file, run until they have a release."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.serving import samples

_PLAIN = "[{}.serve]\nequivalents = false\n"
_PIPELINES = Path(__file__).parent / "pipelines"


def make_projects(scratch: Path, models: tuple[str, ...], python: Path) -> None:
    """Make a project per model, with and without compiled equivalents, and release each."""
    for model in models:
        _make(scratch / "projects" / model, f'[{model}]\nfile = "{model}.py"\n', python)
        _make(scratch / "plain" / model, f'[{model}]\nfile = "{model}.py"\n{_PLAIN.format(model)}', python)


def _make(folder: Path, settings: str, python: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "penstock.toml").write_text(settings, encoding="utf-8")
    shutil.copyfile(_PIPELINES / f"{folder.name}.py", folder / f"{folder.name}.py")
    if not (folder / "samples.parquet").is_file():
        samples.training().write_parquet(folder / "samples.parquet")
    subprocess.run([str(python), "-m", "penstock", "run", folder.name, "--quiet"], cwd=folder, check=True)
