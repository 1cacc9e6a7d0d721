"""Compares a sample of answers with those of the original models, while serving; goes back to them when they differ.

A worker makes one `Comparison` of its program. After it has answered a question it asks `is_due`, and when it is, has
`compare` called in a thread, where the same question is put to the original models.
"""

import random
import threading
from typing import Any

import msgspec
import structlog

from penstock.core.plain import built_in
from penstock.core.records import Record
from penstock.releases.manifest import Manifest
from penstock.releases.manifest import StandIn as Proven
from penstock.serving.program.load import Program, ServeFunction
from penstock.serving.program.stand_ins.equality import Tolerance, first_difference
from penstock.serving.program.stand_ins.model import switch_of
from penstock.serving.program.values import Values

_events = structlog.get_logger("penstock.serving")


class Difference(Record, frozen=True, kw_only=True):
    """An equivalent did not answer as the original: the worker has gone back to the original for good.

    Attributes:
        function: The serve function.
        what: Where the answers differ, without their values.
    """

    function: str
    what: str


class Counts(Record, frozen=True, kw_only=True):
    """What became of the comparisons of one function in this worker.

    Attributes:
        compared: Answers compared.
        differing: Of these, those that differed.
        undecided: Questions to which the original does not give the same answer twice, so nothing can be said.
    """

    compared: int = 0
    differing: int = 0
    undecided: int = 0


class Comparison:
    """Decides which answers are compared, compares them, and goes back to the originals; safe to use from any thread.

    Args:
        program: The program of this worker.
        manifest: Its release: how far answers may differ.
        share: Share of answers to compare, 0 to 1 (policy `serve.compare`). Where it is not 0, the first answer of
            each function after the start is compared in any case.
        seed: Of the dice that choose; None for one that nobody can foresee.
    """

    def __init__(self, program: Program, manifest: Manifest, share: float, *, seed: int | None = None) -> None:
        self._dice = random.Random(seed)  # noqa: S311 -- chooses a sample, keeps no secret
        self._share = share
        self._lock = threading.Lock()
        compiled = [
            f for one in program.functions.values() for f in (one, one.fallback) if f is not None and f.stand_ins
        ]
        self._gaps: dict[str, int] = dict.fromkeys([f.name for f in compiled] if share > 0 else [], 0)
        self._tolerances = {f.name: _tolerance(manifest.stand_ins.get(f.name, {})) for f in compiled}
        self.counts: dict[str, Counts] = {f.name: Counts() for f in compiled}

    def is_due(self, function: ServeFunction) -> bool:
        """Whether the answer that `function` has just given is to be compared; costs less than a microsecond."""
        if function.name not in self._gaps:
            return False
        with self._lock:
            gap = self._gaps[function.name]
            self._gaps[function.name] = self._drawn() if gap == 0 else gap - 1
        return gap == 0

    def compare(self, function: ServeFunction, fields: msgspec.Struct, values: Values) -> Difference | None:
        """Put a question to the original models and compare; on a difference, let them answer from now on.

        The function runs once more, so it must not matter how often it is asked. Never raises.

        Args:
            function: The function that answered.
            fields: What it was asked.
            values: What it answered.

        Returns:
            What differed, or None. It has been said in an event and counted in `counts` already.
        """
        answered, tolerance = _plain(values), self._tolerances[function.name]
        original = function.original
        expected = _answer(original, fields)
        what = first_difference(expected, answered, tolerance)
        if what is None:
            self._count(function.name, compared=1)
            return None
        if first_difference(expected, _answer(original, fields), tolerance) is not None:
            self._count(function.name, undecided=1)
            return None
        for stand_in in function.stand_ins:
            switch_of(stand_in).off()
        self._count(function.name, compared=1, differing=1)
        _events.error("stand_in_differed", function=function.name, what=what, answers="original")
        return Difference(function=function.name, what=what)

    def _drawn(self) -> int:
        """Return how many answers to let pass: each is due with the probability of the share."""
        return 0 if self._share >= 1 else int(self._dice.expovariate(self._share))

    def _count(self, function: str, **more: int) -> None:
        with self._lock:
            before = msgspec.structs.asdict(self.counts[function])
            self.counts[function] = Counts(**{name: number + more.get(name, 0) for name, number in before.items()})


def _answer(function: ServeFunction, fields: msgspec.Struct) -> Any:
    try:
        return _plain(function.values(fields))
    except Exception as error:  # noqa: BLE001 -- user code may raise anything; that too is an answer that can differ
        return f"raised {type(error).__qualname__}"


def _plain(values: Values) -> Any:
    return built_in(values.to_list())


def _tolerance(proofs: dict[str, Proven]) -> Tolerance:
    return Tolerance(
        relative=max((one.relative for one in proofs.values()), default=0.0),
        absolute=max((one.absolute for one in proofs.values()), default=0.0),
    )
