"""The Open Inference Protocol over HTTP: what models tell of themselves, and what each form of request is answered."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from oip_program import Asker, body_of, loaded_program, outputs, refused, tensor, told
from penstock.serving.limits import Limits
from penstock.serving.messages import Request
from penstock.serving.predictions.reading import find_prediction


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    home = tmp_path_factory.mktemp("oip")
    with loaded_program(home) as program:
        made = Asker(program, home, Limits(batch_rows=50, rows=1000))
        yield made
        made.close()


def test_the_server_tells_its_name_and_extensions(asker: Asker) -> None:
    """S1: a client learns what this server can do."""
    found = told(asker.get("/v2"))
    assert found["name"] == "penstock"
    assert "binary_tensor_data" in found["extensions"]
    assert told(asker.get("/v2/health/live")) == {"live": True}
    assert told(asker.get("/v2/health/ready")) == {"ready": True}


def test_a_model_of_fields_tells_an_input_for_each(asker: Asker) -> None:
    """S1: types and defaults of a function are the model's inputs."""
    found = told(asker.get("/v2/models/judge/versions/3"))
    assert (found["name"], found["versions"], found["platform"]) == ("judge", ["3"], "penstock")
    inputs = {item["name"]: (item["datatype"], item["shape"], item.get("parameters", {})) for item in found["inputs"]}
    assert inputs == {
        "text": ("BYTES", [-1], {"content_type": "text"}),
        "weight": ("FP64", [-1], {"optional": True}),
        "loud": ("BOOL", [-1], {"optional": True}),
        "tags": ("BYTES", [-1], {"content_type": "json", "optional": True}),
        "day": ("BYTES", [-1], {"content_type": "text", "optional": True}),
    }
    assert [(item["name"], item["datatype"]) for item in found["outputs"]] == [
        ("label", "BYTES"),
        ("score", "FP64"),
        ("reason", "BYTES"),
    ]


def test_a_model_of_rows_tells_its_columns(asker: Asker) -> None:
    """S1: an array is one input, a frame an input per released column."""
    assert told(asker.get("/v2/models/mean"))["inputs"] == [{"name": "rows", "datatype": "FP64", "shape": [-1, 3]}]
    inputs = told(asker.get("/v2/models/describe"))["inputs"]
    assert [(item["name"], item["datatype"]) for item in inputs] == [
        ("x", "FP64"),
        ("n", "INT64"),
        ("name", "BYTES"),
        ("tags", "BYTES"),
    ]


def test_an_output_that_no_annotation_tells_is_learned_from_an_answer(asker: Asker) -> None:
    """S1: type and number of dimensions of an array are told once it was seen."""
    asker.infer("echo", body_of(tensor("rows", "FP32", [1, 2], [1.0, 2.0])))
    assert told(asker.get("/v2/models/echo"))["outputs"] == [{"name": "answer", "datatype": "FP64", "shape": [-1, -1]}]


def test_the_config_is_what_tritons_clients_read(asker: Asker) -> None:
    """S1: no batch dimension is hidden, because shapes are told whole."""
    found = told(asker.get("/v2/models/recommend/config"))
    assert found["max_batch_size"] == 0
    assert found["input"] == [
        {"name": "user_id", "data_type": "TYPE_INT64", "dims": [-1], "optional": False},
        {"name": "k", "data_type": "TYPE_INT64", "dims": [-1], "optional": True},
    ]
    assert found["output"] == [{"name": "answer", "data_type": "TYPE_STRING", "dims": [-1]}]


def test_the_repository_lists_every_model(asker: Asker) -> None:
    """S1: Triton's index names each serve function with the release's number."""
    found = msgspec.json.decode(asker.send(Request("POST", "/v2/repository/index", {})).body)
    assert {"name": "mean", "version": "3", "state": "READY", "reason": ""} in found


def test_each_element_asks_one_question(asker: Asker) -> None:
    """S1: n elements are n questions; fields left out take their defaults; what is nested is JSON text."""
    reply = asker.infer("recommend", body_of(tensor("user_id", "INT64", [2], [7, 8])))
    assert [msgspec.json.decode(text) for text in outputs(reply)["answer"]] == [
        [
            {"movie_id": 0, "title": "Movie 0", "score": float(user)},
            {"movie_id": 1, "title": "Movie 1", "score": user + 0.1},
        ]
        for user in (7, 8)
    ]


def test_the_reply_names_the_prediction_and_echoes_the_request_id(asker: Asker) -> None:
    """S4: the answer is found again by its id."""
    reply = asker.infer("recommend", body_of(tensor("user_id", "INT32", [1, 1], [[7]]), id="mine \u00e4"))
    body = told(reply)
    assert (body["model_name"], body["model_version"], body["id"]) == ("recommend", "3", "mine \u00e4")
    assert body["parameters"]["release"] == "movies@3"
    assert dict(reply.headers)[b"x-penstock-prediction-id"].decode() == body["parameters"]["prediction_id"]


