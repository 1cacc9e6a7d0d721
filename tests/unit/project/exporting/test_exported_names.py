"""Names of pipelines in the formats of others: lawful there, told apart, and never more than a name."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.core.refs import NAME
from penstock.core.settings import LoopPolicy, Replicas, ServerPolicy, load_settings
from penstock.project.exporting.grants import Grant
from penstock.project.exporting.image import policy_toml
from penstock.project.exporting.names import check_image, image_name, object_name
from penstock.project.exporting.objects import Wanted, objects

# Kubernetes' own rules (RFC 1035 labels for services, values of labels); the schemas say only that they are text.
LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
HOSTILE = (
    "movies\nUSER root",
    'movies"',
    "movies'; rm -rf /",
    "$(id)",
    "${HOME}",
    "`id`",
    "../../etc/passwd",
    "movies: {}",
    "- movies",
    "{{ .Values }}",
    "movies\x00",
    "--out=/etc",
    "MOVIES",
    "\u2028movies",
    "",
    "a" * 129,
)
LAWFUL = st.from_regex(NAME, fullmatch=True)
AWKWARD = ("1", "0x1f", "1e3", "null", "true", "no", "a.b", "a_b", "a-b", "a-", "a..", "x" * 128, "kubernetes", "y")


def wanted(pipeline: str) -> Wanted:
    return Wanted(
        name=object_name(pipeline),
        pipeline=pipeline,
        release=f"{pipeline}@3",
        version=3,
        hash="ab" * 32,
        image=image_name(pipeline, 3, "ab" * 32),
        replicas=Replicas(),
        grant=Grant(cpus=1, memory_bytes=2**30, disk_bytes=2**30, workers=1, because="a test"),
        keep="20Gi",
    )


@settings(max_examples=25, deadline=None)
@given(LAWFUL)
def test_every_name_is_lawful_elsewhere(pipeline: str) -> None:
    """Q64: whatever a pipeline is called, its objects and its image have names that their engines take."""
    found = wanted(pipeline)
    assert LABEL.fullmatch(f"{found.name}-predictions")
    assert check_image(found.image) == found.image
    for content in objects(found).values():
        assert all(VALUE.fullmatch(value) for value in content["metadata"]["labels"].values())
        assert yaml.safe_load(yaml.safe_dump(content)) == content


def test_two_pipelines_are_never_called_the_same() -> None:
    """Q64: names that differ only in what had to be replaced stay apart; a name that will do is kept."""
    names = [object_name(name) for name in AWKWARD]
    assert len(set(names)) == len(AWKWARD)
    assert object_name("movies") == "movies"
    assert object_name("a-b") == "a-b"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_nothing_but_a_name(name: str) -> None:
    """Q64: what would be read as more than a name is refused before anything is written."""
    with pytest.raises(InputError, match="is not a usable pipeline"):
        object_name(name)
    with pytest.raises(InputError, match="no reference of an image"):
        check_image(f"registry.example/{name}\nUSER root")


@pytest.mark.parametrize("text", ["Movies", "a b", "a:b:c", "a/../b", "-a", "a@sha256:12", "a" * 600, "$(id)", "a\n"])
def test_what_is_no_image_is_refused(text: str) -> None:
    """Q64: a reference of an image is one, or nothing is written."""
    with pytest.raises(InputError, match="no reference of an image"):
        check_image(text)


@pytest.mark.parametrize(
    "text", ["movies", "movies:3", "registry.example:5000/team/movies:3-ab", f"m@sha256:{'0' * 64}"]
)
def test_what_is_an_image_is_taken(text: str) -> None:
    """Q64: references as registries give them."""
    assert check_image(text) == text


def test_a_server_is_told_what_is_no_part_of_its_release(tmp_path: Path) -> None:
    """Q28: how long predictions are kept, and how many are explored, reach the container."""
    policy = LoopPolicy(explore=0.25, serve=ServerPolicy(keep="7d"))
    for name in AWKWARD:
        text = policy_toml(name, policy)
        (tmp_path / "penstock.toml").write_text(text)
        read = load_settings(tmp_path).policy(name)
        assert (read.explore, read.serve.keep) == (0.25, "7d")
    with pytest.raises(InputError, match="is not a duration"):
        policy_toml("movies", LoopPolicy(serve=ServerPolicy(keep='7d"\n[x]')))
