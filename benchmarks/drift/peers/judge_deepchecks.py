"""deepchecks' feature drift with the condition of its own suites."""

import judged
import pandas as pd
from deepchecks.tabular import Dataset
from deepchecks.tabular.checks import FeatureDrift


def columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    words = [name for name in reference if reference[name].dtype == object]
    before, after = (Dataset(frame, cat_features=words) for frame in (reference, current))
    found = FeatureDrift().run(train_dataset=before, test_dataset=after)
    limits = {"Cramer's V": 0.2, "Kolmogorov-Smirnov": 0.2, "Earth Mover's Distance": 0.2}
    return [name for name, one in found.value.items() if (one["Drift score"] or 0) > limits.get(one["Method"], 0.2)]


judged.run(columns)
