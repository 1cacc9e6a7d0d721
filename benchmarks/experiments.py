"""Experiments on 64,000 customers who really were randomised: what is found, how soon, and how often wrongly.

The data (Hillstrom, 2008) lie beside the repository under shared/data and are never copied into it.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from benchmarks.table import Row

from penstock.checks.sequential import Moments
from penstock.checks.statistics import Floats, Integers
from penstock.releases.experiments.decide import Decision, Effect, Seen, Tally, Wait, decide, look_at
from penstock.releases.experiments.plan import Arm, Metric, Plan, Usual, Wanted, Wishes, make_plan

DATA = Path(__file__).parents[2] / "shared" / "data" / "hillstrom_email" / "hillstrom.parquet"
NONE, MENS, WOMENS = ARMS = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
START = datetime(2008, 3, 1, tzinfo=UTC)
DAYS = 14.0
EACH = 500
COPIES = 500


class Mail(NamedTuple):
    """Customers in the order in which they come: the number of their arm, whether they came by, whether they bought."""

    arm: Integers
    visit: Floats
    conversion: Floats

    def shuffled(self, seed: int) -> "Mail":
        """Return the customers in another order, each still with the arm it really had."""
        order = np.random.default_rng(seed).permutation(len(self.arm))
        return Mail(self.arm[order], self.visit[order], self.conversion[order])

    def without_effect(self, seed: int) -> "Mail":
        """Return the customers in another order, with arms dealt anew: nothing that was sent makes a difference."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self.arm))
        return Mail(rng.permutation(self.arm), self.visit[order], self.conversion[order])


class Seeing(NamedTuple):
    """One look: after how many customers, what was seen, and what follows."""

    rows: int
    seen: Seen
    found: Wait | Decision


def mail() -> Mail:
    """Return the customers as they lie."""
    frame = pl.read_parquet(DATA, columns=["segment", "visit", "conversion"])
    arm = frame["segment"].replace_strict(list(ARMS), list(range(len(ARMS))), return_dtype=pl.Int64)
    return Mail(
        arm.to_numpy(), frame["visit"].cast(pl.Float64).to_numpy(), frame["conversion"].cast(pl.Float64).to_numpy()
    )


def plan(*, guards: tuple[Metric, ...] = ()) -> Plan:
    """Return a plan made with what the first customers without mail had done: a rate of 11 %."""
    per_key = Moments(n=2000, mean=0.11, m2=2000 * 0.11 * 0.89)
    per_day = 64_000 / DAYS
    usual = Usual(
        per_key=per_key,
        guards={"conversion": Moments(n=2000, mean=0.006, m2=12.0)},
        new_keys=tuple(round(per_day * day) for day in range(1, 15)),
        keys_per_month=per_day * 30,
    )
    wishes = Wishes(
        name="mail",
        arms=tuple(Arm(name=name, share=1 / 3) for name in ARMS),
        outcome=Metric(name="visit"),
        guards=guards,
        effect=Wanted(amount=0.01),
        days=DAYS,
        value=1.0,
    )
    return make_plan(wishes, usual, salt="shop/mail")


def replay(made: Plan, customers: Mail) -> Iterator[Seeing]:
    """Yield a look after every 500 customers, to the end."""
    dealt = np.eye(len(ARMS), dtype=np.int64)[customers.arm]
    ends = np.arange(EACH, len(dealt) + 1, EACH)
    counts = np.cumsum(dealt, axis=0)[ends - 1]
    hits = {
        name: np.cumsum(dealt * of[:, None], axis=0)[ends - 1]
        for name, of in zip(("visit", "conversion"), customers[1:], strict=True)
    }
    for at, rows in enumerate(ends):
        n = dict(zip(ARMS, map(int, counts[at]), strict=True))
        tallies = {
            name: {arm: _tally(n[arm], float(of[at, place])) for place, arm in enumerate(ARMS)}
            for name, of in hits.items()
        }
        seen = Seen(started_at=START, assigned=n, tallies=tallies)
        now = START + timedelta(days=DAYS * int(rows) / len(dealt))
        yield Seeing(int(rows), seen, decide(made, seen, now))


def effects(made: Plan, look: Seeing) -> dict[tuple[str, str, str], Effect]:
    """Return the effects of a look by metric, arm and whom it is compared with."""
    return {(e.metric, e.arm, e.over): e for e in look_at(made, look.seen, START).effects}


def decided(made: Plan, customers: Mail) -> tuple[int, Decision] | None:
    """Return after how many customers an experiment decides, and what; None when it never does."""
    for look in replay(made, customers):
        if isinstance(look.found, Decision):
            return look.rows, look.found
    return None


def wrong(made: Plan, customers: Mail, copies: int) -> tuple[int, int]:
    """Return in how many copies without effect an arm wins, and in how many any look calls any difference sure."""
    wins = ever = 0
    for seed in range(copies):
        looks = list(replay(made, customers.without_effect(seed)))
        first = next((look.found for look in looks if isinstance(look.found, Decision)), None)
        wins += first is not None and first.kind == "wins"
        ever += any(e.found in {"better", "worse"} for look in looks for e in effects(made, look).values())
    return wins, ever


def _tally(n: int, hits: float) -> Tally:
    share = hits / n if n else 0.0
    return Tally(moments=Moments(n=n, mean=share, m2=hits * (1 - share)), is_share=True)


def rows() -> list[Row]:
    if not DATA.exists():
        print(f"experiments: {DATA} is not there; the data lie beside the repository")
        return []
    customers, made = mail(), plan(guards=(Metric(name="conversion", margin=0.1),))
    began = time.process_time()
    wins, ever = wrong(made, customers, COPIES)
    took = time.process_time() - began
    copies = f"{COPIES} copies without effect, {len(customers.arm) // EACH} looks each"
    first = [decided(made, customers.shuffled(seed)) for seed in range(100)]
    found = [rows for rows, decision in filter(None, first) if decision.winner == MENS]
    return [
        Row(f"decides for an arm wrongly, {copies}", 100 * wins / COPIES, "%", limit=5),
        Row(f"calls any difference sure at any look, {copies}", 100 * ever / COPIES, "%", limit=5),
        Row("finds the men's mail best, 100 orders", float(len(found)), "%"),
        Row("customers until then, of 64,000; median", float(np.median(found)), "customers"),
        Row("customers until then; 9 of 10 orders", float(np.quantile(found, 0.9)), "customers"),
        Row("one look at three arms with a guard", took / COPIES / (len(customers.arm) // EACH) * 1e3, "ms"),
    ]
