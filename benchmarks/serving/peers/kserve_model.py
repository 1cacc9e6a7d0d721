"""KServe's Python server with a model of one's own, for both of its protocols."""

from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid

from benchmarks.serving.peers.model import load


class Score(Model):
    def __init__(self) -> None:
        super().__init__("score")
        self.score = load()
        self.ready = True

    def predict(
        self,
        payload: dict[str, Any] | InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        if isinstance(payload, dict):
            return {"predictions": self.score(np.array(payload["instances"])).tolist()}
        answers = self.score(payload.inputs[0].as_numpy())
        output = InferOutput("answer", list(answers.shape), "FP64", data=answers.tolist())
        return InferResponse(response_id=generate_uuid(), model_name="score", infer_outputs=[output])


if __name__ == "__main__":
    ModelServer(workers=1).start([Score()])
