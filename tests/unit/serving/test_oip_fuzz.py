"""Whatever bytes come as an infer request, the reply is an answer or a refusal that says what was expected."""

import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))
from oip_program import COLUMNS, Asker, body_of, loaded_program, tensor
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply
from penstock.serving.protocols.oip.tensors import DATATYPES, NUMERIC, raw_of, tensor_of_raw

MODELS = ("recommend", "judge", "echo", "describe")
NAMES = st.sampled_from([*(name for name, _ in COLUMNS), "rows", "text", "user_id", "k", "weight", "\u202e", ""])
SIZES = st.integers(-2, 4) | st.sampled_from([2**31, 2**63, -(2**63), 2**70])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["[1]", "{}"])
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
PARAMETERS = st.dictionaries(st.sampled_from(["binary_data_size", "binary_data", "x"]), SIZES | SCALARS, max_size=2)
BOUNDED = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    home = tmp_path_factory.mktemp("fuzz")
    with loaded_program(home) as program:
        made = Asker(program, home, Limits(batch_rows=100, rows=1000))
        yield made
        made.close()


def check(reply: Reply) -> None:
    """Fail unless the reply is an answer whose parts agree, or a refusal with words."""
    if reply.status != 200:
        assert 400 <= reply.status < 500, reply.body
        assert msgspec.json.decode(reply.body)["error"]
        return
    length = int(dict(reply.headers).get(b"inference-header-content-length", len(reply.body)))
    raw = len(reply.body) - length
    for output in msgspec.json.decode(reply.body[:length])["outputs"]:
        if "data" in output:
            assert len(output["data"]) == math.prod(output["shape"])
        else:
            raw -= output["parameters"]["binary_data_size"]
    assert raw == 0


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, int | None]:
    """Return a body that is nearly right: right words, any values, raw data of any length."""
    tensors = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "name": NAMES,
                    "datatype": st.sampled_from([*DATATYPES, "BF16"]),
                    "shape": st.lists(SIZES, max_size=3),
                },
                optional={"data": ANYTHING, "parameters": PARAMETERS},
            ),
            max_size=4,
        )
    )
    rest: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "id": SCALARS,
                "parameters": st.dictionaries(st.just("binary_data_output"), SCALARS, max_size=1),
                "outputs": st.lists(
                    st.fixed_dictionaries({"name": NAMES}, optional={"parameters": PARAMETERS}), max_size=2
                ),
            },
        )
    )
    head = msgspec.json.encode({"inputs": tensors, **rest})
    if not draw(st.booleans()):
        return head, None
    length = draw(st.just(len(head)) | st.integers(0, len(head) + 9))
    return head + draw(st.binary(max_size=64)), length


@given(body=st.binary(max_size=200), length=st.none() | st.integers(0, 10**20), model=st.sampled_from(MODELS))
@BOUNDED
def test_any_bytes_are_answered_or_refused(asker: Asker, body: bytes, length: int | None, model: str) -> None:
    """Fault 22: never 5xx, never a hang."""
    check(asker.infer(model, body, length))


@given(request=requests(), model=st.sampled_from(MODELS))
@BOUNDED
def test_nearly_right_requests_are_answered_or_refused(
    asker: Asker, request: tuple[bytes, int | None], model: str
) -> None:
    """Fault 22: any value in the place of a right one."""
    check(asker.infer(model, *request))


def right_requests() -> list[tuple[str, bytes, int | None]]:
    """Return requests that are answered: model, body and length of the JSON."""
    texts = b"\x01\0\0\0a\x02\0\0\0\xc3\xa4"
    binary = [
        ("echo", [tensor("rows", "FP32", [2, 2], binary_data_size=16)], np.ones(4, "<f4").tobytes()),
        ("judge", [tensor("text", "BYTES", [2], binary_data_size=len(texts))], texts),
    ]
    plain = [
        ("recommend", [tensor("user_id", "INT64", [2], [1, 2]), tensor("k", "INT8", [2], [1, 2])]),
        ("judge", [tensor("text", "BYTES", [1], ["a"]), tensor("tags", "BYTES", [1], ['["b"]'])]),
        (
            "describe",
            [
                tensor("x", "FP64", [1], [0.5]),
                tensor("n", "INT32", [1], [1]),
                tensor("name", "BYTES", [1], ["a"]),
                tensor("tags", "BYTES", [1], ["[]"]),
            ],
        ),
        ("echo", [tensor("rows", "FP64", [2, 2], [[1.5, 2.5], [3.5, -4e3]])]),
    ]
    found: list[tuple[str, bytes, int | None]] = [(model, body_of(*tensors, id="i"), None) for model, tensors in plain]
    for model, tensors, raw in binary:
        head = body_of(*tensors, parameters={"binary_data_output": True})
        found.append((model, head + raw, len(head)))
    return found