def test_fields_of_every_kind_arrive(asker: Asker) -> None:
    """S1: text, numbers, truth values, dates and JSON become the types of the function."""
    reply = asker.infer(
        "judge",
        body_of(
            tensor("text", "BYTES", [2], ["ab", "\u00fcber"]),
            tensor("weight", "FP32", [2], [0.5, 2]),
            tensor("loud", "BOOL", [2], [True, False]),
            tensor("tags", "BYTES", [2], ['["a","b"]', "[]"]),
            tensor("day", "BYTES", [2], ["2026-01-02", "2026-01-03"]),
        ),
    )
    assert outputs(reply) == {
        "label": ["AB", "\u00fcber"],
        "score": [1.0, 8.0],
        "reason": ['"2026-01-02a,b"', '"2026-01-03"'],
    }


def test_a_value_that_may_be_missing_is_json_always(asker: Asker) -> None:
    """S1: the datatype of an output does not change with the answer."""
    reply = asker.infer("judge", body_of(tensor("text", "BYTES", [1], ["a"])))
    assert [(out["datatype"], out["data"]) for out in told(reply)["outputs"]] == [
        ("BYTES", ["a"]),
        ("FP64", [1.0]),
        ("BYTES", ["null"]),
    ]


@pytest.mark.parametrize("datatype", ["INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64"])
def test_rows_of_any_whole_number_are_taken(asker: Asker, datatype: str) -> None:
    """S1: numbers are converted where no digit is lost."""
    reply = asker.infer("mean", body_of(tensor("x", datatype, [2, 3], [[1, 2, 3], [4, 5, 6]])))
    assert outputs(reply) == {"answer": [2.0, 5.0]}


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_rows_of_floats_are_taken_flat_and_nested(asker: Asker, datatype: str, is_nested: bool) -> None:
    """S1: data may be flat or nested as the shape."""
    data = [[0.5, 1.0, 1.5]] if is_nested else [0.5, 1.0, 1.5]
    assert outputs(asker.infer("mean", body_of(tensor("rows", datatype, [1, 3], data)))) == {"answer": [1.0]}


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT16", "INT64", "UINT64", "FP16", "FP32", "FP64"])
def test_binary_rows_come_back_binary(asker: Asker, datatype: str) -> None:
    """S1: raw tensors in and out, bit for bit."""
    dtypes = {"BOOL": "?", "INT8": "i1", "UINT16": "<u2", "INT64": "<i8", "UINT64": "<u8"}
    dtype = dtypes.get(datatype) or f"<f{int(datatype[2:]) // 8}"
    rows = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype)
    head = body_of(
        tensor("rows", datatype, rows.shape, binary_data_size=rows.nbytes), parameters={"binary_data_output": True}
    )
    reply = asker.infer("echo", head + rows.tobytes(), len(head))
    assert reply.kind == b"application/octet-stream"
    length = int(dict(reply.headers)[b"inference-header-content-length"])
    (output,) = msgspec.json.decode(reply.body[:length])["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP64", [2, 3])
    assert output["parameters"]["binary_data_size"] == len(reply.body) - length == 48
    assert np.array_equal(np.frombuffer(reply.body[length:]).reshape(2, 3), rows.astype(float))


def test_a_nan_that_the_function_cannot_answer_is_the_callers(asker: Asker) -> None:
    """Fault 22: raw rows may hold NaN; an answer that cannot be told is refused by the input's name, never null."""
    rows = np.array([[np.nan, 1.0, 2.0]])
    head = body_of(tensor("x", "FP64", [1, 3], binary_data_size=24))
    assert "Input 'x' holds NaN" in refused(asker.infer("mean", head + rows.tobytes(), len(head)))
    assert asker.infer("echo", b'{"inputs":[{"name":"r","shape":[1,1],"datatype":"FP64","data":[NaN]}]}').status == 400


def test_frames_come_by_column(asker: Asker) -> None:
    """S1: an input per released column, in any order, and a frame's columns come back as outputs."""
    reply = asker.infer(
        "describe",
        body_of(
            tensor("tags", "BYTES", [2], ['["p"]', "[]"]),
            tensor("name", "BYTES", [2, 1], ["a", "b"]),
            tensor("n", "INT16", [2], [1, 2]),
            tensor("x", "FP32", [2], [0.5, 1.5]),
        ),
    )
    assert [(out["name"], out["datatype"], out["data"]) for out in told(reply)["outputs"]] == [
        ("total", "FP64", [1.5, 3.5]),
        ("name", "BYTES", ["a", "b"]),
        ("tags", "BYTES", ['["p"]', "[]"]),
        ("big", "BOOL", [False, True]),
    ]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT64"])
def test_a_frame_of_numbers_also_comes_as_one_tensor(asker: Asker, count: int, datatype: str) -> None:
    """S1: one 2-D tensor in the released order of columns gives the answers that columns give."""
    whole = asker.infer("total", body_of(tensor("rows", datatype, [count, 3], [1, 2, 3] * count)))
    columns = (tensor(name, datatype, [count], [value] * count) for name, value in zip("abc", (1, 2, 3), strict=True))
    assert outputs(whole) == outputs(asker.infer("total", body_of(*columns))) == {"answer": [6.0] * count}


