"""mosec with its dynamic batching: up to 64 requests, waited for at most a millisecond, in one call."""

from typing import Any

import numpy as np
from mosec import Server, Worker

from benchmarks.serving.peers.model import load


class Score(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.predict = load()

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        counts = [len(asked["rows"]) for asked in data]
        answers = self.predict(np.array([row for asked in data for row in asked["rows"]]))
        return [{"answer": part.tolist()} for part in np.split(answers, np.cumsum(counts)[:-1])]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Score, num=1, max_batch_size=64, max_wait_time=1)
    server.run()
