"""Triton's unmodified client asks released pipelines over HTTP and gRPC and gets the answers of the typed route."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import InputError
from penstock.project.serving import Address, serve_options
from penstock.serving.processes.background import Server, start
from penstock.serving.processes.supervisor import ServeOptions
from project_folder import Project

FILMS = """
import polars as pl

from penstock import Pipeline, Row

films = Pipeline("films", goal="People find something to watch.")


class Movie(Row):
    movie_id: int
    title: str
    score: float


@films.dataset(key="movie_id")
def titles() -> pl.DataFrame:
    return pl.DataFrame({"movie_id": range(30), "title": [f"F\\u00fclm {i}" for i in range(30)]})


@films.model
def popular(titles: pl.DataFrame) -> pl.DataFrame:
    return titles.with_columns(score=1 / (1 + pl.col("movie_id")))


@films.serve(examples=[{"user_id": 1}, {"user_id": 2, "k": 3}])
def recommend(popular: pl.DataFrame, *, user_id: int, k: int = 10) -> list[Movie]:
    found = popular.filter(pl.col("movie_id") != user_id).head(k)
    return [Movie(**row) for row in found.to_dicts()]
"""
TUMOURS = """
import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline as Steps
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penstock import Pipeline

tumours = Pipeline("tumours")


@tumours.dataset(key="id")
def cells() -> pl.DataFrame:
    dice = np.random.default_rng(0)
    frame = pl.DataFrame({"id": range(300), **{c: dice.normal(3, 2, 300) for c in "abcd"}})
    return frame.with_columns(bad=(pl.col("a") + pl.col("b") > 6).cast(pl.Int64))


@tumours.step(outputs=("features", "labels"))
def prepare(cells: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return cells.select(list("abcd")).to_numpy(), cells["bad"].to_numpy()


@tumours.model
def classifier(features: np.ndarray, labels: np.ndarray) -> Steps:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, labels)


@tumours.serve
def score(classifier: Steps, *, rows: np.ndarray) -> np.ndarray:
    return classifier.predict_proba(rows)[:, 1]
"""
HOUSES = """
import lightgbm
import numpy as np
import polars as pl

from penstock import Pipeline

houses = Pipeline("houses")
COLUMNS = ["area", "age", "rooms"]


