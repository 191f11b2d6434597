"""The sweep of LipDiffuser's Figure 4 at full size: 1,321 utterances at six SNRs, a free system.

Speech and noise are made here. Mixing is lazy: nothing is written. A counting view shows how often
a clip was decoded, mixed and given to a network.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from usage import watch

UTTERANCES = 1321
SNRS = (5, 0, -5, -10, -15, -20)
METRICS = ("dnsmos_p808", "si_sdr", "loudness", "peak")

PLUGIN = """
import os
from pathlib import Path
from phonoscope import Audio, metric, view
from phonoscope.metrics.speech import speech16k

@view(of=speech16k, version="1", batch=8)
class levels:
    def load(self, device):
        pass

    def __call__(self, batch):
        return [self._levels(sound) for sound in batch]

    def _levels(self, sound: Audio):
        line = f"{hash(sound.samples.tobytes())}\\n".encode()
        file = os.open(os.environ["COUNTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line)
        os.close(file)
        return {"mean": float(abs(sound.samples).mean()), "peak": float(abs(sound.samples).max())}

@metric(unit="-", better="higher", generated=levels, reference=levels)
def loudness(generated: dict, reference: dict) -> float:
    "Mean magnitude over the reference's."
    return generated["mean"] / reference["mean"]

@metric(unit="-", better="lower", generated=levels)
def peak(generated: dict) -> float:
    "Largest magnitude."
    return generated["peak"]
"""


def make(folder: Path) -> None:
    """Write speech-like utterances of 2 to 4 s with a manifest, and four noises of a minute."""
    from phonoscope import Audio
    from phonoscope.media import write_wav

    for role in ("speech", "noise"):
        (folder / role).mkdir()
    rows = ["id,group,audio,reference"]
    for number in range(UTTERANCES):
        rng = np.random.default_rng(number)
        time = np.arange(int(rng.uniform(2, 4) * 16_000)) / 16_000
        pitch = rng.uniform(90, 220) * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(2, 5) * time))
        voice = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / 16_000) / k for k in range(1, 9))
        syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time), 0, None)
        file = f"speech/{number:04d}.wav"
        write_wav(folder / file, Audio((0.2 * voice * syllables).astype(np.float32), 16_000))
        rows.append(f"{number // 3:03d}/{number:04d},{number // 3:03d},{file},{file}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    for number in range(4):
        rng = np.random.default_rng(10_000 + number)
        noise = 0.1 * rng.standard_normal(60 * 16_000).astype(np.float32)
        write_wav(folder / f"noise/{number}.wav", Audio(noise, 16_000))
    (folder / "plugin.py").write_text(PLUGIN)


def child(folder: str) -> None:
    """Run the sweep, in a process of its own."""
    from phonoscope import runner

    board = runner.run(
        {
            "name": "sweep",
            "task": "lip2speech",
            "datasets": [
                {
                    "name": "made",
                    "kind": "manifest",
                    "options": {
                        "path": f"{folder}/manifest.csv",
                        "noise": {"white": f"{folder}/noise"},
                    },
                }
            ],
            "systems": ["noisy"],
            "conditions": {"snr_db": list(SNRS)},
            "metrics": list(METRICS),
        },
        f"{folder}/store",
        workers=2,
        plugin_files=[f"{folder}/plugin.py"],
    )
    done = sum(cell.estimate.n for row in board.rows for cell in row.cells.values())
    assert done == UTTERANCES * len(SNRS) * len(METRICS), done


def main() -> None:
    """Print time, memory and counts."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        counted = folder / "counted"
        os.environ |= {"COUNTED": str(counted), "PYTHONHASHSEED": "0"}
        before = set(folder.rglob("*.wav"))
        first = watch([sys.executable, __file__, name])
        calls = Counter(counted.read_text().split())
        again = watch([sys.executable, __file__, name])
        written = set(folder.rglob("*.wav")) - before
        counted_again = len(counted.read_text().split()) - calls.total()
    clips = UTTERANCES * (len(SNRS) + 1)
    print(
        f"{clips} clips, {len(METRICS)} metrics: {first.wall:.0f} s, {first.cores:.2f} cores busy"
    )
    print(f"peak memory of all processes {first.peak:.0f} MiB; mixtures written: {len(written)}")
    print(f"network saw {calls.total()} clips, {max(calls.values())} time(s) each at most")
    print(f"second run: {again.wall:.1f} s, network saw {counted_again} clips")


if __name__ == "__main__":
    child(sys.argv[1]) if len(sys.argv) == 2 else main()
