"""whylogs' drift scores with its defaults: each column has the algorithm and thresholds of its kind."""

import judged
import pandas as pd
import whylogs
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores


def columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    before, after = (whylogs.log(frame).profile().view() for frame in (reference, current))
    scores = calculate_drift_scores(target_view=after, reference_view=before, with_thresholds=True)
    return [name for name, score in scores.items() if score and score.get("drift_category") == "DRIFT"]


judged.run(columns)
