"""An open loop at one rate, by the generator of `penstock load`; prints what came of it.

A process of its own: `python -m benchmarks.serving.steady PORT PATH BODIES RATE SECONDS`.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from penstock.serving.load.callers import Timetable
from penstock.serving.load.outcomes import LoadOrder, Phase

SEED = 11
CONNECTIONS = 128
RESPITE_S = 2.0  # how long answers are waited for after the last request was due


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    head = f"POST {options.path} HTTP/1.1\r\nhost: 127.0.0.1:{options.port}\r\ncontent-type: application/json\r\n"
    order = LoadOrder(
        host="127.0.0.1",
        port=options.port,
        requests=tuple(
            head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body
            for body in options.bodies.read_bytes().splitlines()
        ),
        phases=(Phase(options.rate, options.seconds),),
        seed=SEED,
        connections=CONNECTIONS,
        patience_s=RESPITE_S,
    )
    found = Timetable(order).run()
    latencies = found.latency_s[found.status > 0]
    p50_s, p99_s = np.percentile(latencies, [50, 99]) if len(latencies) else (float("nan"), float("nan"))
    print(
        json.dumps(
            {
                "answers": len(latencies),
                "seconds": found.wall_s,
                "p50_ms": 1000 * float(p50_s),
                "p99_ms": 1000 * float(p99_s),
                "refused": int(((found.status > 0) & (found.status != 200)).sum()),
                "broken": len(found.due) - len(latencies),
            }
        )
    )


if __name__ == "__main__":
    main()
