"""Saves the model as MLflow does it, with a signature of named columns or of an array, and becomes its scoring server.

Run as `python mlflow_model.py FOLDER PORT frame|array`.
"""

import os
import shutil
import sys
from pathlib import Path

import joblib
import lightgbm
import mlflow
import numpy as np
import pandas as pd

if __name__ == "__main__":
    folder, port, form = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    shutil.rmtree(folder, ignore_errors=True)
    array = np.random.default_rng(0).normal(size=(5, 30))
    example = pd.DataFrame(array, columns=[f"x{i}" for i in range(30)]) if form == "frame" else array
    path = os.environ["SERVING_MODEL"]
    if path.endswith(".txt"):
        booster = lightgbm.Booster(model_file=path)
        signature = mlflow.models.infer_signature(example, booster.predict(array))
        mlflow.lightgbm.save_model(booster, folder, signature=signature)
    else:
        pipeline = joblib.load(path)
        signature = mlflow.models.infer_signature(example, pipeline.predict_proba(array))
        mlflow.sklearn.save_model(pipeline, folder, signature=signature, pyfunc_predict_fn="predict_proba")
    program = Path(sys.executable).parent / "mlflow"
    arguments = ["models", "serve", "-m", str(folder), "-p", port, "--env-manager", "local", "-w", "1"]
    os.execv(program, [str(program), *arguments])
