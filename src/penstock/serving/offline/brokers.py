"""Sources of a stream behind a broker, as extras: Kafka (confluent-kafka) and NATS JetStream (nats-py).

Where to go on is kept with the answers, not by the broker: that is what makes each message answered once. The broker
is told too, so that its own tools show how far the stream is.
"""

import asyncio
import importlib
import threading
import time
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from penstock.core.errors import DataError, InputError
from penstock.serving.offline.pieces import LinesPiece
from penstock.serving.offline.streaming import Batch

T = TypeVar("T")
_MOST = 10_000
_POLL_S = 0.05
_CALL_S = 15.0


class KafkaFollowed:
    """The messages of a topic, each a JSON object; every partition in its own order.

    Args:
        servers: "host:9092", several separated by commas.
        topic: Its name.
        settings: Further settings of librdkafka.

    Raises:
        InputError: The extra is not installed, or the topic cannot be found.
    """

    settles_s = 0.0

    def __init__(self, servers: str, topic: str, settings: dict[str, Any] | None = None) -> None:
        self.name = f"kafka topic {topic}"
        self._topic = topic
        self._kafka = _library("confluent_kafka", "kafka")
        self._consumer = self._kafka.Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"penstock-{topic}",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                **(settings or {}),
            }
        )
        self._offsets: dict[str, int] = {}
        self._looked_at = 0.0
        self._has_caught_up = False

    def open(self, positions: Iterable[Any]) -> None:
        """Begin behind the offsets that are kept; a partition without one begins at its start."""
        self._offsets = {}
        for position in positions:
            self._offsets |= position["offsets"]
        self._assign()

    def read(self, timeout_s: float) -> Batch | None:
        """Return the messages that have arrived, without waiting for more than one."""
        if time.monotonic() - self._looked_at > _CALL_S:
            self._look_for_partitions()
        messages = self._consumer.consume(_MOST, _POLL_S)
        if not messages:
            messages = self._consumer.consume(1, max(0.0, timeout_s - _POLL_S))
        if not messages and self._is_behind():
            messages = self._consumer.consume(1, _CALL_S)
        good = [message for message in messages if not self._is_error(message)]
        if not good:
            return None
        for message in good:
            self._offsets[str(message.partition())] = message.offset() + 1
        ids = tuple(f"{self._topic}/{message.partition()}/{message.offset()}" for message in good)
        lines = tuple(message.value() or b"" for message in good)
        return Batch(piece=LinesPiece(lines=lines, ids=ids), position={"offsets": dict(self._offsets)})

    def is_at_end(self) -> bool:
        """Return False: more messages may come."""
        return False

    def commit(self, position: Any) -> None:
        """Tell the broker, for its tools; where to go on is kept with the answers."""
        offsets = [self._partition(int(number), offset) for number, offset in position["offsets"].items()]
        self._consumer.commit(offsets=offsets, asynchronous=True)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _is_error(self, message: Any) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.code() in {self._kafka.KafkaError._AUTO_OFFSET_RESET, self._kafka.KafkaError.OFFSET_OUT_OF_RANGE}:  # noqa: SLF001  # the library's own name
            raise DataError(
                f"Topic {self._topic!r} no longer has the messages behind what was answered: {error.str()}.",
                hint="begin again in another directory",
            )
        return True  # what passes, as a broker that restarts, is tried again by the library

    def _is_behind(self) -> bool:
        """Return whether messages of the start have not been read yet: a slow broker is not an empty one."""
        if not self._has_caught_up:
            self._has_caught_up = not any(self._has_more(number) for number in self._assigned)
        return not self._has_caught_up

    def _has_more(self, number: int) -> bool:
        low, high = self._consumer.get_watermark_offsets(self._partition(number, 0), timeout=_CALL_S)
        return bool(high > max(low, self._offsets.get(str(number), low)))

    def _assign(self) -> None:
        self._has_caught_up = False
        numbers = self._partitions()
        self._consumer.assign(
            [self._partition(n, self._offsets.get(str(n), self._kafka.OFFSET_BEGINNING)) for n in numbers]
        )
        self._assigned = set(numbers)
        self._looked_at = time.monotonic()

    def _look_for_partitions(self) -> None:
        new = set(self._partitions()) - self._assigned
        if new:
            self._consumer.incremental_assign([self._partition(n, self._kafka.OFFSET_BEGINNING) for n in new])
            self._assigned |= new
        self._looked_at = time.monotonic()

    def _partitions(self) -> list[int]:
        try:
            topics = self._consumer.list_topics(self._topic, timeout=_CALL_S).topics
        except self._kafka.KafkaException as error:
            raise DataError(f"Kafka does not answer: {error}.", hint="see whether the broker is up") from error
        found = sorted(topics[self._topic].partitions)
        if not found:
            raise InputError(f"There is no topic {self._topic!r}.", hint="make it first")
        return found

    def _partition(self, number: int, offset: int) -> Any:
        return self._kafka.TopicPartition(self._topic, number, offset)


