"""What `penstock serve` tells a person in a terminal and a program in a pipe, and its options to be watched."""

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import tritonclient.grpc
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import make_shop
from otlp_collector import Collector
from project_folder import COMMAND, Project
from serve_command import serving
from serving_load import wait_until


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_shop(tmp_path_factory.mktemp("serve-command") / "shop")


def ask(url: str, **headers: str) -> dict[str, Any]:
    reply = httpx.post(url + "/shop/price", json={"item": "tea"}, headers=headers)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def end(process: "subprocess.Popen[str]") -> tuple[str, str]:
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)
    assert process.returncode == 0
    return said


def test_a_terminal_is_told_each_stage_in_words(shop: Project) -> None:
    """What is loaded, that its examples are answered, where it answers; events are readable and no JSON is mixed in."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--workers", "2"],
        cwd=shop.root, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower,
    ) as process:  # fmt: skip
        os.close(follower)
        said = b""
        while b"/metrics" not in said:
            said += os.read(leader, 4096)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # how a terminal says that nobody holds its other end
            while True:
                said += os.read(leader, 4096)
        assert process.wait(60) == 0
    os.close(leader)
    text = said.decode()
    stages = ["Loading shop@1 ...", "Answering the examples of shop@1 ...", "Serving shop@1 on http://127.0.0.1:"]
    places = [text.find(stage) for stage in stages]
    assert -1 not in places, text
    assert places == sorted(places)
    assert "release_served" in text
    assert '"event"' not in text
    assert "Stopped; what was under way was answered." in text


def test_a_pipe_is_told_events_as_json_and_the_addresses_once(shop: Project) -> None:
    """Standard output holds one line; each line of standard error is an event with a time."""
    with serving(shop, stderr=subprocess.PIPE) as (process, ready):
        assert ready["grpc"] is None
        out, error = end(process)
    assert out == ""
    events = [json.loads(line) for line in error.splitlines()]
    assert {"release_served", "server_stopped"} <= {event["event"] for event in events}
    assert all(event["timestamp"].endswith("Z") for event in events)


def test_requests_are_listed_in_an_access_log_when_it_is_asked_for(shop: Project, tmp_path: Path) -> None:
    """A line per request, of every worker in one file, with the id under which the prediction is found."""
    path = tmp_path / "access.log"
    with serving(shop, "--access-log", str(path), "--workers", "2") as (_, ready):
        asked = [ask(ready["url"], **{"x-penstock-consumer": "till"})["prediction_id"] for _ in range(20)]
        assert httpx.get(ready["url"] + "/tea").status_code == 404
        wait_until(lambda: path.read_text().count("\n") >= 21, "every request is listed")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["prediction_id"] for line in lines if line["path"] == "/shop/price") == sorted(asked)
    assert {line["consumer"] for line in lines if line["status"] == 200} == {"till"}
    assert [line["path"] for line in lines if line["status"] == 404] == [""]
    assert "tea" not in path.read_text()


def test_what_is_no_request_is_listed_too(shop: Project, tmp_path: Path) -> None:
    """Someone who sends nonsense is seen: a line with the status, without a word of what was sent."""
    path = tmp_path / "access.log"
    with serving(shop, "--access-log", str(path)) as (_, ready):
        host, port = ready["url"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as caller:
            caller.sendall(b"nonsense\r\n\r\n")
            assert b" 400 " in caller.recv(4096)
        wait_until(lambda: path.exists() and path.read_text().count("\n") >= 1, "it is listed")
    (line,) = [json.loads(text) for text in path.read_text().splitlines()]
    assert (line["status"], line["path"], line["method"]) == (400, "", "")


def test_the_access_log_can_go_to_standard_output(shop: Project) -> None:
    """As containers like it; what the server says of itself stays on standard error."""
    with serving(shop, "--access-log", "-", stderr=subprocess.PIPE) as (process, ready):
        prediction_id = ask(ready["url"])["prediction_id"]
        out, _ = end(process)
    assert [json.loads(line)["prediction_id"] for line in out.splitlines()] == [prediction_id]


def test_grpc_answers_beside_http(shop: Project) -> None:
    """Two workers share the port that was taken; the unmodified client finds the model."""
    with serving(shop, "--grpc-port", "0", "--workers", "2", stderr=subprocess.PIPE) as (_, ready):
        with tritonclient.grpc.InferenceServerClient(ready["grpc"]) as client:
            assert client.is_server_ready()
            assert client.is_model_ready("shop")
        assert ask(ready["url"])["answer"] == 3.0


def test_calls_by_grpc_are_in_the_access_log(shop: Project, tmp_path: Path) -> None:
    """With the method as their path, and the status that HTTP would have: whoever reads it knows one form."""
    path = tmp_path / "access.log"
    with (
        serving(shop, "--grpc-port", "0", "--access-log", str(path), stderr=subprocess.PIPE) as (_, ready),
        tritonclient.grpc.InferenceServerClient(ready["grpc"]) as client,
    ):
        assert client.is_model_ready("shop")
        with pytest.raises(InferenceServerException, match="nothing"):
            client.is_model_ready("nothing")
        wait_until(lambda: path.exists() and path.read_text().count("\n") >= 2, "both are listed")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    listed = [(line["status"], line["path"]) for line in lines]
    assert listed == [(200, "/inference.GRPCInferenceService/ModelReady"), (404, "")]


def test_a_taken_grpc_port_is_named(shop: Project) -> None:
    """The message says which option chooses another, and nothing is left behind."""
    with serving(shop, "--grpc-port", "0", stderr=subprocess.PIPE) as (_, ready):
        port = ready["grpc"].rpartition(":")[2]
        done = shop.command("serve", "--port", port)
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_prometheus_reads_what_both_workers_counted(shop: Project) -> None:
    """Whichever worker is asked, the sums are those of all."""
    with serving(shop, "--workers", "2", stderr=subprocess.PIPE) as (_, ready):
        for _ in range(30):
            ask(ready["url"])
        text = httpx.get(ready["url"] + "/metrics")
        assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [s for family in text_string_to_metric_families(text.text) for s in family.samples]
    found = {s.name: s.value for s in samples if s.labels.get("function", "price") == "price" and "le" not in s.labels}
    assert found["penstock_requests_total"] == 30
    assert found["penstock_request_seconds_count"] == 30
    assert found["penstock_release_info"] == 2
    assert sum(s.name == "process_resident_memory_bytes" for s in samples) == 2


def test_a_collector_hears_of_requests(shop: Project) -> None:
    """The span of a request belongs to the caller's trace, and says which release answered."""
    with Collector() as collector:
        with serving(shop, "--otel", collector.url, stderr=subprocess.PIPE) as (process, ready):
            ask(ready["url"], traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            end(process)
        assert [span.trace_id.hex() for span in collector.spans] == ["4bf92f3577b34da6a3ce929d0e0e4736"]
        assert collector.resources[0]["service.version"] == "shop@1"
        assert collector.metrics["penstock.requests"].sum.data_points[0].as_double == 1.0
