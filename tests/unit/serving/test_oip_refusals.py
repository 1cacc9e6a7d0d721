"""What is no infer request is refused in the protocol's own shape, saying what was found and what was expected."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from oip_program import Asker, body_of, loaded_program, refused, tensor
from penstock.serving.limits import Limits
from penstock.serving.messages import Request


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    home = tmp_path_factory.mktemp("oip")
    with loaded_program(home) as program:
        made = Asker(program, home, Limits(batch_rows=50, rows=1000))
        yield made
        made.close()


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v2/models/nothing", 404, "no model 'nothing'; this server has: recommend, judge, echo"),
        ("/v2/models/nothing/infer", 404, "no model 'nothing'"),
        ("/v2/models/mean/versions/9/infer", 404, "no version '9'; it has '3'"),
        ("/v2/models/mean/stats", 404, "nothing at"),
        ("/v2/repository/models/mean/load", 400, "not loaded"),
        ("/v2/\u202e%00", 404, "nothing at"),
    ],
)
def test_what_is_not_there_is_said(asker: Asker, path: str, status: int, says: str) -> None:
    """Unknown names are 404 and name what there is."""
    assert says in refused(asker.send(Request("POST", path, {})), status)


@pytest.mark.parametrize(
    ("model", "tensors", "says"),
    [
        ("recommend", [], "Input 'user_id' of model 'recommend' is missing"),
        ("recommend", [tensor("user", "INT64", [1], [1])], "no input 'user'; it has: 'user_id', 'k'"),
        ("recommend", [tensor("user_id", "FP64", [1], [1])], "is FP64; expected INT64"),
        ("recommend", [tensor("user_id", "BYTES", [1], ["1"])], "is BYTES; expected INT64"),
        ("recommend", [tensor("user_id", "INT64", [1, 2], [1, 2])], "expected [n] or [n, 1]"),
        ("recommend", [tensor("user_id", "INT64", [0], [])], "no elements"),
        ("recommend", [tensor("user_id", "INT64", [2], [1])], "needs 2 elements, got 1"),
        ("recommend", [tensor("user_id", "INT64", [-1], [1])], "negative"),
        ("recommend", [tensor("user_id", "INT64", [2**40, 0], [])], "beyond 2^31"),
        ("recommend", [tensor("user_id", "INT64", [2**30, 2**30], [1])], "more than 2^31"),
        ("recommend", [tensor("user_id", "INT64", [1] * 9, [1])], "9 dimensions"),
        ("recommend", [tensor("user_id", "INT128", [1], [1])], "datatype 'INT128'; expected one of BOOL"),
        ("recommend", [tensor("user_id", "INT64", [1], ["1"])], "Expected `int`, got `str`"),
        ("recommend", [tensor("user_id", "INT64", [1], [2**63])], "beyond INT64"),
        ("recommend", [tensor("user_id", "INT8", [1], [128])], "beyond INT8"),
        ("recommend", [tensor("user_id", "UINT8", [1], [-1])], "beyond UINT8"),
        ("recommend", [tensor("user_id", "INT64", [1], [1]), tensor("k", "INT64", [2], [1, 2])], "unequal numbers"),
        ("recommend", [tensor("user_id", "INT64", [1], [1])] * 2, "given twice"),
        ("judge", [tensor("text", "BYTES", [1], ["a\x00"])], "NUL"),
        ("judge", [tensor("text", "BYTES", [1], ["a"]), tensor("tags", "BYTES", [1], ["{"])], "is not JSON"),
        ("judge", [tensor("text", "BYTES", [1], ["a"]), tensor("tags", "BYTES", [1], ["[1]"])], "tags"),
        ("judge", [tensor("text", "BYTES", [1], ["a"]), tensor("tags", "BYTES", [1], ["[" * 99])], "nests deeper"),
        ("judge", [tensor("text", "BYTES", [1], ["a"]), tensor("weight", "INT64", [1], [2**53 + 1])], "beyond 53 bits"),
        ("mean", [tensor("rows", "FP64", [1, 2], [1, 2])], "rows of 2 numbers, the released rows have 3"),
        ("mean", [tensor("rows", "FP64", [3], [1, 2, 3])], "of shape [n, 3]"),
        ("mean", [tensor("rows", "BYTES", [1, 3], ["1", "2", "3"])], "of shape [n, 3]"),
        ("mean", [tensor("rows", "INT64", [1, 3], [2**53 + 1, 0, 0])], "53 bits"),
        ("mean", [tensor("rows", "FP32", [1, 3], [1e300, 0, 0])], "beyond FP32"),
        ("mean", [tensor("rows", "FP64", [2, 3], [[1, 2, 3], [1, 2]])], "nested as the shape"),
        ("mean", [tensor("rows", "FP64", [1, 3])], "neither data nor binary_data_size"),
        ("mean", [tensor("rows", "FP64", [1, 3], [1, 2, 3], binary_data_size=24)], "both data and binary_data_size"),
        ("mean", [tensor("rows", "FP64", [1, 3], shared_memory_region="x")], "shared_memory_region"),
        ("describe", [tensor("x", "FP64", [1], [1])], "Input 'n' of model 'describe' is missing"),
        ("total", [tensor(name, "BYTES", [1], ["1"]) for name in "abc"], "expected FP64, got BYTES"),
        ("total", [tensor(name, "FP64", [i + 1], [1] * (i + 1)) for i, name in enumerate("abc")], "unequal numbers"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(asker: Asker, model: str, tensors: list[Any], says: str) -> None:
    """Fault 22: 422 says what was found and what was expected; nothing is stored as something else."""
    assert says in refused(asker.infer(model, body_of(*tensors)))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "cannot be read"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"inputs": 1}', "Expected `array`"),
        (b'{"inputs":[], "inputz":[]}', "unknown field `inputz`"),
        (b'{"inputs":[{"name":"\xff","shape":[1],"datatype":"INT64","data":[1]}]}', "UTF-8"),
        (b'{"inputs":[{"name":"a","shape":[1],"datatype":"INT64","data":' + b"[" * 100_000 + b"}]}", "too deep"),
        (b'{"inputs":[{"name":"a","shape":[true],"datatype":"INT64","data":[1]}]}', "Expected `int`, got `bool`"),
        (b'{"inputs":[],"parameters":{"a":{"b":1}}}', "parameters"),
    ],
)
def test_a_body_that_is_no_infer_request_is_refused(asker: Asker, body: bytes, says: str) -> None:
    """Fault 22: 400 says what it was read as."""
    assert says in refused(asker.infer("recommend", body), 400)


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [(b'"\xa3"', 422, "not UTF-8"), (b'"\\ud800\\u0041"', 400, "surrogate"), (b"1e400", 422, "out of range")],
)
def test_text_that_is_none_is_refused(asker: Asker, data: bytes, status: int, says: str) -> None:
    """Fault 22: the elements of a tensor are read as carefully as the rest of the JSON."""
    body = b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":[' + data + b"]}]}"
    assert says in refused(asker.infer("judge", body), status)


def test_a_repeated_key_is_refused(asker: Asker) -> None:
    """Fault 22: of two values neither is silently taken."""
    body = b'{"inputs":[{"name":"user_id","shape":[1],"datatype":"INT64","data":[1],"data":[2]}]}'
    twice = b'{"id":"a","inputs":[{"name":"user_id","shape":[1],"datatype":"INT64","data":[1]}],"id":"b"}'
    assert "'id' is given more than once" in refused(asker.infer("recommend", twice))
    quiet = twice.replace(b'"id":"b"', b'"parameters":{"x":1,"x":"y"}')
    assert "'x' is given more than once" in refused(asker.infer("recommend", quiet))
    assert "given more than once" in refused(asker.infer("recommend", body))
    assert "given more than once" in refused(asker.infer("recommend", body.replace(b'"data":[2]', b'"\\u0064ata":[2]')))


@pytest.mark.parametrize("length", [0, 10**6, 10**14])
def test_a_header_length_that_lies_is_refused(asker: Asker, length: int) -> None:
    """Fault 22: the JSON ends within the body."""
    body = body_of(tensor("user_id", "INT64", [1], [1]))
    assert "Inference-Header-Content-Length" in refused(asker.infer("recommend", body, length), 400)


@pytest.mark.parametrize(
    ("sizes", "raw", "says"),
    [
        ((24,), b"\0" * 23, "says 24 bytes of binary data, 23 are left"),
        ((24,), b"\0" * 25, "1 bytes of binary data belong to no tensor"),
        ((16,), b"\0" * 16, "needs 24 bytes, got 16"),
        ((-24,), b"\0" * 24, "not a number of bytes"),
        ((True,), b"\0", "not a number of bytes"),
        (("24",), b"\0" * 24, "not a number of bytes"),
        ((2**62,), b"\0" * 24, "are left"),
    ],
)
def test_a_size_that_lies_is_refused(asker: Asker, sizes: tuple[Any, ...], raw: bytes, says: str) -> None:
    """Fault 22: sizes agree to the byte with what was sent."""
    head = body_of(*(tensor("rows", "FP64", [1, 3], binary_data_size=size) for size in sizes))
    assert says in refused(asker.infer("mean", head + raw, len(head)))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\xff\xff\xff\xffab", "ends beyond"),
        (b"\x01\x00\x00\x00abc", "2 bytes after"),
        (b"\x01\x00", "too short"),
        (b"\x02\x00\x00\x00\xff\xfe", "not UTF-8"),
    ],
)
def test_a_text_whose_length_lies_is_refused(asker: Asker, raw: bytes, says: str) -> None:
    """Fault 22: the four bytes before a text never point beyond it."""
    head = body_of(tensor("text", "BYTES", [1], binary_data_size=len(raw)))
    assert says in refused(asker.infer("judge", head + raw, len(head)))


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ([tensor("rows", "FP64", [900, 3], [[1.0, 2.0, 3.0]] * 899 + [[1.0, 2.0]])], "nested as the shape"),
        ([tensor("rows", "FP64", [900, 3], [1.5] * 2699)], "needs 2700 elements, got 2699"),
        ([tensor("rows", "FP64", [900, 3], [[1.5] * 900] * 3)], "nested as the shape [900, 3]"),
        ([tensor("rows", "FP64", [900, 3], [1.5] * 2699 + ["x"])], "Expected `float`, got `str`"),
        ([tensor("rows", "INT64", [900, 3], [1] * 2699 + [2**64])], "beyond INT64"),
        ([tensor("rows", "FP64", [-900, 3], [1.5] * 2700)], "negative"),
    ],
)
def test_large_requests_are_refused_as_small_ones(asker: Asker, tensors: list[Any], says: str) -> None:
    """Fault 22: whatever the size, the refusal says what was found."""
    assert says in refused(asker.infer("mean", body_of(*tensors)))


def test_more_texts_than_can_be_read_at_once_are_refused(asker: Asker) -> None:
    """Fault 23: eight million empty texts are as many bytes as a body may have, and seconds of work."""
    raw = bytes(4 * 1_000_001)
    head = body_of(tensor("text", "BYTES", [1_000_001], binary_data_size=len(raw)))
    assert "or 1000000 BYTES elements" in refused(asker.infer("judge", head + raw, len(head)), 413)
    inputs = body_of(*[tensor("text", "FP64", [1], [0])] * 20_001)
    assert "more than 20000 inputs" in refused(asker.infer("judge", inputs), 413)
    many = body_of(tensor("text", "BYTES", [1], ["\n"]))[:-4] + b',"a"' * 500_001 + b"]}]}"
    assert refused(asker.infer("judge", many.replace(b"[1]", b"[500002]")), 413)


def test_json_of_too_many_values_is_refused_before_it_is_read(asker: Asker) -> None:
    """Fault 23: what would take many times its size in memory belongs in binary form."""
    body = b'{"inputs":[{"name":"r","datatype":"INT64","shape":[1],"data":[' + b"0," * 4_000_001 + b"0]}]}"
    assert "more than 4000000 values" in refused(asker.infer("mean", body), 413)


def test_more_questions_than_the_bounds_allow_are_refused(asker: Asker) -> None:
    """Fault 23: 413 before anything is asked."""
    many = body_of(tensor("user_id", "INT64", [51], list(range(51))))
    assert "51 rows are more than 50" in refused(asker.infer("recommend", many), 413)
    rows = body_of(tensor("rows", "INT64", [1001, 3], [0] * 3003))
    assert "1001 rows are more than 1000" in refused(asker.infer("mean", rows), 413)
