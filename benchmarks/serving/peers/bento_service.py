"""BentoML as its documentation shows it for scikit-learn: arrays in, arrays out. Run by `bentoml serve`."""

import bentoml
import numpy as np

from benchmarks.serving.peers.model import load


@bentoml.service(workers=1)
class Score:
    def __init__(self) -> None:
        self.predict = load()

    @bentoml.api
    def score(self, rows: np.ndarray) -> np.ndarray:
        return self.predict(rows)
