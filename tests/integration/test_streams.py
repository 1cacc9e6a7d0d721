"""Streams over every source: in order, once, and on with what is missing after any kill."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import DataError, InputError
from penstock.serving.offline.brokers import KafkaFollowed, NatsFollowed
from penstock.serving.offline.following import DatasetFollowed, DirectoryFollowed, LinesFollowed
from penstock.serving.offline.scoring import Asking, Counts
from penstock.serving.offline.sinks import DatasetSink, DirectorySink, LinesSink, StreamRecord
from penstock.serving.offline.stream import Answering, StreamOptions, run_stream
from penstock.serving.offline.streaming import StreamSink, StreamSource
from penstock.store.lake import IntakeRules, Lake
from run_processes import until
from serving_release import make_node, make_release

CODE = """
def double(*, n: int) -> int:
    return n * 2
"""
NODES = (make_node("double", "serve", {"n": "int"}),)
ASKING = Asking(function="double")


class Store:
    """A store with one release, and streams with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.lake = Lake(self.home / "lake")
        self.manifest = make_release(self.home, 1, CODE, nodes=NODES).manifest

    def options(self, **changes: Any) -> StreamOptions:
        answering = Answering(release="movies@1", manifest=self.manifest)
        known: dict[str, Any] = {"is_once": True, "current": lambda: answering, **changes}
        return StreamOptions(home=self.home, asking=ASKING, **known)

    def directory(self, source: StreamSource, name: str = "out", form: Any = "parquet") -> DirectorySink:
        record = StreamRecord(pipeline="movies", source=source.name, asking=ASKING, form=form)
        return DirectorySink(self.root / name, record, lambda: "movies@1")

    def run(self, source: StreamSource, **changes: Any) -> Counts:
        with contextlib.closing(source), contextlib.closing(self.directory(source)) as sink:
            return run_stream(source, sink, self.options(**changes))

    def answers(self, name: str = "out") -> list[tuple[int, int]]:
        parts = sorted((self.root / name).glob("part-*.parquet"))
        frames = [pl.read_parquet(part) for part in parts]
        return [row for frame in frames for row in frame.select("n", "answer").rows()]


class Feed(Protocol):
    """A source that a test writes to: where it is followed from, and how rows get there."""

    def source(self) -> StreamSource: ...
    def put(self, numbers: Sequence[int]) -> None: ...


class DirectoryFeed:
    def __init__(self, store: Store) -> None:
        self.path = store.root / "inbox"
        self.path.mkdir()
        self.count = 0

    def source(self) -> StreamSource:
        return DirectoryFollowed(self.path, settles_s=0.0)

    def put(self, numbers: Sequence[int]) -> None:
        self.count += 1
        temporary = self.path / f".{self.count}"
        pl.DataFrame({"n": list(numbers)}).write_parquet(temporary)
        os.utime(temporary, ns=(self.count * 10**9, self.count * 10**9))
        temporary.rename(self.path / f"{self.count:03}.parquet")


class DatasetFeed:
    def __init__(self, store: Store) -> None:
        self.lake = store.lake
        self.count = 0

    def source(self) -> StreamSource:
        return DatasetFollowed(self.lake, "movies", "visits")

    def put(self, numbers: Sequence[int]) -> None:
        rules = IntakeRules(key=("n",), expected_version=self.count)
        self.lake.table("movies", "visits").intake(iter([pl.DataFrame({"n": list(numbers)})]), rules)
        self.count += 1


