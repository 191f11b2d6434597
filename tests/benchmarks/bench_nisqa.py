"""NISQA: CPU time per second of sound with the network loaded, against its floor and the original.

The floor is mel spectrogram and network alone, on decoded sounds. The original is the published
program's own loop, where NISQA_CHECKOUT names a checkout of gabrielmittag/NISQA (it needs librosa
and matplotlib); its loop took 0.024 CPU seconds per second of these clips, measured elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from usage import watch

OFFICIAL = 0.024
BATCH = 16
DIMENSIONS = ("mos", "noi", "dis", "col", "loud")


def clips(demo: Path, folder: Path) -> list[Path]:
    """Write the 35 demo clips that carry a system's speech as 16 kHz WAV."""
    from phonoscope import Clip
    from phonoscope.media import read_audio, write_wav

    systems = ("orig", "noisy", "avgen", "diffv2s", "il2s_ssl", "lipvoicer", "lipdiffuser")
    found = sorted(file for system in systems for file in (demo / system).glob("*/*.mp4"))
    for number, file in enumerate(found):
        write_wav(folder / f"{number:03d}.wav", read_audio(Clip(str(file)), rate=16_000))
    return sorted(folder.glob("*.wav"))


def cpu(work: Callable[[], Any], *, repeats: int = 3) -> tuple[float, Any]:
    """Return the least CPU time of some repeats, and what the work gave."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


def ours(files: list[Path]) -> tuple[float, np.ndarray]:
    """Decode, guard and score all files with the network loaded."""
    from phonoscope import Clip
    from phonoscope.media import read_audio
    from phonoscope.metrics import nisqa
    from phonoscope.views import network

    score = network(nisqa.nisqa_scores, "cpu")

    def work() -> list[dict[str, float]]:
        found = []
        for i in range(0, len(files), BATCH):
            part = files[i : i + BATCH]
            found += score([read_audio(Clip(str(file)), rate=16_000) for file in part])
        return found

    work()
    seconds, scores = cpu(work)
    return seconds, np.array([[each[name] for name in DIMENSIONS] for each in scores])


def floor(files: list[Path]) -> float:
    """Return the CPU time of mel spectrograms and the network alone."""
    from phonoscope import Clip, weights
    from phonoscope.media import read_audio
    from phonoscope.metrics.networks import nisqa

    sounds = [read_audio(Clip(str(file)), rate=16_000) for file in files]
    net = nisqa.read(weights.locate(nisqa.Nisqa.weight), "cpu")

    def work() -> None:
        seen = [nisqa.segments(nisqa.spectrogram(sound)) for sound in sounds]
        for i in range(0, len(seen), BATCH):
            nisqa.infer(net, seen[i : i + BATCH], "cpu")

    work()
    return cpu(work)[0]


def official(checkout: Path, folder: Path) -> tuple[float, np.ndarray]:
    """Run the published loop, its network loaded, one file per step as its default is."""
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(checkout))
    from nisqa.NISQA_model import nisqaModel

    arguments = {
        "mode": "predict_dir",
        "pretrained_model": str(checkout / "weights/nisqa.tar"),
        "data_dir": str(folder),
        "output_dir": None,
        "ms_channel": None,
        "tr_bs_val": 1,
        "tr_num_workers": 0,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        model = nisqaModel(arguments)
        model.predict()
        seconds, table = cpu(model.predict)
    table = table.sort_values("deg")
    return seconds, table[[f"{name}_pred" for name in DIMENSIONS]].to_numpy()


def busy(folder: Path) -> float:
    """Return how many cores a whole run with two workers uses, on copies at twenty levels."""
    from phonoscope import Audio, Clip
    from phonoscope.media import read_audio, write_wav

    many = folder / "many"
    many.mkdir()
    for file in sorted(folder.glob("*.wav")):
        sound = read_audio(Clip(str(file)), rate=16_000)
        for step in range(20):
            level = np.float32(1 - step / 100)
            write_wav(many / f"{file.stem}-{step}.wav", Audio(sound.samples * level, 16_000))
    return watch([sys.executable, __file__, str(many)]).cores


def child(folder: str) -> None:
    """Score a folder, in a process of its own."""
    from phonoscope import scoring

    found = scoring.scores(folder, metrics=["nisqa_mos"], store=f"{folder}-store", workers=2)
    assert found.failed == 0


def main() -> None:
    """Print the ratios."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    shared = Path(__file__).parents[3] / "shared"
    data = Path(os.environ.get("PHONOSCOPE_TEST_DATA") or shared / "data")
    os.environ.setdefault("PHONOSCOPE_WEIGHTS", str(shared / "weights"))
    os.environ.setdefault("PHONOSCOPE_ACCEPT_LICENSES", "nisqa")
    if not (data / "lrs3_demo").is_dir():
        print("skipped: the LRS3 demo clips are not here; PHONOSCOPE_TEST_DATA names their folder")
        return
    with tempfile.TemporaryDirectory() as name:
        report(data / "lrs3_demo", Path(name))


def report(demo: Path, folder: Path) -> None:
    """Measure everything on the same files."""
    from phonoscope import Clip
    from phonoscope.media import read_audio

    files = clips(demo, folder)
    seconds = sum(read_audio(Clip(str(file)), rate=16_000).seconds for file in files)
    taken, scores = ours(files)
    least = floor(files)
    print(f"ours {taken / seconds:.4f} CPU s per second of sound, {len(files)} clips decoded")
    print(f"floor (mel and network) {least / seconds:.4f}: ratio {taken / least:.2f}")
    if checkout := os.environ.get("NISQA_CHECKOUT"):
        theirs, expected = official(Path(checkout), folder)
        print(f"original {theirs / seconds:.4f}: ours takes {taken / theirs:.2f} of it")
        print(f"largest difference of a score {np.max(np.abs(scores - expected)):.1e}")
    else:
        print(f"original {OFFICIAL} elsewhere; NISQA_CHECKOUT=... measures it here")
    print(f"a run with two workers keeps {busy(folder):.2f} cores busy, start-up included")


if __name__ == "__main__":
    child(sys.argv[1]) if len(sys.argv) == 2 else main()
