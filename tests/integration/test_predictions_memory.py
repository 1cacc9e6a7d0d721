"""However much was answered: reading it back, compacting it and finding one answer in it need little memory."""

import subprocess
import sys
from pathlib import Path

import pytest

MAKE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import msgspec
from penstock.core.clock import Clock
from penstock.serving.predictions.log import LogEntry, PredictionLog
home, count = Path(sys.argv[1]), int(sys.argv[2])
log = PredictionLog(home, "movies", worker="w0-1", clock=Clock(), segment_bytes=16 * 2**20)
at = datetime(2024, 5, 1, tzinfo=UTC)
fields = msgspec.Raw(msgspec.json.encode({f"f{n}": n * 1.37 for n in range(30)}))
for _ in range(count // 100):
    log.append([
        LogEntry(id=log.new_id(at), at=at, release="movies@1", serve="f", fields=fields, answer=msgspec.Raw(b"0.5"))
        for _ in range(100)
    ])
log.close()
"""
READ = """
import sys
from pathlib import Path
from penstock.serving.predictions.reading import read_predictions
print(sum(1 for _ in read_predictions(Path(sys.argv[1]), "movies")))
"""
COMPACT = """
import sys
from pathlib import Path
from penstock.serving.predictions.compaction import compact
done = compact(Path(sys.argv[1]), "movies")
print(done.predictions)
"""
PEAK = """
from pathlib import Path
print(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])
"""


def run(code: str, *words: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + PEAK, *words], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.splitlines() if line.isdigit()]


@pytest.mark.slow
def test_reading_needs_the_same_memory_for_ten_times_the_log(tmp_path: Path) -> None:
    """Segments and table are streamed: the reader's peak grows by less than the log does by far."""
    peaks = []
    for count in (20_000, 200_000):
        home = tmp_path / str(count)
        run(MAKE, str(home), str(count))
        found, peak_kb = run(READ, str(home))
        assert found == count
        peaks.append(peak_kb)
    log_kb = sum(path.stat().st_size for path in (tmp_path / "200000").rglob("*.log")) // 1024
    assert log_kb > 100_000
    assert peaks[1] - peaks[0] < log_kb // 2  # pages of a mapped file count as long as nobody else needs them
    assert run(COMPACT, str(tmp_path / "200000"))[0] == 200_000
    found, peak_kb = run(READ, str(tmp_path / "200000"))
    assert (found, peak_kb - peaks[0] < log_kb) == (200_000, True)
