"""Reads pairs of frames from a folder, asks a peer which columns drifted, and prints a line of JSON for each pair."""

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd

Judge = Callable[[pd.DataFrame, pd.DataFrame], list[str]]


def run(judge: Judge) -> None:
    warnings.simplefilter("ignore")
    # By number first, so that one who runs out of time has seen as many of each kind.
    for path in sorted(Path(sys.argv[1]).glob("*-now.parquet"), key=lambda path: path.name.split("-")[1:]):
        name = path.name.removesuffix("-now.parquet")
        frames = [_read(path.with_name(f"{name}-{which}.parquet")) for which in ("before", "now")]
        start = time.process_time()
        try:
            found = {"columns": judge(*frames)}
        except Exception as error:  # noqa: BLE001 - a peer that fails is reported, the others go on
            found = {"error": f"{type(error).__name__}: {error}"[:200]}
        line = {"pair": name, "seconds": time.process_time() - start, **found}
        print("@@" + json.dumps(line), flush=True)


def _read(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    for name in frame:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            frame[name] = frame[name].astype(object)
    return frame
