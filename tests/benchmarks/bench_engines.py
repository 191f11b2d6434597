"""PESQ and ESTOI through the `processes` engine on two cores, against the same on one.

Both engines are warm: each has measured another set of pairs before the clock starts.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

PAIRS = 48
METRICS = ("pesq_wb", "estoi")


def speechlike(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Return noise under a syllable-like envelope."""
    count = int(seconds * 16_000)
    envelope = np.abs(np.sin(np.arange(count) * 2 * np.pi * 3 / 16_000)) ** 2
    colour = np.convolve(rng.standard_normal(count), np.hanning(12), mode="same")
    return (0.1 * envelope * colour).astype(np.float32)


def pairs(folder: Path, seed: int) -> None:
    """Write references and noisy copies."""
    from phonoscope import Audio
    from phonoscope.media import write_wav

    rng = np.random.default_rng(seed)
    for number in range(PAIRS):
        clean = speechlike(rng, 4.0)
        noisy = clean + 0.02 * rng.standard_normal(len(clean)).astype(np.float32)
        for role, sound in (("reference", clean), ("generated", noisy)):
            path = folder / role / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_wav(path, Audio(sound, 16_000))


def seconds(folder: Path, engine: object, store: Path) -> float:
    """Return the wall time of measuring one folder."""
    from phonoscope import scoring
    from phonoscope.measure import Planner, measure
    from phonoscope.store import RunStore

    names = str(folder / "generated"), str(folder / "reference")
    protocol = scoring._protocol(*names, METRICS, "lip2speech", None)
    start = time.perf_counter()
    measure(Planner(protocol, RunStore(store), {}), engine)
    return time.perf_counter() - start


def main() -> None:
    """Print the ratio."""
    from phonoscope import engines

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        pairs(root / "warm", 1)
        pairs(root / "real", 2)
        took = {}
        for workers in (1, 2):
            engine = engines.make("processes", workers=workers)
            seconds(root / "warm", engine, root / f"warm-{workers}")
            took[workers] = seconds(root / "real", engine, root / f"real-{workers}")
            engine.close()
    ratio = took[1] / took[2]
    print(f"{PAIRS} pairs: one core {took[1]:.2f} s, two cores {took[2]:.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
