"""OpenTelemetry, an extra: a span per request that continues the caller's trace, and the counters as metrics.

`opentelemetry` is imported when a collector is named, never else.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from penstock.core.errors import InputError
from penstock.serving.observe import metrics
from penstock.serving.observe.counters import Counters, Worker
from penstock.serving.observe.exchanges import Exchange

_EXPORT_MS = 10_000
_TIMEOUT_S = 5
_CLOSE_S = 3.0
_SERVER_ERROR = 500


class Telemetry(Protocol):
    """Where exchanges are told to."""

    def watch(self, exchange: Exchange) -> None:
        """Make a span of an exchange."""
        ...

    def close(self) -> None:
        """Send what waits; bounded in time."""
        ...


def connect(url: str, worker: Worker, counters: Counters, *, export_ms: int = _EXPORT_MS) -> Telemetry:
    """Return where exchanges are told to, so that a collector hears of them over OTLP (HTTP, protobuf).

    Args:
        url: The collector, "http://localhost:4318".
        worker: Who sends.
        counters: What it counts.
        export_ms: How often metrics are sent.

    Raises:
        InputError: The extra `otel` is not installed.
    """
    try:
        return _Telemetry(url.rstrip("/"), worker, counters, export_ms)
    except ImportError as error:
        raise InputError(
            f"Telemetry to {url!r} needs OpenTelemetry, which is not installed.",
            hint="pip install 'penstock[otel]'",
        ) from error


class _Telemetry:
    def __init__(self, url: str, worker: Worker, counters: Counters, export_ms: int) -> None:
        from opentelemetry import propagate, trace
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create(
            {
                "service.name": "penstock",
                "service.namespace": worker.pipeline,
                "service.version": worker.release,
                "service.instance.id": f"{worker.slot}-{worker.pid}",
            }
        )
        # Queues are bounded by the library: spans are dropped while the collector is away, answers never wait.
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        spans = OTLPSpanExporter(endpoint=f"{url}/v1/traces", timeout=_TIMEOUT_S)
        self._traces.add_span_processor(BatchSpanProcessor(spans))
        numbers = OTLPMetricExporter(endpoint=f"{url}/v1/metrics", timeout=_TIMEOUT_S)
        reader = PeriodicExportingMetricReader(numbers, export_interval_millis=export_ms)
        self._metrics = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._tracer = self._traces.get_tracer("penstock")
        self._extract = propagate.extract
        self._server = trace.SpanKind.SERVER
        self._failed = trace.Status(trace.StatusCode.ERROR)
        meter = self._metrics.get_meter("penstock")
        self._durations = meter.create_histogram("http.server.request.duration", unit="s")
        _observe(meter, counters)

    def watch(self, exchange: Exchange) -> None:
        request, reply = exchange.request, exchange.reply
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "http.response.status_code": reply.status,
            "http.route": exchange.route,
        }
        self._durations.record(exchange.duration_ns / 1e9, attributes)
        parent = {
            name: request.headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in request.headers
        }
        span = self._tracer.start_span(
            f"{request.method} {exchange.route}".rstrip(),
            context=self._extract(parent),
            kind=self._server,
            start_time=exchange.at_ns,
            attributes={**attributes, "penstock.prediction_id": exchange.prediction_id},
        )
        if reply.status >= _SERVER_ERROR:
            span.set_status(self._failed)
        span.end(end_time=exchange.at_ns + exchange.duration_ns)

    def close(self) -> None:
        # A collector that is away would hold up the end by its whole retry time.
        closing = threading.Thread(target=self._shut_down, name="telemetry-end", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)

    def _shut_down(self) -> None:
        self._traces.shutdown()
        self._metrics.shutdown()


def _observe(meter: Any, counters: Counters) -> None:
    """Make an instrument of each counter and gauge of this worker; histograms are sent as they are recorded."""
    from opentelemetry.metrics import CallbackOptions, Observation

    def reader(metric: metrics.Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_options: CallbackOptions) -> list[Observation]:
            return [
                Observation(value, dict(zip(metric.labels, labels, strict=True)))
                for labels, value in counters.values(metric)
            ]

        return read

    for metric in metrics.METRICS:
        name = metric.name.removesuffix("_total").replace("_", ".")
        if metric.kind == "counter":
            meter.create_observable_counter(name, [reader(metric)], description=metric.help)
        elif metric.kind == "gauge":
            meter.create_observable_gauge(name, [reader(metric)], description=metric.help)
