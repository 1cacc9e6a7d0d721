"""mosec as its documentation shows it: one worker, one request at a time."""

from typing import Any

import numpy as np
from mosec import Server, Worker

from benchmarks.serving.peers.model import load


class Score(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.predict = load()

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"answer": self.predict(np.array(data["rows"])).tolist()}


if __name__ == "__main__":
    server = Server()
    server.append_worker(Score, num=1)
    server.run()
