"""Pictures of every page of the movies example, light and dark, wide and narrow: `make screenshots`."""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from chromium import browsing
from pages_project import Site, answered
from penstock.project import people
from penstock.project.questions import ask_release
from penstock.serving.processes.ask import Ask
from penstock.store.ledger import releases
from project_folder import COMMAND, Project

PAGES = {
    "home": "/",
    "pipeline": "/pipelines/movies",
    "answers": "/pipelines/movies/answers",
    "runs": "/runs",
    "run": "/runs/r1",
    "releases": "/releases",
    "release": "/releases/movies@1",
    "compare": "/compare?before=movies@1&after=movies@2",
    "data": "/data",
    "dataset": "/data/movies/ratings",
    "alerts": "/alerts",
    "audit": "/audit",
    "people": "/people",
}
WIDTHS = {"wide": 1200, "narrow": 380}


def made(root: Path) -> Project:
    """Make the example with two releases, the second by a change of a parameter, and ask it some hundred times."""
    subprocess.run([*COMMAND, "new", root.name], cwd=root.parent, check=True, stdout=subprocess.DEVNULL)
    project = Project(root, "movies")
    subprocess.run([sys.executable, "sample.py", "data"], cwd=root, check=True)
    for words in ((), ("-p", "recommender.trees=60")):
        subprocess.run([*COMMAND, "run", "--quiet", *words], cwd=root, check=True)
    with project.opened() as workspace, workspace.ledger.read() as conn:
        live = releases.live(conn, "movies")
        if live is None:
            raise RuntimeError("nothing was released")
        asks = [Ask(function="recommend", body=b'{"user_id": %d}' % (user * 17)) for user in range(200)]
        ask_release(live, asks, workspace)
    return project


def photograph(site: Site, folder: Path, profile: Path) -> None:
    """Keep each page as WebP."""
    token = people.add_person(site.workspace, "ada", "admin", by="owner").token
    with browsing(profile) as page:
        page.open(f"{site.url}/sign-in?token={token}")
        page.evaluate("document.querySelector('main button').click(); 0")
        page.wait_for("document.querySelector('h1')?.textContent === 'Pipelines'")
        for (name, path), (size, width), is_dark in itertools.product(PAGES.items(), WIDTHS.items(), (False, True)):
            page.resize(width, 700, is_dark=is_dark)
            page.open(site.url + path)
            target = folder / f"{name}-{size}-{'dark' if is_dark else 'light'}.webp"
            page.screenshot(target)
            sys.stdout.write(f"{target}\n")


def main() -> None:
    """Make the pictures in the folder that is given."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, answered(made(Path(scratch) / "movies")) as site:
        photograph(site, folder, Path(scratch) / "profile")


if __name__ == "__main__":
    main()
