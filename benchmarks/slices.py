"""How often the search for the worst slices is wrong, how often it finds what was planted, and how long it takes."""

import time
from collections.abc import Callable

import numpy as np
import polars as pl
from benchmarks.table import Row

from penstock.checks.cells import searchable
from penstock.checks.statistics import Floats
from penstock.checks.worst_slices import Limits, Searched, search_slices

CLEAN = 200
PLANTED = 100
ROWS = 5_000
GAINS = 1 / np.log2(np.arange(2, 12))
Draw = Callable[[np.random.Generator, int], Floats]


def rows() -> list[Row]:
    return [*false_blocks(), *planted(), speed()]


def described(rng: np.random.Generator, n: int, *, words: int = 6, numbers: int = 4) -> pl.DataFrame:
    """Return rows with columns of five words each, and of numbers."""
    known = {f"word{at}": rng.choice(list("abcde"), n) for at in range(words)}
    return pl.DataFrame(known | {f"number{at}": rng.normal(size=n) for at in range(numbers)})


def _ndcg(rng: np.random.Generator, n: int) -> Floats:
    return np.where(rng.random(n) < 0.3, rng.choice(GAINS, n), 0.0)


def _hit(rng: np.random.Generator, n: int) -> Floats:
    return (rng.random(n) < 0.1).astype(np.float64)


def _rare(rng: np.random.Generator, n: int) -> Floats:
    return np.where(rng.random(n) < 0.02, rng.lognormal(0, 1.5, n), 0.0)


DRAWS: dict[str, Draw] = {
    "normal scores": lambda rng, n: rng.normal(size=n),
    "NDCG": _ndcg,
    "hits of one in ten": _hit,
    "rare and heavy": _rare,
}


def false_blocks() -> list[Row]:
    found = []
    for name, draw in DRAWS.items():
        for n in (1_000, ROWS):
            blocked = [bool(_search(draw, n, seed, lost=0.0).found) for seed in range(CLEAN)]
            what = f"false blocks of an equal candidate, {name}, {n:,} rows, {CLEAN} evaluations"
            found.append(Row(what, 100 * float(np.mean(blocked)), "%", limit=5))
    return found


def planted() -> list[Row]:
    found = []
    for lost in (0.5, 1.0, 1.5):
        searched = [_search(DRAWS["normal scores"], ROWS, 10_000 + seed, lost=lost) for seed in range(PLANTED)]
        hits = [any({c for c, _ in one.parts} == {"word0", "number0"} for one in each.found) for each in searched]
        others = sum(len(each.found) for each in searched) - sum(hits)
        what = f"a bad pair (2 % of {ROWS:,} rows) missed, worse by {lost} standard deviations"
        found.append(Row(what, 100 - 100 * float(np.mean(hits)), "%", note=f"{others} other slices told"))
    return found


def speed() -> Row:
    rng = np.random.default_rng(0)
    frame = described(rng, 100_000, words=8, numbers=5).with_columns(
        pl.Series(f"count{at}", rng.integers(0, 30, 100_000)) for at in range(2)
    )
    gains = rng.normal(size=100_000)
    started = time.perf_counter()
    searched = search_slices(frame, searchable(frame), gains)
    taken = time.perf_counter() - started
    return Row("100,000 rows of 15 columns searched", taken, "s", limit=2, note=f"{searched.judged:,} slices")


def _search(draw: Draw, n: int, seed: int, *, lost: float) -> Searched:
    rng = np.random.default_rng(seed)
    frame = described(rng, n)
    base = draw(rng, n)
    bad = (frame["word0"] == "a") & (frame["number0"] > float(np.quantile(frame["number0"], 0.9)))
    gains = draw(rng, n) - base - lost * base.std() * bad.to_numpy()
    return search_slices(frame, searchable(frame), gains, unit=float(base.std()), limits=Limits())
