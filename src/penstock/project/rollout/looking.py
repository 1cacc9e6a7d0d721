"""Looks at a rollout: what was answered in its stage, what guards say of that, and the move that follows."""

import time
from datetime import datetime, timedelta
from typing import Any

import msgspec
import polars as pl
import structlog

from penstock.checks.sequential import Moments
from penstock.core import faults
from penstock.core.errors import CheckError, InputError
from penstock.core.settings import Policy
from penstock.core.states import RolloutState
from penstock.monitoring.guards import Answer, Guard, Tally, add, judge, tally_of
from penstock.project.contracts import refuse_breaking
from penstock.project.rollout.finishing import BY, finish
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.manifest import Manifest
from penstock.releases.rollout import Found, Move, Stage, decide, parse_stages
from penstock.serving.predictions.following import Followed, Follower
from penstock.serving.predictions.reading import SHADOW, feedback_frame, predictions_frame
from penstock.store.ledger import releases, rollouts
from penstock.store.ledger.rollouts import Rollout

_CANARY = "canary"
# A look takes the answers of the live release by a sample: precision comes from the candidate's, which are fewer.
_MOST_OF_BASE = 2_000
_TRUTH_EVERY_S = 5.0
_NOTE_EVERY_S = 2.0
_events = structlog.get_logger("penstock.rollout")