@houses.dataset(key="id")
def sold() -> pl.DataFrame:
    dice = np.random.default_rng(0)
    frame = pl.DataFrame(
        {"id": range(300), "area": dice.normal(90, 20, 300), "age": dice.normal(30, 9, 300)}
    ).with_columns(rooms=(pl.col("area") // 20).cast(pl.Int64))
    return frame.with_columns(price=3.0 * pl.col("area") - pl.col("age"))


@houses.model
def booster(sold: pl.DataFrame) -> lightgbm.Booster:
    rows = lightgbm.Dataset(sold.select(COLUMNS).to_numpy(), sold["price"].to_numpy())
    settings = {"objective": "regression", "verbose": -1, "num_threads": 1, "deterministic": True}
    return lightgbm.train(settings, rows, 20)


@houses.serve(columns=COLUMNS)
def price(booster: lightgbm.Booster, *, rows: pl.DataFrame) -> pl.DataFrame:
    found = booster.predict(rows.to_numpy(), num_threads=1)
    return pl.DataFrame({"price": found, "is_dear": found > 270})
"""
DTYPES = {"INT64": np.int64, "FP64": np.float64, "FP32": np.float32, "INT32": np.int32, "BYTES": np.object_}


class Client:
    """Triton's client of one form, asked the same way."""

    def __init__(self, form: str, http: str, grpc: str) -> None:
        self.form = form
        self.kit: Any = tritonclient.grpc if form == "grpc" else tritonclient.http
        self.made = self.kit.InferenceServerClient(grpc if form == "grpc" else http)

    def infer(self, model: str, outputs: tuple[str, ...] = (), **inputs: tuple[str, Any]) -> Any:
        """Ask; inputs are datatypes and values by name."""
        given = [self._input(name, datatype, values) for name, (datatype, values) in inputs.items()]
        if self.form == "http-json":
            wanted = [self.kit.InferRequestedOutput(name, binary_data=False) for name in outputs]
        else:
            wanted = [self.kit.InferRequestedOutput(name) for name in outputs]
        return self.made.infer(model, given, outputs=wanted or None, request_id="mine")

    def _input(self, name: str, datatype: str, values: Any) -> Any:
        array = np.array(values, dtype=DTYPES[datatype])
        made = self.kit.InferInput(name, list(array.shape), datatype)
        made.set_data_from_numpy(array, **({"binary_data": False} if self.form == "http-json" else {}))
        return made


class Served:
    """A released pipeline behind a real server."""

    def __init__(self, server: Server) -> None:
        self.url = server.url
        self.http = server.url.removeprefix("http://")
        self.grpc = server.grpc or ""

    def client(self, form: str) -> Client:
        """Return Triton's client of a form."""
        return Client(form, self.http, self.grpc)

    def typed(self, path: str, fields: Any) -> Any:
        """Return the answer of the typed route."""
        return httpx.post(f"{self.url}{path}", json=fields).raise_for_status().json()["answer"]


@contextmanager
def served(root: Path, name: str, text: str) -> Iterator[Served]:
    """Run a pipeline and serve what it released."""
    project = Project(root, name)
    project.write(text, f"{name}.py")
    report = project.run()
    assert report.release == f"{name}@1", report
    with project.opened() as workspace:
        options = serve_options(None, workspace, Address(port=0, grpc_port=0))
        with start(options) as server:
            yield Served(server)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("films"), "films", FILMS) as found:
        yield found


@pytest.fixture(scope="module")
def tumours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("tumours"), "tumours", TUMOURS) as found:
        yield found


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("houses"), "houses", HOUSES) as found:
        yield found


FORMS = ("http-json", "http-binary", "grpc")


@pytest.mark.parametrize("form", FORMS)
def test_a_client_finds_its_way(films: Served, form: str) -> None:
    """S1: what a client asks before it asks a model."""
    client = films.client(form).made
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("recommend")
    assert client.is_model_ready("films", "1")
    as_json = {"as_json": True} if form == "grpc" else {}
    assert client.get_server_metadata(**as_json)["name"] == "penstock"
    inputs = client.get_model_metadata("recommend", **as_json)["inputs"]
    assert [(item["name"], item["datatype"]) for item in inputs] == [("user_id", "INT64"), ("k", "INT64")]
    config = client.get_model_config("recommend", **as_json)
    assert (config["config"] if form == "grpc" else config)["name"] == "recommend"
    index = client.get_model_repository_index(**as_json)
    names = [model["name"] for model in (index["models"] if form == "grpc" else index)]
    assert names == ["recommend", "films"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["recommend", "films"])
def test_typed_fields_are_answered_as_by_the_typed_route(films: Served, form: str, name: str) -> None:
    """S1: each element is one question; a field left out takes its default."""
    found = films.client(form).infer(name, user_id=("INT64", [1, 2]), k=("INT64", [3, 1]))
    answers = [json.loads(text) for text in found.as_numpy("answer")]
    assert answers == [films.typed("/films/recommend", {"user_id": u, "k": k}) for u, k in ((1, 3), (2, 1))]
    alone = films.client(form).infer(name, user_id=("INT32", [[7]]))
    assert len(json.loads(alone.as_numpy("answer")[0])) == 10


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT32"])
def test_a_scikit_learn_model_takes_one_tensor(tumours: Served, form: str, datatype: str) -> None:
    """S1: an array of rows in any numeric datatype gives what the typed route gives for the same numbers."""
    rows = np.random.default_rng(1).normal(3, 2, (5, 4)).astype(DTYPES[datatype])
    found = tumours.client(form).infer("score", outputs=("answer",), rows=(datatype, rows))
    assert found.as_numpy("answer").tolist() == tumours.typed("/tumours/score", rows.astype(float).tolist())


