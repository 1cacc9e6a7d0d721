"""Writes the folder that `mlserver start` serves: its runtimes for scikit-learn and LightGBM, or all in one process.

Run as `python mlserver_folder.py FOLDER PORT PARALLEL_WORKERS`; becomes the server.
"""

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    folder, port, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    model = os.environ["SERVING_MODEL"]
    runtime = "mlserver_lightgbm.LightGBMModel" if model.endswith(".txt") else "mlserver_sklearn.SKLearnModel"
    settings = {"parallel_workers": workers, "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings | {"host": "127.0.0.1", "debug": False}))
    (folder / "model-settings.json").write_text(
        json.dumps({"name": "score", "implementation": runtime, "parameters": {"uri": model}})
    )
    program = Path(sys.executable).parent / "mlserver"
    os.execv(program, [str(program), "start", str(folder)])
