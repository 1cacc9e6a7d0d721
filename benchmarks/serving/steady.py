"""An open loop: requests leave at times drawn beforehand, whether or not the earlier ones were answered.

Latency counts from the time a request was due, so that a pause of the server is felt by all who would have asked in
it (no coordinated omission). A process of its own: `python -m benchmarks.serving.steady PORT PATH BODIES RATE SECONDS`.
"""

import argparse
import json
import select
import socket
import time
from collections import deque
from pathlib import Path

import numpy as np

SEED = 11
CONNECTIONS = 128
RESPITE_S = 2.0  # how long answers are waited for after the last request was due


class Connection:
    """One connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.open()

    def open(self) -> None:
        """Connect, for the first time or because the server ended the connection."""
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(0)
        self.due = 0.0
        self._received = b""

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at `due`; one-row requests fit any socket buffer."""
        self.due = due
        if self.socket.send(request) != len(request):
            raise ConnectionError("A request did not fit the socket's buffer.")

    def receive(self) -> int | None:
        """Return the status when the answer is complete."""
        data = self._received + self.socket.recv(65536)
        head = data.find(b"\r\n\r\n")
        if not data:
            raise ConnectionError("The server closed the connection.")
        if head < 0 or len(data) < head + 4 + _length(data[:head]):
            self._received = data
            return None
        self._received = b""
        return int(data[9:12])


def _length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.index(b"content-length:") + 15
    end = lowered.find(b"\r\n", start)
    return int(lowered[start : end if end >= 0 else None])


class Run:
    """Requests due at given seconds after the start, over a fixed set of connections."""

    def __init__(self, port: int, requests: list[bytes], due: np.ndarray) -> None:
        self._requests = requests
        self._due: list[float] = due.tolist()
        self._open = {found.socket.fileno(): found for found in (Connection(port) for _ in range(CONNECTIONS))}
        self._free = deque(self._open.values())
        self._epoll = select.epoll()
        for number in self._open:
            self._epoll.register(number, select.EPOLLIN)
        self.latencies: list[float] = []
        self.refused = 0

    def run(self) -> float:
        """Send all, wait for the answers, and return the seconds until the last one."""
        start, sent = time.perf_counter(), 0
        end = start + self._due[-1] + RESPITE_S
        while len(self.latencies) < len(self._due) and time.perf_counter() < end:
            now = time.perf_counter() - start
            while self._free and sent < len(self._due) and self._due[sent] <= now:
                self._free.popleft().send(self._requests[sent % len(self._requests)], start + self._due[sent])
                sent += 1
            wait = self._due[sent] - now if self._free and sent < len(self._due) else 0.01
            for number, _ in self._epoll.poll(wait if wait > 0.002 else 0):
                self._take(self._open[number])
        return time.perf_counter() - start

    def _take(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        try:
            status = connection.receive()
        except OSError:  # counted as broken, as it never gets an answer
            connection.socket.close()
            connection.open()
            del self._open[number]
            self._open[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
            self._free.append(connection)
            return
        if status is None:
            return
        self.latencies.append(time.perf_counter() - connection.due)
        self.refused += status != 200
        self._free.append(connection)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    head = f"POST {options.path} HTTP/1.1\r\nhost: 127.0.0.1:{options.port}\r\ncontent-type: application/json\r\n"
    requests = [
        head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body
        for body in options.bodies.read_bytes().splitlines()
    ]
    count = max(1, round(options.rate * options.seconds))
    due = np.random.default_rng(SEED).exponential(1 / options.rate, count).cumsum()
    run = Run(options.port, requests, due)
    took_s = run.run()
    p50_s, p99_s = np.percentile(run.latencies, [50, 99]) if run.latencies else (float("nan"), float("nan"))
    print(
        json.dumps(
            {
                "answers": len(run.latencies),
                "seconds": took_s,
                "p50_ms": 1000 * p50_s,
                "p99_ms": 1000 * p99_s,
                "refused": run.refused,
                "broken": count - len(run.latencies),
            }
        )
    )


if __name__ == "__main__":
    main()
