"""Ray Serve as its documentation shows it: one deployment, one replica, JSON over Starlette."""

import sys
import threading
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from benchmarks.serving.peers.model import load


@serve.deployment
class Score:
    def __init__(self) -> None:
        self.predict = load()

    async def __call__(self, request: Request) -> dict[str, Any]:
        body = await request.json()
        return {"answer": self.predict(np.array(body["rows"])).tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Score.bind(), route_prefix="/")
    threading.Event().wait()
