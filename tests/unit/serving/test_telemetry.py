"""OpenTelemetry, against a collector on a real socket: the caller's trace goes on, the counters arrive as metrics."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from otlp_collector import Collector
from penstock.core.errors import InputError
from penstock.serving.messages import Reply, Request
from penstock.serving.observe.counters import Counters, Worker
from penstock.serving.observe.exchanges import watching
from penstock.serving.observe.otel import Telemetry, connect

WORKER = Worker(slot=2, pid=os.getpid(), pipeline="movies", release="movies@4", functions=("which",))
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def make_request(traceparent: bytes | None = None) -> Request:
    headers = {} if traceparent is None else {b"traceparent": traceparent}
    return Request(method="POST", path="/movies/which", headers=headers, body=b'{"n": 1}')


def tell(telemetry: Telemetry, request: Request, reply: Reply) -> Reply:
    """Answer as a server does that tells its exchanges to a collector; return what the caller gets."""
    sent: list[Reply] = []
    watching(request, sent.append, [telemetry.watch])(reply)
    return sent[0]


def test_a_span_continues_the_trace_of_the_caller_and_counts_arrive_as_metrics() -> None:
    """Trace and parent ids are the caller's; route, status and prediction id are on the span; sums are counters."""
    with Collector() as collector, Counters(None, WORKER) as counters:
        telemetry = connect(collector.url, WORKER, counters)
        headers = ((b"x-penstock-prediction-id", b"0198-abc"),)
        tell(telemetry, make_request(f"00-{TRACE}-{PARENT}-01".encode()), Reply(200, b"{}", headers=headers))
        counters.served("which", "json", "answered", 1000, 1)
        telemetry.close()
        (span,) = collector.spans
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert (span.name, span.kind) == ("POST /movies/which", 2)
        found = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
        assert found["http.response.status_code"] == 200
        assert found["penstock.prediction_id"] == "0198-abc"
        assert collector.resources[0]["service.version"] == "movies@4"
        requests = collector.metrics["penstock.requests"].sum
        assert requests.is_monotonic
        assert [point.as_double for point in requests.data_points] == [1.0]
        assert collector.metrics["http.server.request.duration"].histogram.data_points[0].count == 1


@pytest.mark.parametrize("traceparent", [None, b"", b"no-trace", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_a_request_without_a_usable_trace_starts_one(traceparent: bytes | None) -> None:
    """What callers make up as a trace is no reason to fail; a failed request is marked so."""
    with Collector() as collector, Counters(None, WORKER) as counters:
        telemetry = connect(collector.url, WORKER, counters)
        tell(telemetry, make_request(traceparent), Reply(500, b"{}"))
        telemetry.close()
        (span,) = collector.spans
        assert span.parent_span_id == b""
        assert any(span.trace_id)
        assert span.status.code == 2


def answer_without_a_collector(times: int) -> None:
    """Write how many answers went out while nobody took what was told of them."""
    with Counters(None, WORKER) as counters:
        telemetry = connect("http://127.0.0.1:9", WORKER, counters)
        replies = [tell(telemetry, make_request(), Reply(200, b"{}")) for _ in range(times)]
        telemetry.close()
        sys.stdout.write(f"{len(replies)}\n")


def test_a_collector_that_is_away_holds_up_nothing() -> None:
    """Answers go on; closing is bounded. A process of its own, since what is given up tries on in the background."""
    code = "import test_telemetry; test_telemetry.answer_without_a_collector(5000)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"5000\n"


def test_nothing_of_it_is_imported_when_it_is_off() -> None:
    """A worker without a collector pays nothing."""
    code = "import sys, penstock.serving.processes.worker; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with Counters(None, WORKER) as counters, pytest.raises(InputError, match="not installed"):
        connect("http://127.0.0.1:9", WORKER, counters)
