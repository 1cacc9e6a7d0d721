"""Evidently with its defaults: one alarm for each column that its preset calls drifted."""

import judged
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset


def columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    found = Report([DataDriftPreset()]).run(current, reference).dict()
    moved = []
    for metric in found["metrics"]:
        config = metric.get("config", {})
        if "column" in config and "threshold" in config:
            value = float(metric["value"])
            is_p = "p_value" in str(config.get("method", "")) or "p_value" in metric["metric_name"]
            if value < config["threshold"] if is_p else value >= config["threshold"]:
                moved.append(config["column"])
    return moved


judged.run(columns)