@pytest.mark.parametrize("form", FORMS)
def test_a_lightgbm_model_takes_a_tensor_per_column(houses: Served, form: str) -> None:
    """S1: or all columns in one tensor, in the released order; the columns of the answer are outputs."""
    rows = [{"area": 80.5, "age": 3.0, "rooms": 4}, {"area": 120.0, "age": 60.0, "rooms": 6}]
    expected = houses.typed("/houses/price", rows)
    columns = {name: [row[name] for row in rows] for name in ("area", "age", "rooms")}
    client = houses.client(form)
    by_column = client.infer(
        "price", area=("FP64", columns["area"]), age=("FP64", columns["age"]), rooms=("INT64", columns["rooms"])
    )
    whole = client.infer("price", rows=("FP64", list(zip(*columns.values(), strict=True))))
    for found in (by_column, whole):
        assert found.as_numpy("price").tolist() == [answer["price"] for answer in expected]
        assert found.as_numpy("is_dear").tolist() == [answer["is_dear"] for answer in expected]


@pytest.mark.parametrize("form", FORMS)
def test_a_refusal_reaches_the_caller_as_words(houses: Served, form: str) -> None:
    """Fault 26: the client raises with what was expected."""
    client = houses.client(form)
    with pytest.raises(InferenceServerException, match="Input 'age' of model 'price' is missing"):
        client.infer("price", area=("FP64", [1.0]))
    with pytest.raises(InferenceServerException, match="no model 'prices'; this server has: price, houses"):
        client.infer("prices", area=("FP64", [1.0]))


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_names_its_prediction(tumours: Served, form: str) -> None:
    """S4: id and release come with every answer, and the request's own id comes back."""
    found = tumours.client(form).infer("score", rows=("FP64", [[1.0, 2.0, 3.0, 4.0]]))
    reply = found.get_response(as_json=True) if form == "grpc" else found.get_response()
    assert reply["id"] == "mine"
    told = {name: value["string_param"] if form == "grpc" else value for name, value in reply["parameters"].items()}
    assert (told["release"], told["prediction_id"][:1]) == ("tumours@1", "p")


def test_a_second_server_does_not_share_the_port(films: Served, tmp_path: Path) -> None:
    """Two servers behind one gRPC port would answer by turns."""
    port = int(films.grpc.rpartition(":")[2])
    options = ServeOptions(pipeline="films", home=tmp_path, current_release=lambda: None, port=0, grpc_port=port)
    with pytest.raises(InputError, match=f"Port {port} of 127.0.0.1 cannot be used"):
        start(options)


@pytest.mark.parametrize("form", ["http-binary", "grpc"])
def test_models_are_not_loaded_by_callers(films: Served, form: str) -> None:
    """What is served is decided by releases; the client hears so."""
    with pytest.raises(InferenceServerException, match=r"not loaded and unloaded by callers|not found"):
        films.client(form).made.load_model("recommend")


def test_compressed_requests_are_read(tumours: Served) -> None:
    """S1: the client's own compression of a request."""
    client = tumours.client("http-binary")
    made = client.kit.InferInput("rows", [1, 4], "FP64")
    made.set_data_from_numpy(np.array([[1.0, 2.0, 3.0, 4.0]]))
    answers = [
        client.made.infer("score", [made], request_compression_algorithm=algorithm).as_numpy("answer")[0]
        for algorithm in (None, "gzip", "deflate")
    ]
    assert len(set(answers)) == 1


def test_a_stream_of_requests_is_answered_in_order(tumours: Served) -> None:
    """S1: the client's bidirectional stream."""
    client = tumours.client("grpc")
    rows = np.arange(12.0).reshape(3, 4)
    found: list[Any] = []
    client.made.start_stream(callback=lambda result, error: found.append(error or result))
    for row in rows:
        made = client.kit.InferInput("rows", [1, 4], "FP64")
        made.set_data_from_numpy(row.reshape(1, 4))
        client.made.async_stream_infer("score", [made])
    client.made.stop_stream()
    assert [result.as_numpy("answer")[0] for result in found] == tumours.typed("/tumours/score", rows.tolist())
