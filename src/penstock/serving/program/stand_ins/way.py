"""What each way to a faster equivalent says of itself; the ways themselves have a module each."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from penstock.core.records import Artifact
from penstock.serving.program.stand_ins.equality import Tolerance
from penstock.serving.program.stand_ins.inputs import Inputs
from penstock.serving.program.stand_ins.model import Compute
from penstock.store.blobs import Blobs


class NotPossibleError(Exception):
    """There is no equivalent of this model by this way; the text says why, and goes into the release."""


class Built(msgspec.Struct, frozen=True):
    """An equivalent, ready to answer.

    Attributes:
        inputs: How rows are read, with every form that it could take.
        methods: What it computes, by the name of the method, the most used one first.
    """

    inputs: Inputs
    methods: Mapping[str, Compute]


class Way(Protocol):
    """A way to a faster equivalent of some models."""

    @property
    def kind(self) -> str:
        """What the release says: "folded", "lightgbm-rows", "onnx"..."""

    @property
    def tolerance(self) -> Tolerance:
        """What its answers may differ by."""

    def suits(self, model: object) -> bool:
        """Whether `model` is of a library this way is for; imports none."""

    def make(self, model: Any, blobs: Blobs) -> Artifact | None:
        """Make the equivalent and keep what it consists of; None when it needs nothing beside the model.

        Raises:
            NotPossibleError: There is none.
            ImportError: A package is missing.
        """

    def build(self, model: Any, artifact: Artifact | None, blobs: Blobs) -> Built:
        """Return the equivalent from what `make` kept; every byte is verified.

        Raises:
            NotPossibleError: It cannot be had here.
            ImportError: A package is missing.
            DamagedError: What was kept is damaged.
        """
