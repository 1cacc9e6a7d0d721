"""What serves a release elsewhere: a folder that makes an image, and manifests for Kubernetes.

There is neither Docker nor a cluster here. What they would read is read by Docker's own parser and held to the schemas
that Kubernetes publishes, and what a container would run is run: the release, its entrypoint and the very arguments.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dockerfile
import httpx
import kubernetes_validate
import msgspec
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import SHOP
from penstock.core.errors import InputError
from penstock.project.exporting.image import dockerfile as dockerfile_of
from penstock.project.exporting.image import listening
from penstock.project.moving import find_release
from penstock.project.workspace import read_manifest
from penstock.releases.environment import lock_text
from penstock.store.ledger import evidence
from project_folder import Project

KEY = "a-key-that-nobody-guesses-0123456789"
PRICE, TEA = "/kubernetes/price", {"item": "tea"}
# The oldest version that knows all that is used, and the newest whose schemas are here.
VERSIONS = ("1.30", kubernetes_validate.latest_version().rpartition(".")[0])
KINDS = {
    "Deployment",
    "Service",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "ServiceAccount",
    "NetworkPolicy",
    "PersistentVolumeClaim",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline is called like what it is exported as, with policy and two releases, the second live."""
    root = tmp_path_factory.mktemp("made") / "shop"
    root.mkdir()
    project = Project(root, "kubernetes")
    project.write(SHOP.replace('Pipeline("shop"', 'Pipeline("kubernetes"'), "shop.py")
    (root / "penstock.toml").write_text(
        '[kubernetes.serve]\nkeep = "7d"\nreplicas = { min = 2, max = 9, cpus = 1.5, memory = "768MiB" }\n'
    )
    assert project.run().release == "kubernetes@1"
    project.change("factor: float = 1.0", "factor: float = 2.0", "shop.py")
    assert project.run().release == "kubernetes@2"
    return project


@pytest.fixture
def shop(made: Project, tmp_path: Path) -> Project:
    return made.copied(tmp_path / "shop")