@pytest.mark.parametrize(("model", "body", "length"), right_requests())
def test_the_requests_that_are_changed_below_are_right(
    asker: Asker, model: str, body: bytes, length: int | None
) -> None:
    """S1: as they are they are answered, so a changed byte reaches far."""
    assert asker.infer(model, body, length).status == 200


@given(
    request=st.sampled_from(right_requests()),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=2), st.integers(0, 2)), max_size=3),
    shift=st.integers(-2, 2) | st.just(0),
)
@settings(BOUNDED, max_examples=800)
def test_right_requests_with_changed_bytes_are_answered_or_refused(
    asker: Asker, request: tuple[str, bytes, int | None], edits: list[tuple[float, bytes, int]], shift: int
) -> None:
    """Fault 22: bytes lost, added and changed anywhere, lengths that are a little wrong."""
    model, body, length = request
    for place, new, lost in edits:
        at = int(place * len(body))
        body = body[:at] + new + body[at + lost :]
    check(asker.infer(model, body, None if length is None else length + shift))


@given(
    datatype=st.sampled_from(DATATYPES),
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    raw=st.binary(max_size=64),
    model=st.sampled_from(MODELS),
    as_rows=st.booleans(),
)
@BOUNDED
def test_any_raw_tensor_is_answered_or_refused(
    asker: Asker, datatype: str, shape: list[int], raw: bytes, model: str, as_rows: bool
) -> None:
    """Fault 22: every datatype with bytes of any length; NaN and infinities too."""
    if as_rows and datatype != "BYTES":
        count = math.prod(shape) * NUMERIC[datatype].itemsize
        raw = (raw * (count // max(len(raw), 1) + 1))[:count]
    name = {"recommend": "user_id", "judge": "text", "echo": "rows", "describe": "x"}[model]
    given_ = tensor(name, datatype, shape, binary_data_size=len(raw))
    head = body_of(given_, parameters={"binary_data_output": True})
    check(asker.infer(model, head + raw, len(head)))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_raw_tensors_come_back_bit_for_bit(data: st.DataObject) -> None:
    """S1: reading and writing loses nothing, not even the payload of a NaN."""
    datatype = data.draw(st.sampled_from(DATATYPES))
    if datatype == "BYTES":
        items = data.draw(st.lists(st.binary(max_size=9), max_size=5))
        raw, count = b"".join(struct.pack("<I", len(item)) + item for item in items), len(items)
    else:
        count = data.draw(st.integers(0, 9))
        size = count * NUMERIC[datatype].itemsize
        raw = data.draw(st.binary(min_size=size, max_size=size))
        raw = bytes(byte & 1 for byte in raw) if datatype == "BOOL" else raw
    found = tensor_of_raw("x", datatype, (count,), memoryview(raw))
    assert raw_of(datatype, found.values) == raw


@given(rows=st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2), min_size=1))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_json_and_binary_tensors_give_the_same_answers(asker: Asker, rows: list[list[float]]) -> None:
    """S1: the form of a request changes nothing."""
    array = np.array(rows)
    head = body_of(tensor("rows", "FP64", array.shape, binary_data_size=array.nbytes))
    raw = asker.infer("echo", head + array.tobytes(), len(head))
    told = asker.infer("echo", body_of(tensor("rows", "FP64", array.shape, rows)))
    assert msgspec.json.decode(raw.body)["outputs"] == msgspec.json.decode(told.body)["outputs"]
    assert msgspec.json.decode(told.body)["outputs"][0]["data"] == array.ravel().tolist()