def test_a_field_beside_rows_holds_for_all_of_them(asker: Asker) -> None:
    """S1: a function of rows may have fields of its own."""
    rows = tensor("rows", "FP64", [2, 3], [1, 1, 1, 2, 2, 2])
    assert outputs(asker.infer("scaled", body_of(rows))) == {"answer": [6.0, 12.0]}
    assert outputs(asker.infer("scaled", body_of(rows, tensor("factor", "FP64", [1], [10])))) == {
        "answer": [30.0, 60.0]
    }
    assert "one element" in refused(asker.infer("scaled", body_of(rows, tensor("factor", "FP64", [2], [1, 2]))))


def test_only_the_outputs_that_are_wanted_are_told(asker: Asker) -> None:
    """S1: in the order of the request, each in the form it asks for."""
    ask = body_of(
        tensor("text", "BYTES", [1], ["abc"]),
        outputs=[{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}],
    )
    reply = asker.infer("judge", ask)
    length = int(dict(reply.headers)[b"inference-header-content-length"])
    score, label = msgspec.json.decode(reply.body[:length])["outputs"]
    assert (score["name"], score["parameters"], label["data"]) == ("score", {"binary_data_size": 8}, ["abc"])
    assert np.frombuffer(reply.body[length:])[0] == 3.0
    wrong = body_of(tensor("text", "BYTES", [1], ["abc"]), outputs=[{"name": "scores"}])
    assert "no output 'scores'; it has: 'label', 'score', 'reason'" in refused(asker.infer("judge", wrong))


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ({"parameters": {"sequence_id": 7}}, "remember nothing"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 3}}]}, "classification"),
        ({"outputs": [{"name": "label"}, {"name": "label"}]}, "requested twice"),
    ],
)
def test_what_this_server_does_not_have_is_refused_not_ignored(asker: Asker, rest: Any, says: str) -> None:
    """S1: a request never means something else here than at another server."""
    assert says in refused(asker.infer("judge", body_of(tensor("text", "BYTES", [1], ["a"]), **rest)))


def test_a_failed_function_answers_in_the_protocols_shape(asker: Asker) -> None:
    """S5: the caller learns that it failed, and nothing of the values."""
    reply = asker.infer("broken", body_of(tensor("n", "INT64", [1], [1])))
    assert "failed" in refused(reply, 500)
    assert b"secret" not in reply.body
    assert b"x-penstock-prediction-id" in dict(reply.headers)


def test_a_late_answer_is_the_fallbacks_and_says_so(asker: Asker) -> None:
    """S5: the reply is marked."""
    body = told(asker.infer("late", body_of(tensor("n", "INT64", [1], [2000]))))
    assert body["parameters"]["fallback"] is True
    assert body["outputs"][0]["data"] == ["fallback"]


def test_what_was_asked_is_kept(asker: Asker) -> None:
    """S4: rows are found in the log as they were sent, whatever their form."""
    rows = np.arange(6.0).reshape(2, 3)
    head = body_of(tensor("rows", "FP64", [2, 3], binary_data_size=48))
    answered = told(asker.infer("mean", head + rows.tobytes(), len(head)))
    found = find_prediction(asker.home, "movies", answered["parameters"]["prediction_id"] + "-1")
    assert (found.serve, found.protocol, found.answer) == ("mean", "oip", 4.0)
    assert found.fields == {"0": 3.0, "1": 4.0, "2": 5.0}


def test_the_api_document_shows_a_request_that_is_answered(asker: Asker) -> None:
    """S1: what `/openapi.json` shows for a model can be sent as it is."""
    for name in ("recommend", "mean", "judge", "total"):
        operation = asker.route(f"/v2/models/{name}/infer").operation
        assert operation is not None
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        told(asker.infer(name, msgspec.json.encode(schema["examples"][0])))


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("count", [2, 900])
def test_large_requests_are_read_as_small_ones(asker: Asker, is_nested: bool, count: int) -> None:
    """S1: how many rows there are changes nothing but their number."""
    rows = np.random.default_rng(0).normal(size=(count, 3))
    data = rows.tolist() if is_nested else rows.ravel().tolist()
    found = outputs(asker.infer("mean", body_of(tensor("rows", "FP64", rows.shape, data))))
    assert found["answer"] == rows.mean(axis=1).tolist()


def test_text_with_escapes_arrives_as_it_was(asker: Asker) -> None:
    """Fault 22: quotes, line ends and emoji within texts are no repeated keys."""
    texts = ['say "data"', "line\nend\\", "\u00e4\U0001f3ac", ""]
    assert outputs(asker.infer("judge", body_of(tensor("text", "BYTES", [4], texts))))["label"] == texts
    quoted = body_of(
        tensor("text", "BYTES", [2], ["a", "b"]), parameters={"x": "y", "z": 1}, outputs=[{"name": "label"}]
    )
    assert outputs(asker.infer("judge", quoted)) == {"label": ["a", "b"]}
