"""MLflow's scoring protocol: every form its clients send, answered as they read it, and refused as they know it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))
from oip_program import loaded_program
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply
from penstock.serving.predictions.reading import find_prediction
from table_asker import TableAsker


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableAsker]:
    home = tmp_path_factory.mktemp("mlflow")
    with loaded_program(home) as program:
        made = TableAsker(program, home, Limits(batch_rows=50, rows=1000))
        yield made
        made.close()


def predictions(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    body = json.loads(reply.body)
    assert set(body) == {"predictions"}
    return body["predictions"]


def refused(reply: Reply, status: int = 400) -> str:
    """Return the message of a refusal in the shape of MLflow's server."""
    assert reply.status == status, reply.body
    body = json.loads(reply.body)
    assert set(body) == {"error_code", "message"}
    assert body["error_code"] == "BAD_REQUEST"
    message: str = body["message"]
    return message


def invoke(asker: TableAsker, function: str, body: object) -> Reply:
    return asker.post(f"/invocations/{function}", json.dumps(body).encode())


FRAME = pd.DataFrame({"x": [1.5, 2.0], "n": [1, 2], "name": ["a", "b"], "tags": [["p"], []]})
DESCRIBED = [
    {"total": 2.5, "name": "a", "tags": ["p"], "big": False},
    {"total": 4.0, "name": "b", "tags": [], "big": True},
]
NUMBERS = np.array([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]])

# As the clients of MLflow 2 and 3 write them, and as its documentation shows them.
FRAMES = {
    "split": {"dataframe_split": FRAME.to_dict(orient="split")},
    "split without index": {
        "dataframe_split": {k: v for k, v in FRAME.to_dict(orient="split").items() if k != "index"}
    },
    "records": {"dataframe_records": FRAME.to_dict(orient="records")},
    "instances of objects": {"instances": FRAME.to_dict(orient="records")},
    "inputs of columns": {"inputs": FRAME.to_dict(orient="list")},
    "inputs of objects": {"inputs": FRAME.to_dict(orient="records")},
    "inputs of lists": {"inputs": FRAME.to_numpy().tolist()},
    "further columns": {"dataframe_records": FRAME.assign(more="x").to_dict(orient="records")},
}
TENSORS = {
    "inputs": {"inputs": NUMBERS.tolist()},
    "instances": {"instances": NUMBERS.tolist()},
    "split": {"dataframe_split": pd.DataFrame(NUMBERS, columns=["a", "b", "c"]).to_dict(orient="split")},
    "records": {"dataframe_records": pd.DataFrame(NUMBERS, columns=["a", "b", "c"]).to_dict(orient="records")},
    "named tensors": {"inputs": {name: NUMBERS[:, [place]].tolist() for place, name in enumerate("abc")}},
}


@pytest.mark.parametrize("form", FRAMES)
def test_a_function_of_a_frame_is_asked_in_every_form(asker: TableAsker, form: str) -> None:
    """S1: the same rows, the same answers: a list of records, as MLflow writes a frame."""
    assert predictions(invoke(asker, "describe", FRAMES[form])) == DESCRIBED


@pytest.mark.parametrize("form", TENSORS)
def test_a_function_of_an_array_is_asked_in_every_form(asker: TableAsker, form: str) -> None:
    """S1: tables go to arrays by position; an array comes back as a list."""
    assert predictions(invoke(asker, "mean", TENSORS[form])) == [3.0, 3.0]
    assert predictions(invoke(asker, "echo", TENSORS[form])) == NUMBERS.tolist()


@pytest.mark.parametrize("index", [True, False])
def test_csv_is_read_as_pandas_writes_it(asker: TableAsker, index: bool) -> None:
    """With its index or without."""
    text = pd.DataFrame({"a": [1, 2], "b": [0.5, 1], "c": [1, 1]}).to_csv(index=index)
    reply = asker.post("/invocations/total", text.encode(), "text/csv; charset=utf-8")
    assert predictions(reply) == [2.5, 4.0]
    array = pd.DataFrame(NUMBERS).to_csv(index=index).encode()
    assert predictions(asker.post("/invocations/mean", array, "text/csv")) == [3.0, 3.0]


def test_a_function_of_fields_is_asked_once_per_row(asker: TableAsker) -> None:
    """A row's columns are its fields; `params` hold for all rows; one row gives a list of one."""
    body = {"dataframe_split": {"columns": ["text"], "data": [["ab"], ["abc"]]}, "params": {"weight": 2.0}}
    assert [found["score"] for found in predictions(invoke(asker, "judge", body))] == [4.0, 6.0]
    assert len(predictions(invoke(asker, "judge", {"inputs": ["one"]}))) == 1
    assert len(predictions(invoke(asker, "recommend", {"inputs": [[7, 3]]}))[0]) == 3


def test_params_are_the_other_fields_of_a_function_of_rows(asker: TableAsker) -> None:
    """As MLflow gives them to `predict(..., params=)`."""
    body = {"inputs": NUMBERS.tolist(), "params": {"factor": 10.0}}
    assert predictions(invoke(asker, "scaled", body)) == [90.0, 90.0]


def test_without_a_name_the_first_function_of_rows_is_asked(asker: TableAsker) -> None:
    """`/invocations` alone is what MLflow's clients know."""
    assert predictions(asker.post("/invocations", json.dumps({"inputs": [[1.0]]}).encode())) == [[1.0]]


