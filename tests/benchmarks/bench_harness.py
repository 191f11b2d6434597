"""Harness overhead: cells per second with free metrics, resuming, and peak memory.

Run it with ``python tests/benchmarks/bench_harness.py``. The metrics do nothing, so all time is the
harness: planning, digests, engine, store, statistics and rendering.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PLUGIN = """
from pathlib import Path
from phonoscope import Audio, Clip, Dataset, Sample, audio, dataset, metric

@dataset
def tiny(name, *, folder, count=0):
    files = sorted(Path(folder).glob("*.wav"))[:count]
    samples = [Sample(f.stem, f.stem[:3], {"audio": Clip(str(f))}, Clip(str(f))) for f in files]
    return Dataset(name, tuple(samples), f"tiny-{count}")

def _make(number):
    def free(generated: Audio) -> float:
        return float(generated.samples[number])
    free.__name__ = free.__qualname__ = f"free_{number}"
    free.__doc__ = "Nothing."
    made = metric(unit="-", better="higher", generated=audio(16_000))(free)
    globals()[made.name] = made

for number in range(10):
    _make(number)
"""


def clips(folder: Path, count: int) -> None:
    """Write `count` short files."""
    from phonoscope import Audio
    from phonoscope.media import write_wav

    rng = np.random.default_rng(0)
    for number in range(count):
        sound = rng.standard_normal(800).astype(np.float32) * np.float32(0.1)
        write_wav(folder / f"{number:06d}.wav", Audio(sound, 16_000))


def child(folder: str, samples: int, metrics: int, store: str) -> None:
    """Run once, in a process of its own; print seconds and peak memory."""
    from phonoscope import runner

    start = time.perf_counter()
    board = runner.run(
        {
            "name": "bench",
            "task": "lip2speech",
            "datasets": [
                {"name": "tiny", "options": {"folder": folder + "/clips", "count": samples}}
            ],
            "systems": ["noisy"],
            "metrics": [f"free_{number}" for number in range(metrics)],
        },
        store,
        workers=2,
        plugin_files=[f"{folder}/plugin.py"],
    )
    took = time.perf_counter() - start
    done = sum(cell.estimate.n for row in board.rows for cell in row.cells.values())
    assert done == samples * metrics, done
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{took:.3f} {peak:.0f}")


def measured(folder: str, samples: int, metrics: int, store: str) -> tuple[float, float]:
    """Return (seconds, peak MiB) of one run in a fresh process."""
    command = [sys.executable, __file__, folder, str(samples), str(metrics), store]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = done.stdout.split()[-2:]
    return float(seconds), float(peak)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "clips").mkdir()
        (root / "plugin.py").write_text(PLUGIN)
        clips(root / "clips", 20_000)
        for samples, metrics in ((2_000, 10), (20_000, 1), (10_000, 10)):
            store = str(root / f"store-{samples}-{metrics}")
            cells = samples * metrics
            cold, peak = measured(folder, samples, metrics, store)
            again, _ = measured(folder, samples, metrics, store)
            print(
                f"{cells:7,} cells ({samples:,} samples x {metrics} metrics): "
                f"{cells / cold:7,.0f} cells/s, {cold:5.2f} s cold, {again:5.2f} s resumed, "
                f"peak {peak:4.0f} MiB"
            )


if __name__ == "__main__":
    if len(sys.argv) == 5:
        child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        main()
