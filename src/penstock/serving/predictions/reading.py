"""Reads predictions back, from the segments of workers."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import structlog

from penstock.core.errors import NotFoundError
from penstock.serving.predictions.exploding import predictions_of
from penstock.serving.predictions.records import (
    Damage,
    Frame,
    Prediction,
    check_id,
    predictions_folder,
    read_frames,
)

_events = structlog.get_logger("penstock.serving")


def read_predictions(home: Path, pipeline: str) -> Iterator[Prediction]:
    """Yield the predictions of a pipeline, segment by segment, in the order in which each worker answered.

    Safe while workers write: a frame that is not whole yet is not yielded.
    """
    for path in sorted(predictions_folder(home, pipeline).glob("*.log")):
        for frame in _good_frames(path):
            yield from predictions_of(frame)


def find_prediction(home: Path, pipeline: str, prediction_id: str) -> Prediction:
    """Return one prediction by its id.

    Raises:
        InputError: The text is not a prediction id.
        NotFoundError: No segment holds it.
    """
    request_id = check_id(prediction_id).partition("-")[0]
    # The id stands first in each entry, so its bytes are searched before anything is decoded.
    start = f'{{"id":"{request_id}"'.encode()
    paths = sorted(predictions_folder(home, pipeline).glob("*.log"), reverse=True)
    frames = (frame for path in paths for frame in _good_frames(path) if frame.json.startswith(start))
    for found in itertools.chain.from_iterable(map(predictions_of, frames)):
        if found.id == prediction_id:
            return found
    raise NotFoundError(
        f"No prediction {prediction_id!r} of pipeline {pipeline!r} is stored.", hint="check the pipeline's name"
    )


def _good_frames(path: Path) -> Iterator[Frame]:
    for found in read_frames(path):
        if isinstance(found, Damage):
            _events.warning("prediction_bytes_skipped", segment=path.name, at=found.at, size_bytes=len(found.data))
        else:
            yield found
