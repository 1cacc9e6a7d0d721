"""NannyML's univariate drift with its defaults: Jensen-Shannon distance, threshold of three deviations over chunks."""

import judged
import nannyml
import pandas as pd


def columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    words = [name for name in reference if reference[name].dtype == object]
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=list(reference), treat_as_categorical=words, chunk_number=10
    )
    found = calculator.fit(reference).calculate(current)
    frame = found.filter(period="analysis").to_df()
    alarms = frame.loc[:, [name for name in frame.columns if name[-1] == "alert"]]
    return sorted({name[0] for name in alarms if alarms[name].any()})


judged.run(columns)
