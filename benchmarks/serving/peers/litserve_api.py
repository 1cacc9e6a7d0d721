"""LitServe as its documentation shows it."""

import sys
from typing import Any

import litserve
import numpy as np

from benchmarks.serving.peers.model import load


class Score(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.score = load()

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        return np.array(request["rows"])

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.score(rows)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return {"answer": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Score(), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning")
