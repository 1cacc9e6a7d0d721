"""The columns of the tables that answers and their truth are kept in; a worker knows them without loading the lake."""

from penstock.store.served import FEEDBACK_SCHEMA, PREDICTIONS_SCHEMA

__all__ = ["FEEDBACK_SCHEMA", "PREDICTIONS_SCHEMA"]
