"""Answers questions with a release through the plane of a serving worker: deadline, fallback and log are the same.

Run as `python -P -m penstock.serving.processes.ask ORDER`, or kept by `staying`. An order may say when it is asked, so
that a rehearsal is answered and stored as of its own time.
"""

import asyncio
import dataclasses
import os
import sys
from datetime import datetime
from pathlib import Path

import msgspec

from penstock.core.clock import Clock
from penstock.core.digest import digest_value
from penstock.core.errors import PenstockError
from penstock.core.process import die_with_parent
from penstock.core.records import Record
from penstock.releases.manifest import Manifest, decode_manifest
from penstock.serving.limits import Limits
from penstock.serving.observe.counters import Counters, Worker
from penstock.serving.plane.plane import Plane
from penstock.serving.plane.questions import Answered, Question
from penstock.serving.predictions.log import PredictionLog
from penstock.serving.predictions.records import make_id
from penstock.serving.processes.staying import answer_quietly
from penstock.serving.program.load import Program, load_program, user_frames
from penstock.store.blobs import Blobs

_NOISE_LETTERS = 20


class Ask(Record, frozen=True, kw_only=True):
    """One question.

    Attributes:
        function: The serve function.
        body: Its fields as JSON, as a caller sends them.
        at: When it is asked; the present when None.
    """

    function: str
    body: bytes
    at: datetime | None = None


class AskOrder(Record, frozen=True, kw_only=True):
    """Questions to one release, in the order in which they are asked.

    Attributes:
        home: The project's store.
        manifest: Digest of the manifest's blob.
        release: The reference to store with predictions, "movies@3".
        seed: What prediction ids are derived from, so that they are the same each time; drawn when None.
        patience: By how much deadlines are stretched. Where time is simulated, how busy the machine is says nothing.
        parent: Process id of who starts it; it ends when that one does.
    """

    home: str
    manifest: str
    release: str
    asks: tuple[Ask, ...]
    seed: str | None = None
    patience: float = 1.0
    parent: int | None = None


class Given(Record, frozen=True, kw_only=True):
    """What came of one question.

    Attributes:
        kept: Whether the prediction is stored.
        error: Code, message and hint of the error; None when there is an answer.
    """

    answer: msgspec.Raw = msgspec.Raw(b"null")
    prediction_id: str = ""
    fallback: bool = False
    kept: bool = True
    error: tuple[str, str, str] | None = None


class AskReply(Record, frozen=True, kw_only=True):
    """What the process says: what came of each question, or the error that stood in the way of all.

    Attributes:
        error: Code, message and hint; None when the release could be asked.
    """

    given: tuple[Given, ...] = ()
    error: tuple[str, str, str] | None = None


def id_of(seed: str, at: datetime) -> str:
    """Return the id of the prediction that is asked for at a moment where ids are derived from a seed."""
    return make_id(at, _noise(seed, at))


def main(arguments: list[str]) -> int:
    """Answer the questions of one order."""
    die_with_parent(msgspec.json.decode(arguments[0], type=AskOrder).parent)
    answer_quietly(open_asking(), arguments[0].encode())
    return 0


def open_asking() -> "Asking":
    """Return what answers orders one after the other; a release stays loaded while orders name it."""
    return Asking()