def exported(shop: Project, *words: str) -> dict[str, Any]:
    done = shop.command("export", *words, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def instructions(folder: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Return the instructions of a Dockerfile with their arguments, as Docker's parser reads them."""
    return [(c.cmd.upper(), tuple(c.value)) for c in dockerfile.parse_file(str(folder / "Dockerfile"))]


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the objects in a folder by their kind, each from a file of its own."""
    found = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    assert len({content["kind"] for content in found}) == len(found)
    return {content["kind"]: content for content in found}


@contextmanager
def started(folder: Path, home: Path, arguments: list[str], **environment: str) -> Iterator[tuple[str, Any]]:
    """Run what a container would: the entrypoint, on a free port, with a home of its own; give its URL and process."""
    entry = [sys.executable if word == "python" else word for word in entrypoint(folder)]
    at = arguments.index("--port") + 1
    command = [*entry, *arguments[:at], "0", *arguments[at + 1 :], "--json"]
    told = {**os.environ, "PENSTOCK_HOME": str(home), **environment}
    with subprocess.Popen(command, cwd=home.parent, env=told, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
            yield f"http://127.0.0.1:{said['url'].rpartition(':')[2]}", process
        finally:
            process.kill()


def entrypoint(folder: Path) -> list[str]:
    [words] = [words for name, words in instructions(folder) if name == "ENTRYPOINT"]
    return [word.replace("/app/", f"{folder}/") for word in words]


def test_the_image_has_all_it_copies_and_runs_as_nobody(shop: Project) -> None:
    """Q64, A6: Docker's parser reads it, each source is there, the lock is exact, the user is not root."""
    done = exported(shop, "image", "kubernetes@1")
    folder = shop.root / done["path"]
    found = instructions(folder)
    names = [name for name, _ in found]
    kept = {line[1:] for line in (folder / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [source for name, words in found if name == "COPY" for source in words[:-1]]
    assert sources
    assert all((folder / source).exists() for source in sources)
    assert set(sources) <= kept
    assert dict(found)["USER"] == ("10001:10001",)
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "HEALTHCHECK" in names
    assert dict(found)["VOLUME"] == ("/var/lib/penstock",)
    with shop.opened() as workspace:
        release = find_release("kubernetes@1", workspace)
        manifest = read_manifest(release.manifest_digest, workspace)
    assert (folder / "requirements.lock").read_text() == lock_text(manifest)
    assert done["hash"] == release.hash


def test_a_container_answers_as_the_project_does(shop: Project, tmp_path: Path) -> None:
    """Q28, Q64, S2: the entrypoint with the pod's arguments gives the same answer and reference, to keys only."""
    image, out = exported(shop, "image", "kubernetes@1"), exported(shop, "kubernetes", "kubernetes@1")
    folder = shop.root / image["path"]
    container = manifests(shop.root / out["path"])["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == image["image"]
    arguments = [word.replace("$(POD_NAMESPACE)", "default") for word in container["args"]]
    expected = json.loads(shop.command("predict", "kubernetes@1", '{"item": "tea"}').stdout)
    (tmp_path / "node").mkdir()
    home = tmp_path / "node" / "home"
    with started(folder, home, arguments, PENSTOCK_SERVE_KEYS=f"another-{KEY} {KEY}") as (url, process):
        with httpx.Client(base_url=url, timeout=30) as client:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                get = container[probe]["httpGet"]
                headers = {one["name"]: one["value"] for one in get["httpHeaders"]}
                assert client.get(get["path"], headers=headers).status_code == 200
            refused = client.post(PRICE, json=TEA, headers={"authorization": f"Bearer {KEY}x"})
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert client.get("/docs").status_code == 401
            named = {"authorization": f"Bearer {KEY}", "host": "kubernetes.default.svc"}
            answered = client.post(PRICE, json=TEA, headers=named)
            assert client.post(PRICE, json=TEA, headers={**named, "host": "evil.example"}).status_code == 403
        assert (answered.json()["answer"], answered.json()["release"]) == (expected, "kubernetes@1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    # The volume outlives the container: the next one takes the same release in again, and has what was answered before.
    with started(folder, home, arguments, PENSTOCK_SERVE_KEYS=KEY) as (url, _):
        assert httpx.get(f"{url}/readyz").json()["release"] == "kubernetes@1"
        kept = shop.command("predictions", "kubernetes", "--json", PENSTOCK_HOME=str(home)).stdout
        assert answered.json()["prediction_id"] in kept


def test_a_container_without_keys_does_not_start(shop: Project, tmp_path: Path) -> None:
    """Q64: beyond loopback nothing is answered to callers who need no key, and the way out is said."""
    folder = shop.root / exported(shop, "image", "kubernetes")["path"]
    told = {**os.environ, "PENSTOCK_HOME": str(tmp_path / "home"), "PENSTOCK_SERVE_KEYS": ""}
    command = [sys.executable if word == "python" else word for word in (*entrypoint(folder), *listening())]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "Hint: set PENSTOCK_SERVE_KEYS" in done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_what_kubernetes_publishes(shop: Project, version: str) -> None:
    """Q64, S2: each object fits the strict schema of its kind, unknown fields refused."""
    found = manifests(shop.root / exported(shop, "kubernetes", "kubernetes", "--keep", "20Gi")["path"])
    assert found.keys() == KINDS
    for content in found.values():
        assert kubernetes_validate.validate(content, version, strict=True) == version
    found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["port"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="'port' was unexpected"):
        kubernetes_validate.validate(found["Deployment"], version, strict=True)


def test_manifests_fit_together(shop: Project) -> None:
    """S2, Q59: policy's copies and memory are scaled and granted; all objects select the same pods, safely run."""
    found = manifests(shop.root / exported(shop, "kubernetes", "kubernetes", "--keep", "20Gi")["path"])
    pods = found["Deployment"]["spec"]["template"]
    pod, container = pods["spec"], pods["spec"]["containers"][0]
    labels = found["Deployment"]["spec"]["selector"]["matchLabels"]
    assert labels.items() <= pods["metadata"]["labels"].items()
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert pod["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"]
    scaled = found["HorizontalPodAutoscaler"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert (scaled["minReplicas"], scaled["maxReplicas"]) == (2, 9)
    assert "replicas" not in found["Deployment"]["spec"]
    assert container["resources"] == {"requests": {"cpu": "1500m", "memory": "768Mi"}, "limits": {"memory": "768Mi"}}
    assert pod["terminationGracePeriodSeconds"] > container["lifecycle"]["preStop"]["sleep"]["seconds"] + 30
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
    claim = volumes["predictions"]["persistentVolumeClaim"]["claimName"]
    assert claim == found["PersistentVolumeClaim"]["metadata"]["name"]


def test_memory_is_what_a_load_test_measured(shop: Project) -> None:
    """Q59: where policy says nothing, the evidence does, and where there is none it is said to be an estimate."""
    (shop.root / "penstock.toml").unlink()
    guessed = exported(shop, "kubernetes", "kubernetes@1", "--out", "guessed")
    assert "nothing was measured" in guessed["memory"]
    assert "Predictions go with their pod" in (shop.root / "guessed" / "README.md").read_text()
    with shop.opened() as workspace, workspace.ledger.write() as conn:
        figures = {"worker_memory_bytes": 512 * 2**20}
        new = evidence.NewEvidence(pipeline="kubernetes", subject="kubernetes@1", kind="load", by="me", figures=figures)
        evidence.add(conn, new)
    measured = exported(shop, "kubernetes", "kubernetes@1", "--out", "measured")
    assert measured["memory"] == "960Mi: a load test measured 512 MiB in a worker"
    container = manifests(shop.root / "measured")["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "960Mi"}


def test_one_word_is_a_release_whatever_its_name(shop: Project) -> None:
    """A6: a pipeline called like a form is exported as a file, as ever; wrong words are one error with the way out."""
    assert exported(shop, "kubernetes")["path"] == "kubernetes-2.penstock"
    assert exported(shop, "kubernetes", "kubernetes")["path"] == "kubernetes-2-kubernetes"
    wrong = {
        ("kubernetes", "kubernetes"): "kubernetes-2-kubernetes exists already",
        ("kubernetes@1", "shop.penstock"): "--to shop.penstock",
        ("image", "kubernetes", "--to", "x"): "--to says nothing about image",
        ("image", "kubernetes", "--image", "A b"): "'A b' is no reference of an image",
        ("kubernetes", "kubernetes", "--out", "no/such/folder"): "There is no folder 'no/such'",
        ("kubernetes", "kubernetes", "--keep", "much"): "'much' is no size",
        ("kubernetes", "nobody"): "'nobody' has no release",
        ("image", "kubernetes", "more"): "3 words are too many",
    }
    for words, said in wrong.items():
        done = shop.command("export", *words)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), words
        assert said in done.stderr
        assert "Hint:" in done.stderr
    assert not [path.name for path in shop.root.iterdir() if path.name.endswith(".part")]


def test_an_environment_that_is_none_reaches_no_dockerfile(shop: Project) -> None:
    """Q64: what an imported release says of its Python is looked at before it becomes an instruction."""
    with shop.opened() as workspace:
        found = find_release("kubernetes", workspace)
        manifest = read_manifest(found.manifest_digest, workspace)
    for python in ("3.11.7\nUSER root", "3.11", "", "latest", "${X}", "3.11.7-slim AS x"):
        hostile = msgspec.structs.replace(manifest, environment={"python": python, "packages": {}})
        with pytest.raises(InputError, match=re.escape(f"made with Python {python!r}")):
            dockerfile_of(found, hostile)


def test_a_release_keeps_its_number_elsewhere(shop: Project, tmp_path: Path) -> None:
    """A6: taken in as what it is at home, a prediction names the same release; a number is never two releases."""
    files = {n: exported(shop, f"kubernetes@{n}", "--to", f"{tmp_path}/{n}.penstock")["path"] for n in (1, 2)}
    (tmp_path / "there").mkdir()
    there = Project(tmp_path / "there")
    taken = json.loads(there.command("import", files[2], "--as", "kubernetes@2", "--json").stdout)
    assert (taken["release"], taken["is_live"]) == ("kubernetes@2", True)
    assert json.loads(there.command("import", files[2], "--as", "kubernetes@2", "--json").stdout)["is_new"] is False
    wrong = {
        (files[1], "kubernetes@2"): "kubernetes@2 is another release here",
        (files[2], "kubernetes@7"): "is here already, as kubernetes@2",
        (files[1], "other@1"): "a release of 'kubernetes', not other@1",
        (files[1], "r1"): "'r1' is a run",
    }
    for (file, ref), said in wrong.items():
        done = there.command("import", file, "--as", ref)
        assert done.returncode == 2
        assert said in done.stderr