class Watch:
    """Watches one rollout in one stage; made anew for the next.

    Args:
        workspace: The project.
        rollout: Under way.
    """

    def __init__(self, workspace: Workspace, rollout: Rollout) -> None:
        self._workspace = workspace
        self.rollout = rollout
        self._stages = parse_stages(rollout.stages)
        with workspace.ledger.read() as conn:
            release = releases.get(conn, rollout.ref)
        self._manifest = read_manifest(release.manifest_digest, workspace)
        self._follower = Follower(workspace.home, rollout.pipeline, rollout.entered_at)
        self._tallies = {str(rollout.ref): _empty(), str(rollout.base_ref): _empty()}
        self._truth_due_s = self._note_due_s = 0.0
        self._truth: dict[str, dict[str, Moments]] = {}

    @property
    def policy(self) -> Policy:
        """What the candidate says about its own rollout."""
        return self._manifest.policy

    def is_of(self, rollout: Rollout) -> bool:
        """Whether this is the watch of a rollout as it stands now."""
        mine = self.rollout
        return (mine.id, mine.stage, mine.stages, mine.entered_at) == (
            rollout.id,
            rollout.stage,
            rollout.stages,
            rollout.entered_at,
        )

    def look(self, now: datetime) -> Rollout:
        """Read what is new, judge it, and make the move that is due; return the rollout as it stands then.

        Raises:
            StoreError: The store is away.
        """
        self._read()
        guards = self._judge()
        candidate = self._tallies[str(self.rollout.ref)]
        broken = tuple(guard.said for guard in guards if guard.is_broken)
        move = decide(
            self._stages,
            self.rollout.stage,
            held=now - self.rollout.entered_at,
            hold=timedelta(seconds=self.rollout.hold_s),
            found=Found(requests=candidate.n, broken=broken),
            least=self.policy.guarding.requests,
        )
        if self.rollout.state is RolloutState.PAUSED and move.action in {"advance", "finish"}:
            move = Move(action="stay", reason=f"paused: {self.rollout.reason}")
        if move.action in {"advance", "finish"}:
            try:
                refuse_breaking(self._workspace, self._manifest, str(self.rollout.ref))
            except CheckError as error:  # an application came during the rollout: a person has to decide
                return self._move(RolloutState.PAUSED, str(error), self._figures(move, guards))
        return self._carry_out(move, guards)

    def close(self) -> None:
        """Let go of the log."""
        self._follower.close()

    def _read(self) -> None:
        mine, base = str(self.rollout.ref), str(self.rollout.base_ref)
        found: dict[str, list[Followed]] = {mine: [], base: []}
        heard = {mine: {SHADOW, _CANARY}, base: {""}}
        for entry in self._follower.read():
            if entry.release in found and entry.variant in heard[entry.release]:
                found[entry.release].append(entry)
        every = max(len(found[base]) // _MOST_OF_BASE, 1)
        found[base] = found[base][::every]
        promise_ms = self.policy.slo.get("p99_ms")
        for release, entries in found.items():
            answers = [_answer_of(entry) for entry in entries]
            tally = tally_of(answers, promise_us=None if promise_ms is None else promise_ms * 1000)
            self._tallies[release] = add(self._tallies[release], tally)
        now_s = time.monotonic()
        if now_s >= self._truth_due_s:
            self._truth = truth_by_release(self._workspace, self.rollout, self._manifest)
            # However much there is to read, most of the time is for answers.
            self._truth_due_s = time.monotonic() + max(_TRUTH_EVERY_S, 20 * (time.monotonic() - now_s))

    def _judge(self) -> tuple[Guard, ...]:
        base, candidate = (
            msgspec.structs.replace(self._tallies[release], truth=self._truth.get(release, {}))
            for release in (str(self.rollout.base_ref), str(self.rollout.ref))
        )
        return judge(
            base,
            candidate,
            alpha=self.policy.guarding.false_rollbacks,
            stages=len(self._stages) - 1,
            availability=self.policy.slo.get("availability"),
        )

    def _carry_out(self, move: Move, guards: tuple[Guard, ...]) -> Rollout:
        figures = self._figures(move, guards)
        match move.action:
            case "stay":
                if time.monotonic() >= self._note_due_s and figures != self.rollout.figures:
                    self._note_due_s = time.monotonic() + _NOTE_EVERY_S
                    with self._workspace.ledger.write() as conn:
                        rollouts.note(conn, self.rollout, figures)
                return self.rollout
            case "advance":
                return self._move(RolloutState.RUNNING, move.reason, figures, stage=self.rollout.stage + 1)
            case "finish":
                return self._move(RolloutState.DONE, move.reason, figures, stage=len(self._stages) - 1)
            case "roll_back":
                return self._move(RolloutState.ROLLED_BACK, move.reason, figures)

    def _move(self, state: RolloutState, reason: str, figures: dict[str, Any], *, stage: int | None = None) -> Rollout:
        faults.point("rollout_before_move")
        try:
            with self._workspace.ledger.write() as conn:
                moved = finish(conn, self.rollout, reason, figures) if state is RolloutState.DONE else None
                if moved is None:
                    moved = rollouts.move(conn, self.rollout, state, by=BY, reason=reason, stage=stage, figures=figures)
        except InputError:  # a person, or another server, was quicker
            with self._workspace.ledger.read() as conn:
                return rollouts.get(conn, self.rollout.id)
        said = _events.error if state is RolloutState.ROLLED_BACK else _events.info
        said("rollout_moved", release=str(moved.ref), state=moved.state.value, stage=moved.stage_name, reason=reason)
        return moved

    def _figures(self, move: Move, guards: tuple[Guard, ...]) -> dict[str, Any]:
        mine, base = self._tallies[str(self.rollout.ref)], self._tallies[str(self.rollout.base_ref)]
        found: dict[str, Any] = {
            "requests": mine.n,
            "requests_of_base": base.n,
            "said": move.reason,
            "guards": [_plain(guard) for guard in guards],
        }
        return found


def truth_by_release(workspace: Workspace, rollout: Rollout, manifest: Manifest) -> dict[str, dict[str, Moments]]:
    """Return what became of the answers of candidate and live release in this stage, by what is said of them.

    Values are turned so that more is better: an outcome with a negative value is better when there is less of it.
    """
    said = feedback_frame(workspace.home, rollout.pipeline).filter(pl.col("value").is_finite())
    asked = predictions_frame(workspace.home, rollout.pipeline, since=rollout.entered_at).filter(
        pl.col("release").is_in([str(rollout.ref), str(rollout.base_ref)]), pl.col("variant").is_in(["", _CANARY])
    )
    joined = asked.select("prediction_id", "release").join(
        said.select("prediction_id", "name", "source", "value"), on="prediction_id", how="inner"
    )
    sums = joined.group_by("release", "name", "source").agg(
        pl.len().alias("n"), pl.col("value").mean().alias("mean"), (pl.col("value").var(ddof=0) * pl.len()).alias("m2")
    )
    worse = {
        node.name for node in manifest.graph.nodes if node.role == "outcome" and _worth(node.options.get("value")) < 0
    }
    found: dict[str, dict[str, Moments]] = {}
    for row in sums.collect(engine="streaming").iter_rows(named=True):
        sign = -1 if row["source"] == "outcome" and row["name"] in worse else 1
        moments = Moments(n=row["n"], mean=sign * row["mean"], m2=row["m2"])
        found.setdefault(row["release"], {})[f"{row['source']} {row['name']}"] = moments
    return found


def stage_of(rollout: Rollout) -> Stage:
    """Return the stage that a rollout is at."""
    return parse_stages(rollout.stages)[rollout.stage]


def _worth(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _answer_of(entry: Followed) -> Answer:
    return Answer(
        serve=entry.serve,
        answer=bytes(entry.answer),
        answer_us=entry.timings.get("answer_us", 0),
        error=entry.error,
        fallback=entry.fallback,
    )


def _empty() -> Tally:
    return Tally(features={}, distinct=set(), truth={})


def _plain(guard: Guard) -> dict[str, Any]:
    """Return a guard as JSON, which has no infinities."""
    found: dict[str, Any] = msgspec.to_builtins(guard)
    return {name: value if value not in (float("inf"), float("-inf")) else None for name, value in found.items()}