class Asking:
    """Answers orders; of one code snapshot only, as Python keeps the modules it has imported."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loaded: tuple[str, Program, Manifest] | None = None

    def __call__(self, order: bytes) -> bytes:
        """Return the reply to an order."""
        wanted = msgspec.json.decode(order, type=AskOrder)
        try:
            program, manifest = self._load(wanted)
            reply = AskReply(given=self._runner.run(_answer(program, manifest, wanted)))
        except PenstockError as error:
            reply = AskReply(error=(error.code, error.message, error.hint))
        return msgspec.json.encode(reply)

    def _load(self, order: AskOrder) -> tuple[Program, Manifest]:
        if self._loaded is None or self._loaded[0] != order.manifest:
            home = Path(order.home)
            blobs = Blobs(home / "blobs")
            manifest = decode_manifest(blobs.read(order.manifest))
            self._loaded = (order.manifest, load_program(manifest, blobs, home / "code"), manifest)
        return self._loaded[1:]


class _Moment:
    """A clock that can be set; it goes on by itself while nobody has."""

    def __init__(self) -> None:
        self.at: datetime | None = None
        self.clock = Clock(now=self._now)

    def _now(self) -> datetime:
        return Clock().now() if self.at is None else self.at


async def _answer(program: Program, manifest: Manifest, order: AskOrder) -> tuple[Given, ...]:
    moment, raised = _Moment(), list[BaseException]()
    policy, seed, worker = manifest.policy.serve, order.seed, f"ask-{os.getpid()}"
    # Segments are named by the real time, in whose order they are taken in, whatever time is played.
    log = PredictionLog(
        Path(order.home),
        program.pipeline,
        worker=worker,
        clock=Clock(),
        durability=policy.durability,
        redact=policy.redact,
        noise_at=None if seed is None else lambda at: _noise(seed, at),
    )
    limits = Limits(threads=policy.threads, queue=policy.queue, batch_rows=policy.batch_rows)
    about = Worker(slot=0, pid=os.getpid(), pipeline=program.pipeline, functions=tuple(program.functions))
    patient = _patient(program, order.patience)
    plane = Plane(patient, order.release, log=log, counters=Counters(None, about), limits=limits, clock=moment.clock)
    plane.tell_errors_to(raised.append)
    try:
        plane.warm_up()
        given = []
        for ask in order.asks:
            moment.at = ask.at
            raised.clear()
            given.append(await _ask(plane, patient, ask, raised))
        return tuple(given)
    finally:
        plane.close()
        log.close()


async def _ask(plane: Plane, program: Program, ask: Ask, raised: list[BaseException]) -> Given:
    try:
        function = program.function(ask.function)
        fields = function.fields.parse(ask.body)
    except PenstockError as error:
        return Given(kept=False, error=(error.code, error.message, error.hint))
    rows = function.fields.rows
    question = Question(
        function=function,
        fields=(fields,),
        count=1 if rows is None else len(getattr(fields, rows)),
        body=ask.body,
        kind="json-rows" if function.fields.is_batched and ask.body.lstrip()[:1] == b"[" else "json",
        protocol="json",
    )
    done: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
    plane.ask(question, done.set_result)
    answered = await done
    return Given(
        answer=msgspec.Raw(answered.json),
        prediction_id=answered.prediction_id,
        fallback=answered.fallback,
        kept=answered.is_kept,
        error=None if answered.trouble is None else _told(ask.function, answered, raised),
    )


def _told(name: str, answered: Answered, raised: list[BaseException]) -> tuple[str, str, str]:
    """Return why there is no answer; who asks by this process is the owner of the code, and sees what it raised."""
    said = "" if answered.trouble is None else answered.trouble.message
    if not raised or isinstance(raised[0], TimeoutError | BlockingIOError):
        return "step", f"Serve function {name!r} did not answer: {said}", "ask again, or raise its deadline"
    error = raised[0]
    message = f"{user_frames(error)}Serve function {name!r} failed: {type(error).__qualname__}: {error}."
    return "step", message, "call the function by itself to debug it"


def _patient(program: Program, patience: float) -> Program:
    if patience == 1.0:
        return program
    functions = {
        name: function
        if function.deadline_s is None
        else dataclasses.replace(function, deadline_s=function.deadline_s * patience)
        for name, function in program.functions.items()
    }
    return dataclasses.replace(program, functions=functions)


def _noise(seed: str, at: datetime) -> bytes:
    return bytes.fromhex(digest_value([seed, at.isoformat()])[:_NOISE_LETTERS])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
