"""MLflow's own scoring client, unmodified, and requests as its documentation shows them, over real HTTP."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from oip_program import CODE, COLUMNS, THREE
from penstock.core.refs import ReleaseRef
from penstock.releases.manifest import encode_manifest
from penstock.serving.limits import Limits
from penstock.serving.processes.background import start
from penstock.serving.processes.supervisor import LiveRelease, ServeOptions
from penstock.store.blobs import Blobs
from serving_release import make_manifest, make_node


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("mlflow-client")
    blobs = Blobs(home / "blobs")
    nodes = (
        make_node("mean", "serve", {"rows": "numpy.ndarray"}),
        make_node("describe", "serve", {"rows": "polars.DataFrame"}),
        make_node("judge", "serve", {"text": "str"}),
    )
    manifest = msgspec.structs.replace(
        make_manifest(blobs, CODE, nodes=nodes), inputs={"mean": THREE, "describe": COLUMNS}
    )
    release = LiveRelease(ref=ReleaseRef("movies", 3), manifest=blobs.put(encode_manifest(manifest)))
    options = ServeOptions(
        pipeline="movies", home=home, current_release=lambda: release, port=0, limits=Limits(linger_s=0.2)
    )
    with start(options) as server:
        yield server.url


def test_the_unmodified_client_is_answered(url: str) -> None:
    """S1: `ScoringServerClient` waits for the server, sends frames and arrays, and reads the predictions."""
    client_module = pytest.importorskip("mlflow.pyfunc.scoring_server.client", reason="needs mlflow-skinny")
    address = httpx.URL(url)
    client = client_module.ScoringServerClient(address.host, address.port)
    client.wait_server_ready(timeout=10)
    assert client.get_version().startswith("penstock")
    numbers = np.array([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]])
    for data in (numbers, pd.DataFrame(numbers), numbers.tolist()):
        found = client.invoke(data)
        assert found.get_predictions(predictions_format="ndarray").tolist() == [3.0, 3.0]
        assert found.get_predictions()[0].tolist() == [3.0, 3.0]
    with pytest.raises(Exception, match=r"error code 400, response: .*BAD_REQUEST.*Expected 3 numbers"):
        client.invoke(numbers[:, :2])


def test_a_frame_comes_back_as_a_frame(url: str) -> None:
    """Records become columns again in MLflow's own reader."""
    deployments = pytest.importorskip("mlflow.deployments", reason="needs mlflow-skinny")
    frame = pd.DataFrame({"x": [1.5, 2.0], "n": [1, 2], "name": ["a", "b"], "tags": [["p"], []]})
    body = json.dumps({"dataframe_split": frame.to_dict(orient="split")})
    reply = httpx.post(f"{url}/invocations/describe", content=body, headers={"content-type": "application/json"})
    found = deployments.PredictionsResponse.from_json(reply.text).get_predictions()
    assert found.to_dict(orient="list") == {
        "total": [2.5, 4.0],
        "name": ["a", "b"],
        "tags": [["p"], []],
        "big": [False, True],
    }


# Bodies of the curl examples in "Deploy MLflow Model as a Local Inference Server".
SHOWN_BODIES: list[tuple[str, str]] = [
    ("application/json", '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3], [4, 5, 6]]}}'),
    ("application/json", '{"dataframe_records": [{"a": 1,"b": 2,"c": 3},{"a": 4,"b": 5,"c": 6}]}'),
    ("application/json", '{"inputs": {"a": [1, 4], "b": [2, 5], "c": [3, 6]}}'),
    ("application/json;charset=utf-8", '{"instances": [[1, 2, 3], [4, 5, 6]]}'),
    ("text/csv", "1,2,3\n1,2,3\n4,5,6\n"),
]


@pytest.mark.parametrize(("kind", "body"), SHOWN_BODIES)
def test_requests_of_the_documentation_are_answered(url: str, kind: str, body: str) -> None:
    """S1: the same bytes, another server."""
    reply = httpx.post(f"{url}/invocations", content=body, headers={"content-type": kind})
    assert (reply.status_code, reply.json()) == (200, {"predictions": [2.0, 5.0]})


def test_refusals_have_mlflows_shape_over_http(url: str) -> None:
    """Whatever refuses below `/invocations`: the app or the wire."""
    found: list[Any] = [
        httpx.post(f"{url}/invocations", content=b"x", headers={"content-type": "application/xml"}),
        httpx.get(f"{url}/invocations"),
        httpx.post(f"{url}/invocations/nothing", json={}),
        httpx.post(f"{url}/invocations", json={}),
    ]
    assert [reply.status_code for reply in found] == [415, 405, 404, 400]
    assert all(set(reply.json()) == {"error_code", "message"} for reply in found)


def test_arrow_goes_in_and_out_over_http(url: str) -> None:
    """The typed route of a function takes a table, and gives one to who accepts it."""
    table = pa.table({"0": [1.0, 3.0], "1": [2.0, 3.0], "2": [6.0, 3.0]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    kind = "application/vnd.apache.arrow.stream"
    headers = {"content-type": kind, "accept": kind}
    reply = httpx.post(f"{url}/movies/mean", content=bytes(sink.getvalue()), headers=headers)
    assert reply.headers["content-type"] == kind
    found = pa.ipc.open_stream(reply.content).read_all()
    assert found.to_pydict() == {"answer": [3.0, 3.0]}
    assert found.schema.metadata[b"penstock.prediction_id"].decode() == reply.headers["x-penstock-prediction-id"]
