"""The page of a pipeline in a real browser: ask, read the answer and why, say whether it was right."""

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from chromium import PROGRAM, Page, browsing
from penstock.core.refs import ReleaseRef
from penstock.releases.manifest import Example, ReleasedDataset, encode_manifest
from penstock.serving.limits import Limits
from penstock.serving.predictions.reading import read_predictions
from penstock.serving.processes.background import Server, start
from penstock.serving.processes.supervisor import LiveRelease, ServeOptions
from penstock.store.blobs import Blobs
from serving_release import make_manifest, make_node

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")]

CODE = """
from typing import Literal

import polars as pl

from penstock.core.rows import Row


class Movie(Row):
    movie_id: int
    title: str
    score: float


def recommend(*, user_id: int, mood: Literal["funny", "sad"], note: str = "", k: int = 2) -> list[Movie]:
    return [Movie(movie_id=user_id, title=f"<img src=x> {mood} {note}", score=1 / 3) for i in range(k)]


def chance(*, rows: pl.DataFrame) -> list[float]:
    return [0.25] * len(rows)


def broken(*, text: str) -> str:
    raise ValueError(text)


def standing_in(*, text: str) -> str:
    return "popular"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    nodes = (
        make_node("recommend", "serve", {"user_id": "int", "mood": "str"}, doc="Movies for <a> user."),
        make_node("chance", "serve", {"rows": "polars.DataFrame"}),
        make_node("broken", "serve", {"text": "str"}),
        make_node("standing_in", "fallback", {"text": "str"}, serves=["broken"]),
    )
    blobs = Blobs(home / "blobs")
    manifest = msgspec.structs.replace(
        make_manifest(blobs, CODE, nodes=nodes),
        examples={"recommend": (Example(fields={"user_id": 7, "mood": "sad", "note": 'a "b" <c>'}, answer=[]),)},
        datasets={"ratings": ReleasedDataset(version=7, digest="0", schema=())},
    )
    release = LiveRelease(ref=ReleaseRef("movies", 3), manifest=blobs.put(encode_manifest(manifest)))
    options = ServeOptions(
        pipeline="movies", home=home, current_release=lambda: release, port=0, limits=Limits(linger_s=0.2)
    )
    with start(options) as running:
        yield running


@pytest.fixture
def page(server: Server, tmp_path: Path) -> Iterator[Page]:
    with browsing(tmp_path) as opened:
        opened.open(server.url + "/app")
        yield opened


def ask(page: Page, function: str, **fields: str) -> str:
    """Fill the form, ask, and return the text of the answer."""
    for name, value in fields.items():
        page.evaluate(f"document.getElementById('{function}-{name}').value = {value!r}; 0")
    page.evaluate(f"document.querySelector('#{function} form').requestSubmit(); 0")
    page.wait_for(f"document.querySelector('#{function} button').disabled === false")
    page.wait_for(f"document.querySelector('#{function} .answer').textContent !== ''")
    text: str = page.evaluate(f"document.querySelector('#{function} .answer').innerText")
    return text


def test_the_first_example_is_filled_in(page: Page) -> None:
    """A newcomer needs only to press the button."""
    fields = "['user_id', 'mood', 'note', 'k'].map(name => document.getElementById('recommend-' + name).value)"
    assert page.evaluate(fields) == ["7", '"sad"', 'a "b" <c>', ""]
    assert 'sad a "b" <c>' in ask(page, "recommend")
    assert "ratings@7" in page.evaluate("document.querySelector('#recommend details').textContent")


def test_a_list_of_records_is_a_table_and_nothing_is_markup(page: Page, home: Path) -> None:
    """Large whole numbers keep their digits; text from the model stays text."""
    text = ask(page, "recommend", user_id="9007199254740993", mood='"sad"', note='"quoted" <b>')
    assert "Movie id\tTitle\tScore" in text
    assert '<img src=x> sad "quoted" <b>' in text
    assert page.evaluate("document.querySelectorAll('#recommend tbody tr').length") == 2
    assert page.evaluate("document.querySelectorAll('main img, main b').length") == 0
    kept = [found for found in read_predictions(home, "movies") if found.serve == "recommend"][-1]
    assert kept.fields == {"user_id": 9007199254740993, "mood": "sad", "note": '"quoted" <b>', "k": 2}
    assert kept.consumer == "page"
    assert page.complaints == []


def test_why_names_release_model_and_prediction(page: Page, home: Path) -> None:
    """What made the answer is one click away, and says when it was the fallback."""
    ask(page, "broken", text="x")
    why = page.evaluate("document.querySelector('#broken details').textContent")
    assert "movies@3" in why
    assert "the fallback, as the model failed or was late" in why
    assert [found.id for found in read_predictions(home, "movies") if found.serve == "broken"][-1] in why


def test_a_thumb_becomes_feedback(page: Page) -> None:
    """One click; for rows, each of them is said to be right or wrong."""
    for function, fields in (("recommend", {"user_id": "1"}), ("chance", {"rows": '[{"x": 1}, {"x": 2}]'})):
        ask(page, function, **fields)
        page.evaluate(f"document.querySelector('#{function} .feedback button').click(); 0")
        page.wait_for(f"document.querySelector('#{function} .feedback').textContent === 'Thank you.'")
    assert page.complaints == []


@pytest.mark.parametrize(
    ("function", "fields", "message"),
    [
        ("recommend", {"user_id": ""}, "User id is needed."),
        ("recommend", {"user_id": "1.5"}, "User id must be a whole number."),
        ("chance", {"rows": "[{"}, "Rows must be JSON."),
        ("chance", {"rows": '[{"x": 1}, {"x": "a"}]'}, "Expected one type of number, text or truth value"),
    ],
)
def test_a_wrong_field_is_told_beside_the_form(page: Page, function: str, fields: dict[str, str], message: str) -> None:
    """Before anything is sent where the page can tell, and in the server's words else."""
    assert message in ask(page, function, **fields)


@pytest.mark.parametrize("is_dark", [False, True])
def test_it_fits_a_phone_in_light_and_dark(page: Page, is_dark: bool) -> None:
    """Nothing is wider than the screen, and text stands out from its ground."""
    page.resize(360, 780, is_dark=is_dark)
    ask(page, "recommend", user_id="7")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    light = "const v = getComputedStyle(document.body)[name].match(/\\d+/g).map(Number); return v[0] + v[1] + v[2]"
    shade = f"((name) => {{ {light} }})"
    ink, ground = (page.evaluate(f"{shade}('{name}')") for name in ("color", "backgroundColor"))
    assert (ink > ground) == is_dark
    assert abs(ink - ground) > 450
