"""The two tables of the lake that answers and their truth are kept in: names and columns, without loading the lake."""

import polars as pl

# No dataset can have such a name: those are names of Python functions.
PREDICTIONS = "serve.predictions"
FEEDBACK = "serve.feedback"

_TIME = pl.Datetime("us", "UTC")
PREDICTIONS_SCHEMA = pl.Schema({
    "prediction_id": pl.String(),
    "at": _TIME,
    "release": pl.String(),
    "serve": pl.String(),
    "key": pl.String(),
    "consumer": pl.String(),
    "variant": pl.String(),
    "protocol": pl.String(),
    "fields": pl.String(),
    "answer": pl.String(),
    "fallback": pl.Boolean(),
    "error": pl.String(),
    "timings": pl.String(),
    "redacted": pl.String(),
})  # fmt: skip
FEEDBACK_SCHEMA = pl.Schema({
    "prediction_id": pl.String(),
    "name": pl.String(),
    "source": pl.String(),
    "value": pl.Float64(),
    "detail": pl.String(),
    "at": _TIME,
    "received_at": _TIME,
    "entry": pl.String(),
})  # fmt: skip
SCHEMAS = {PREDICTIONS: PREDICTIONS_SCHEMA, FEEDBACK: FEEDBACK_SCHEMA}
