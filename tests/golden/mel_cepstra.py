"""Make `mel_cepstra.json` with SPTK itself: `python tests/golden/mel_cepstra.py`.

Needs pysptk (1.0.1 made the file), which has to be compiled: so tests read its numbers from here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")
FRAME, HOP, ORDER, WARPING, FLOOR = 1024, 256, 23, 0.42, 1e-6


def signals() -> dict[str, np.ndarray]:
    """Return what is analysed: 2000 samples each, from -120 to 0 dB below full scale."""
    n = np.arange(2000)
    noise = np.random.default_rng(0).standard_normal(2000)
    pulses = np.zeros(2000)
    pulses[::123] = 1.0
    ringing = np.exp(-n[:200] / 30) * np.sin(n[:200] * 0.3)
    return {
        "noise": 0.1 * noise,
        "voice": 0.5 * np.convolve(pulses, ringing)[:2000] + 1e-4 * noise,
        "tone": 0.9 * np.sin(n * 0.7),
        "fade": noise * 10 ** (-6 * n / 2000),
        "click": np.eye(1, 2000, 700)[0],
        "clipped": np.clip(20 * noise, -1, 1),
        "silence": np.zeros(2000),
    }


def main() -> None:
    """Write the mel-cepstra, shape (4, 24) per signal."""
    import pysptk

    window = pysptk.sptk.hamming(FRAME)
    found = {}
    for name, signal in signals().items():
        frames = np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::HOP]
        cepstra = [pysptk.mcep(f * window, ORDER, WARPING, eps=FLOOR, etype=1) for f in frames]
        found[name] = np.round(cepstra, 12).tolist()
    FILE.write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