def test_nan_is_taken_where_a_column_may_hold_it(asker: TableAsker) -> None:
    """NaN is what pandas writes for what is missing, which JSON has no word for; the log keeps such rows readably."""
    frame = pd.DataFrame({"x": [1.0, float("nan")], "n": [1, 2], "name": ["a", None], "tags": [["p"], []]})
    reply = invoke(asker, "describe", {"dataframe_split": frame.to_dict(orient="split")})
    assert json.loads(reply.body)["error_code"] == "INTERNAL_ERROR"  # the answer would hold NaN
    names = {"dataframe_records": [{"x": 1, "n": 1, "name": float("nan"), "tags": []}]}
    reply = invoke(asker, "describe", names)
    assert predictions(reply)[0]["name"] is None
    prediction_id = dict(reply.headers)[b"x-penstock-prediction-id"].decode()
    assert find_prediction(asker.home, "movies", prediction_id) is not None


def test_the_pages_that_clients_wait_for_are_there(asker: TableAsker) -> None:
    """`/ping`, `/health` and `/version` answer 200."""
    for path in ("/ping", "/health", "/version"):
        assert asker.get(path).status == 200
    assert asker.get("/ping").body == b"\n"


def test_a_failing_function_is_an_internal_error(asker: TableAsker) -> None:
    """Never a 400: the caller is not to blame; the message names the prediction, not the caller's values."""
    reply = invoke(asker, "broken", {"inputs": [1]})
    assert reply.status == 500
    assert b"INTERNAL_ERROR" in reply.body
    assert b"secret" not in reply.body


BROKEN = {
    "not json": (b"{", "not valid JSON"),
    "a list": (b"[[1]]", "a JSON list"),
    "no form": (b'{"data": []}', "0 of the known forms"),
    "two forms": (b'{"inputs": [1], "instances": [1]}', "2 of the known forms"),
    "a repeated key": (b'{"inputs": [1], "inputs": [2]}', "more than once"),
    "a repeated key within": (b'{"dataframe_split": {"data": [[1, 2, 3]], "data": [[1, 2, 3]]}}', "more than once"),
    "utf-16": ('{"inputs": [1]}'.encode("utf-16"), "not valid JSON"),
    "deep": (b'{"inputs":' + b"[" * 100 + b"]" * 100 + b"}", "nests deeper"),
    "huge integers": (b'{"inputs": [[1' + b"0" * 30 + b",1,1]]}", "beyond 64 bits"),
    "nul": (b'{"inputs": [["a\\u0000", 1, 1]]}', "NUL"),
    "ragged rows": (b'{"inputs": [[1, 2, 3], [1]]}', "Row 1 is not a list of 3"),
    "text for numbers": (b'{"inputs": [["a", "b", "c"]]}', "Expected `float`"),
    "too few columns": (b'{"inputs": [[1, 2]]}', "Expected 3 numbers, got 2"),
    "params of a wrong form": (b'{"inputs": [[1, 2, 3]], "params": 3}', "`params` is not an object"),
    "unknown params": (b'{"inputs": [[1, 2, 3]], "params": {"k": 3}}', "unknown field `k`"),
    "empty": (b'{"inputs": []}', "no rows"),
    "no data": (b'{"dataframe_split": {"columns": []}}', "no list of rows"),
    "split as a list": (b'{"dataframe_split": []}', "a JSON list"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_told_as_mlflow_tells_it(asker: TableAsker, what: str) -> None:
    """Fault 22: 400 with `error_code` and a message that says what was expected."""
    body, message = BROKEN[what]
    assert message in refused(asker.post("/invocations/mean", body))


def test_a_missing_column_is_named(asker: TableAsker) -> None:
    """In a frame the release's columns are looked for by name."""
    assert "'n' is missing" in refused(invoke(asker, "describe", {"dataframe_records": [{"x": 1.0}]}))
    assert "Row 1: " in refused(invoke(asker, "judge", {"dataframe_records": [{"text": "a"}, {"text": 3}]}))
    assert "CSV" in refused(asker.post("/invocations/total", b"a,b\n\xff", "text/csv"))


def test_too_many_rows_are_too_large(asker: TableAsker) -> None:
    """413, for rows and for questions one by one."""
    assert "more than 1000" in refused(invoke(asker, "mean", {"inputs": [[1.0, 2.0, 3.0]] * 1001}), 413)
    assert "more than 50" in refused(invoke(asker, "judge", {"inputs": ["a"] * 51}), 413)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abx0") | st.text(), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(
    form=st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs"]),
    value=_JSON,
    split=st.booleans(),
    function=st.sampled_from(["mean", "describe", "total", "judge", "recommend", "scaled"]),
)
def test_no_value_is_an_error_of_ours(asker: TableAsker, form: str, value: Any, split: bool, function: str) -> None:
    """Whatever stands in a form: an answer, or a 400 or 413 in MLflow's shape."""
    body = {form: {"columns": ["x", "n"], "data": value} if split else value}
    reply = asker.post(f"/invocations/{function}", json.dumps(body).encode())
    assert reply.status in {200, 400, 413} or b"INTERNAL_ERROR" in reply.body
    assert reply.status != 500 or function in {"describe", "total", "mean", "scaled"}  # NaN in, NaN out


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_csv_is_an_error_of_ours(asker: TableAsker, data: st.DataObject) -> None:
    """Bytes of any kind under `text/csv`."""
    body = bytearray(b"a,b,c\n1,2.5,3\n4,5,6\n")
    for _ in range(data.draw(st.integers(0, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    reply = asker.post("/invocations/total", bytes(body), "text/csv")
    assert reply.status in {200, 400, 413}, reply.body
