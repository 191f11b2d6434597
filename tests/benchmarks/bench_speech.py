"""A cold run of six speech metrics on 70 pairs, against its floor, and the cached run after it.

The floor is the C core of PESQ, pystoi and the DNSMOS networks alone, on decoded sounds in memory,
over two warm processes. The pairs are made of the LRS3 demo clips: 35, and the same at another
level. VERSA's scorer runs on the same pairs where VERSA_CHECKOUT names a checkout of
wavlab-speech/versa and VERSA_PYTHON the interpreter of an environment with its packages.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

METRICS = ("pesq_wb", "stoi", "estoi", "si_sdr", "dnsmos_p808", "dnsmos_ovrl")
SYSTEMS = ("orig", "noisy", "avgen", "diffv2s", "il2s_ssl", "lipvoicer", "lipdiffuser")


def pairs(demo: Path, folder: Path) -> None:
    """Write 70 generated clips and their references as WAV."""
    from phonoscope import Audio, Clip
    from phonoscope.media import read_audio, write_wav

    for file in sorted((demo / "enhanced").glob("*/*.mp4")):
        speaker = file.parent.name
        reference = read_audio(Clip(str(file)), rate=16_000)
        for system in SYSTEMS:
            path = demo / system / speaker / file.name
            sound = read_audio(Clip(str(path)), rate=16_000)
            for level in (1.0, 0.9):
                name = f"{speaker}/{system}-{level}.wav"
                for role, item in (("generated", sound), ("reference", reference)):
                    target = folder / role / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    scale = level if role == "generated" else 1.0
                    write_wav(target, Audio(item.samples * np.float32(scale), 16_000))


def child(folder: str) -> None:
    """Score once, in a process of its own."""
    from phonoscope import scoring

    found = scoring.scores(
        f"{folder}/generated",
        f"{folder}/reference",
        metrics=METRICS,
        store=f"{folder}/store",
        workers=2,
    )
    assert found.failed == 0
    assert len(found.rows) == 70 * len(METRICS)


def seconds(folder: Path) -> float:
    """Return the wall time of a fresh process that scores, start-up included."""
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, str(folder)], check=True)
    return time.perf_counter() - start


def work(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Do what cannot be left out for one pair."""
    from phonoscope import Audio
    from phonoscope.metrics import dnsmos, intrusive

    generated, reference = (Audio(samples, 16_000) for samples in pair)
    for name in ("pesq_wb", "stoi", "estoi"):
        getattr(intrusive, name)(generated, reference)
    for view in (dnsmos.dnsmos_p808_scores, dnsmos.dnsmos_p835_scores):
        from phonoscope.views import network

        network(view, "cpu")([generated])


def floor(folder: Path) -> float:
    """Return the wall time of the cores and networks alone, over two warm processes."""
    from phonoscope import Clip
    from phonoscope.media import read_audio

    loaded = []
    for file in sorted((folder / "generated").glob("*/*.wav")):
        other = folder / "reference" / file.relative_to(folder / "generated")
        loaded.append(tuple(read_audio(Clip(str(p)), rate=16_000).samples for p in (file, other)))
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        pool.map(work, loaded[:4], chunksize=1)
        start = time.perf_counter()
        pool.map(work, loaded, chunksize=1)
        return time.perf_counter() - start


VERSA = """
- name: pesq
- name: stoi
- name: signal_metric
- name: pseudo_mos
  predictor_types: ["dnsmos"]
  predictor_args: {dnsmos: {fs: 16000}}
"""


def versa(folder: Path, checkout: str, python: str) -> float:
    """Return the wall time of VERSA's scorer in a fresh process, its compiled code cached."""
    (folder / "versa.yaml").write_text(VERSA)
    for role in ("generated", "reference"):
        files = sorted((folder / role).glob("*/*.wav"))
        lines = [f"{file.parent.name}-{file.stem} {file}\n" for file in files]
        (folder / f"{role}.scp").write_text("".join(lines))
    command = [python, "versa/bin/scorer.py", "--io", "soundfile"]
    for option, value in {
        "score_config": "versa.yaml",
        "pred": "generated.scp",
        "gt": "reference.scp",
        "output_file": "versa.jsonl",
    }.items():
        command += [f"--{option}", str(folder / value)]
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    times = []
    for _ in range(2):
        start = time.perf_counter()
        subprocess.run(
            command, check=True, cwd=checkout, env={**free, "PYTHONPATH": "."}, capture_output=True
        )
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the ratios."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    data = os.environ.get("PHONOSCOPE_TEST_DATA") or Path(__file__).parents[3] / "shared/data"
    demo = Path(data) / "lrs3_demo"
    if not demo.is_dir():
        print("skipped: the LRS3 demo clips are not here; PHONOSCOPE_TEST_DATA names their folder")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs(demo, folder)
        cold = seconds(folder)
        least = floor(folder)
        again = seconds(folder)
        checkout, python = (os.environ.get(f"VERSA_{name}") for name in ("CHECKOUT", "PYTHON"))
        other = versa(folder, checkout, python) if checkout and python else None
    print(f"cold {cold:.1f} s, floor {least:.1f} s: ratio {cold / least:.2f}")
    print(f"cached {again:.2f} s: {100 * again / cold:.1f} % of the cold run")
    if other:
        print(f"VERSA's scorer {other:.1f} s: ours takes {cold / other:.2f} of it")


if __name__ == "__main__":
    child(sys.argv[1]) if len(sys.argv) == 2 else main()