class KafkaFeed:
    """A real protocol spoken by librdkafka's own mock of a cluster."""

    def __init__(self, store: Store) -> None:
        del store
        kafka = pytest.importorskip("confluent_kafka", reason="needs the extra kafka")
        self.producer = kafka.Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
        self.put_lines([])
        brokers = self.producer.list_topics(timeout=10).brokers.values()
        self.servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def source(self) -> StreamSource:
        return KafkaFollowed(self.servers, "visits")

    def put(self, numbers: Sequence[int]) -> None:
        self.put_lines([json.dumps({"n": n}).encode() for n in numbers])

    def put_lines(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self.producer.produce("visits", line, partition=0)
        assert self.producer.flush(20) == 0


class NatsFeed:
    """A stream of a real server."""

    def __init__(self, store: Store) -> None:
        if not Path("/usr/sbin/nats-server").exists():
            pytest.skip("needs nats-server, as Debian packages it")
        self.nats = pytest.importorskip("nats", reason="needs the extra nats")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        folder = store.root / "nats"
        command = ["/usr/sbin/nats-server", "-js", "-sd", str(folder), "-a", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.is_up)
        self.publish([], make=True)

    def is_up(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def source(self) -> StreamSource:
        return NatsFollowed(f"127.0.0.1:{self.port}", "visits")

    def put(self, numbers: Sequence[int]) -> None:
        self.publish([json.dumps({"n": n}).encode() for n in numbers])

    def publish(self, lines: Sequence[bytes], *, make: bool = False) -> None:
        async def work() -> None:
            client = await self.nats.connect(f"nats://127.0.0.1:{self.port}")
            streams = client.jetstream()
            if make:
                await streams.add_stream(name="visits", subjects=["visits"])
            for line in lines:
                await streams.publish("visits", line)
            await client.close()

        asyncio.run(work())

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)


FEEDS: dict[str, Callable[[Store], Feed]] = {
    "directory": DirectoryFeed,
    "dataset": DatasetFeed,
    "kafka": KafkaFeed,
    "nats": NatsFeed,
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture(params=FEEDS)
def feed(store: Store, request: pytest.FixtureRequest) -> Iterator[Feed]:
    made = FEEDS[request.param](store)
    yield made
    if isinstance(made, NatsFeed):
        made.close()


def doubled(numbers: Sequence[int]) -> list[tuple[int, int]]:
    return [(n, n * 2) for n in numbers]


def test_rows_are_answered_in_order_and_once(store: Store, feed: Feed) -> None:
    """What is there, what comes later, and nothing again: over each start only what is new."""
    feed.put(range(50))
    feed.put(range(50, 60))
    assert store.run(feed.source()).rows == 60
    assert store.answers() == doubled(range(60))
    assert store.run(feed.source()).rows == 0
    feed.put(range(60, 65))
    assert store.run(feed.source()).rows == 5
    assert store.answers() == doubled(range(65))


def test_what_comes_while_it_runs_is_answered(store: Store, feed: Feed) -> None:
    """Followed, not polled by restarts: rows put while the stream waits are answered by it."""
    feed.put(range(5))
    seen: list[int] = []
    stop = threading.Event()
    source = feed.source()

    class Ending:
        """The same source, at its end when the test says so."""

        name, settles_s = source.name, source.settles_s
        open, read, commit, close = source.open, source.read, source.commit, source.close

        def is_at_end(self) -> bool:
            return stop.is_set()

    def count(counts: Counts) -> None:
        seen.append(counts.rows)

    running = threading.Thread(target=lambda: store.run(Ending(), is_once=False, on_batch=count))
    running.start()
    until(lambda: sum(seen) == 5)
    feed.put(range(5, 8))
    until(lambda: sum(seen) == 8)
    stop.set()
    running.join(30)
    assert store.answers() == doubled(range(8))


@pytest.mark.parametrize("fault", ["stream_before_commit:error:2", "stream_after_commit:error:2"])
def test_an_interruption_around_the_commit_loses_and_doubles_nothing(
    store: Store, feed: Feed, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the commit the batch is answered again; after it, only its name is given."""
    for start in range(0, 40, 10):
        feed.put(range(start, start + 10))
        if start == 10:
            monkeypatch.setattr("penstock.core.faults._visits", {})
            monkeypatch.setenv("PENSTOCK_FAULT", fault)
            with contextlib.suppress(OSError):
                store.run(feed.source())
            monkeypatch.delenv("PENSTOCK_FAULT")
    store.run(feed.source())
    assert store.answers() == doubled(range(40))
    assert not list((store.root / "out").rglob("*.tmp"))


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_streams import DirectoryFollowed, Store
store = Store(Path(sys.argv[1]))
store.run(DirectoryFollowed(store.root / "inbox", settles_s=0.0))
"""


@pytest.mark.slow
def test_random_kills_of_a_stream_lose_and_double_nothing(store: Store) -> None:
    """SIGKILL at random moments while files come in; each row has one answer, in order."""
    feed = DirectoryFeed(store)
    dice = random.Random(11)
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    put = 0
    for _ in range(6):
        for _ in range(30):
            feed.put(range(put, put + 3))
            put += 3
        there = len(list(store.root.glob("out/part-*")))
        with subprocess.Popen([sys.executable, "-c", SCRIPT, str(store.root), *folders]) as process:
            until(lambda n=there: len(list(store.root.glob("out/part-*"))) > n)  # type: ignore[misc]  # the default binds the loop's value
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(dice.random() / 10)
            process.kill()
    store.run(feed.source())
    assert store.answers() == doubled(range(put))


def test_half_written_and_hidden_files_wait(store: Store) -> None:
    """A file counts when nobody has written to it for a while, whatever its name says."""
    feed = DirectoryFeed(store)
    feed.put([1])
    (feed.path / "_notes.jsonl").write_text("x")
    fresh = feed.path / "fresh.jsonl"
    fresh.write_text('{"n": 2}\n')
    source = DirectoryFollowed(feed.path, settles_s=60.0)
    source.open(())
    first = source.read(0)
    assert first is not None
    assert first.position["file"] == "001.parquet"
    assert source.read(0) is None
    os.utime(fresh, (0, 0))
    second = source.read(0)
    assert second is not None
    assert second.position["file"] == "fresh.jsonl"


def test_a_dataset_s_new_versions_are_what_they_add(store: Store) -> None:
    """First the rows as they are, then of each version its own, a key that comes again included."""
    feed = DatasetFeed(store)
    feed.put([1, 2])
    feed.put([2, 3])
    store.run(feed.source())
    assert store.answers() == doubled([1, 2, 3])
    feed.put([3, 4])
    feed.put([5])
    store.run(feed.source())
    assert store.answers() == doubled([1, 2, 3, 3, 4, 5])


def test_answers_become_a_dataset_in_one_commit_with_the_position(store: Store) -> None:
    """A version per batch; the position rides in it, so that nothing is taken in twice."""
    feed = DirectoryFeed(store)
    for _ in range(2):
        feed.put([feed.count * 10 + 1, feed.count * 10 + 2])
        source = feed.source()
        sink = DatasetSink(store.lake, "movies", "scores", own=store.home / "tmp", source=source.name)
        with contextlib.closing(sink):
            run_stream(source, sink, store.options())
    table = store.lake.table("movies", "scores")
    assert [version.version for version in table.versions()] == [1, 2]
    latest = table.latest()
    assert latest is not None
    assert table.scan(latest).collect().select("n", "answer").rows() == doubled([1, 2, 11, 12])
    with pytest.raises(InputError, match="was not written by a stream of dataset"):
        DatasetSink(store.lake, "movies", "scores", own=store.home / "tmp", source="dataset x")


def test_lines_are_answered_as_they_come_with_ids(store: Store) -> None:
    """L2: standard input to standard output: each line at once, its id the same when it is sent again."""
    said = []
    for _ in range(2):
        into, ours = os.pipe()
        theirs, out = os.pipe()
        lines = [b'{"n": 1}\n', b"\n", b'nonsense\n{"n": 3}\n{"n": "x"}']

        def feed(ours: int = ours, lines: Sequence[bytes] = lines) -> None:
            for line in lines:
                os.write(ours, line)
                time.sleep(0)
            os.close(ours)

        threading.Thread(target=feed).start()
        sink: StreamSink = LinesSink(out)
        counts = run_stream(LinesFollowed(into), sink, store.options(is_once=False))
        os.close(out)
        with os.fdopen(theirs, "rb") as read:
            said.append([json.loads(line) for line in read])
        os.close(into)
    assert (counts.rows, counts.refused) == (4, 2)
    assert [row["n"] for row in said[0]] == [1, None, 3, "x"]
    assert [(row.get("answer"), row["error"] is None) for row in said[0]] == [
        (2, True),
        (None, False),
        (6, True),
        (None, False),
    ]
    assert [row["message_id"] for row in said[0]] == [row["message_id"] for row in said[1]]
    assert len({row["message_id"] for row in said[0]}) == 4


def test_another_stream_does_not_go_on_in_the_same_directory(store: Store) -> None:
    """What is followed, asked or written must be what it was."""
    feed = DirectoryFeed(store)
    feed.put([1])
    store.run(feed.source())
    with pytest.raises(InputError, match="holds another stream: its source was 'directory"):
        store.directory(DatasetFeed(store).source())
    with pytest.raises(InputError, match="its form was 'parquet'"):
        store.directory(feed.source(), form="csv")


def test_a_file_that_changed_half_answered_is_told(store: Store) -> None:
    """Answers to two states of one file are never mixed."""
    path = store.root / "inbox"
    path.mkdir()
    pl.DataFrame({"n": range(50_000)}).write_parquet(path / "a.parquet")
    source = DirectoryFollowed(path, settles_s=0.0)
    source.open(())
    first = source.read(0)
    assert first is not None
    pl.DataFrame({"n": range(50_001)}).write_parquet(path / "a.parquet")
    with pytest.raises(DataError, match="changed when a part of it was answered"):
        DirectoryFollowed(path, settles_s=0.0).open([first.position])


def test_a_release_that_goes_live_answers_the_next_batch(store: Store) -> None:
    """The process that answers is replaced between two batches."""
    feed = DirectoryFeed(store)
    for n in range(4):
        feed.put([n])
    newer = make_release(store.home, 2, CODE.replace("* 2", "* 3"), nodes=NODES).manifest
    answered: list[int] = []

    def current() -> Answering:
        is_new = len(answered) >= 2
        return Answering(release=f"movies@{1 + is_new}", manifest=newer if is_new else store.manifest)

    store.run(feed.source(), current=current, on_batch=lambda counts: answered.append(counts.rows))
    assert store.answers() == [(0, 0), (1, 2), (2, 6), (3, 9)]


def test_a_torn_line_of_the_log_never_counted(store: Store) -> None:
    """A power cut in the middle of the commit: the batch is answered again."""
    feed = DirectoryFeed(store)
    feed.put([1])
    store.run(feed.source())
    with (store.root / "out" / "_job" / "stream.jsonl").open("ab") as log:
        log.write(b'{"number": 1, "posit')
    feed.put([2])
    store.run(feed.source())
    assert store.answers() == doubled([1, 2])


def test_sigterm_finishes_what_is_under_way(store: Store) -> None:
    """Asked to stop, it ends with 0 and nothing half done."""
    feed = DirectoryFeed(store)
    feed.put(range(10))
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = SCRIPT.replace("settles_s=0.0))", "settles_s=0.0), is_once=False)")
    with subprocess.Popen([sys.executable, "-c", script, str(store.root), *folders]) as process:
        until(lambda: list(store.root.glob("out/part-*")))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert store.answers() == doubled(range(10))
