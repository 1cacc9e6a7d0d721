"""alibi-detect's tabular drift with its defaults: Bonferroni over columns at p < 0.05."""

import judged
import numpy as np
import pandas as pd
from alibi_detect.cd import TabularDrift


def columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    names = list(reference)
    words = [at for at, name in enumerate(names) if reference[name].dtype == object]
    both = pd.concat([reference, current]).reset_index(drop=True)
    for at in words:
        both[names[at]] = both[names[at]].astype("category").cat.codes
    numbers = both.fillna(both.mean(numeric_only=True)).to_numpy(dtype=np.float64)
    before, after = numbers[: len(reference)], numbers[len(reference) :]
    detector = TabularDrift(before, p_val=0.05, categories_per_feature=dict.fromkeys(words))
    found = detector.predict(after, drift_type="batch")["data"]
    alarms = found["p_val"] <= found["threshold"]
    return [name for name, is_alarm in zip(names, alarms, strict=True) if is_alarm]


judged.run(columns)