class NatsFollowed:
    """The messages of a JetStream stream, each a JSON object, in the order of the stream.

    Args:
        servers: "host:4222", several separated by commas.
        stream: Its name.

    Raises:
        InputError: The extra is not installed, or there is no such stream.
    """

    settles_s = 0.0

    def __init__(self, servers: str, stream: str) -> None:
        self.name = f"nats stream {stream}"
        self._stream = stream
        self._nats = _library("nats", "nats")
        self._api = _library("nats.js.api", "nats")
        self._servers = [f"nats://{server}" for server in servers.split(",")]
        # The client answers the server's pings on its loop, so that must run while rows are answered here.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()
        self._client: Any = None
        self._pulled: Any = None

    def open(self, positions: Iterable[Any]) -> None:
        """Begin behind the number that is kept."""
        last: Any = None
        for position in positions:
            last = position
        self._do(self._open(0 if last is None else int(last["sequence"])))

    def read(self, timeout_s: float) -> Batch | None:
        """Return the messages that have arrived."""
        messages = self._do(self._fetch(timeout_s))
        if not messages:
            return None
        numbers = [message.metadata.sequence.stream for message in messages]
        ids = tuple(f"{self._stream}/{number}" for number in numbers)
        lines = tuple(message.data for message in messages)
        return Batch(piece=LinesPiece(lines=lines, ids=ids), position={"sequence": numbers[-1]})

    def is_at_end(self) -> bool:
        """Return False: more messages may come."""
        return False

    def commit(self, position: Any) -> None:
        """Nothing: the server keeps no account of a consumer that says by itself where to begin."""

    def close(self) -> None:
        """Leave the server."""
        if self._client is not None:
            self._do(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    async def _open(self, sequence: int) -> None:
        if self._client is None:
            try:
                self._client = await self._nats.connect(
                    servers=self._servers, connect_timeout=5, max_reconnect_attempts=3
                )
            except (self._nats.errors.Error, OSError) as error:
                raise DataError(f"NATS does not answer: {error}.", hint="see whether the server is up") from error
        streams = self._client.jetstream()
        try:
            state = (await streams.stream_info(self._stream)).state
        except self._nats.js.errors.NotFoundError as error:
            raise InputError(f"There is no stream {self._stream!r}.", hint="make it first") from error
        if sequence and state.first_seq > sequence + 1:
            raise DataError(
                f"Stream {self._stream!r} begins at {state.first_seq}, but {sequence} was answered last.",
                hint="begin again in another directory",
            )
        config = self._api.ConsumerConfig(
            ack_policy=self._api.AckPolicy.NONE,
            deliver_policy=self._api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=sequence + 1,
        )
        self._pulled = await streams.pull_subscribe("", stream=self._stream, config=config)

    async def _fetch(self, timeout_s: float) -> list[Any]:
        try:
            first = await self._pulled.fetch(1, timeout=max(timeout_s, _POLL_S))
        except (TimeoutError, self._nats.errors.TimeoutError):
            return []
        try:
            return [*first, *(await self._pulled.fetch(_MOST, timeout=_POLL_S))]
        except (TimeoutError, self._nats.errors.TimeoutError):
            return list(first)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"This source needs the extra {extra!r}.", hint=f"install it: pip install 'penstock[{extra}]'"
        ) from error
