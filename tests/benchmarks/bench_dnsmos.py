"""DNSMOS against the `speechmos` package and against a plain forward pass of every window.

Run ``python tests/benchmarks/bench_dnsmos.py [FOLDER] [--repeat N]`` on a quiet machine. FOLDER
holds clips in any depth (default: ``lrs3_demo`` of the real test clips). `speechmos` needs librosa,
requests and tqdm, which it does not declare; without them that part is left out and said so.

Each contender runs in processes of its own, started and warmed up before the clock starts:

* ours: P.808 and P.835 of all clips, two processes of one thread each;
* speechmos: file by file in one process, threads as the package sets them, decoded clips given;
* plain: onnxruntime's forward pass of every P.835 window, one thread, CPU time against ours.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SUFFIXES = {".mp4", ".wav", ".flac"}
KEYS = {"p808": "p808_mos", "sig": "sig_mos", "bak": "bak_mos", "ovrl": "ovrl_mos"}
Scores = list[dict[str, float]]

_state: dict[str, Any] = {}


@dataclass
class Measured:
    """What one contender took and gave."""

    wall: float
    cpu: float
    scores: Scores


def clips_of(folder: Path) -> list[str]:
    files = sorted(str(file) for file in folder.rglob("*") if file.suffix in SUFFIXES)
    if not files:
        sys.exit(f"{folder}: no clips; give a folder of .mp4, .wav or .flac files")
    return files


def decode(file: str) -> np.ndarray:
    from phonoscope.media import read_audio
    from phonoscope.types import Clip

    return read_audio(Clip(file), rate=16_000).samples


def load_ours(names: Sequence[str]) -> None:
    from phonoscope.metrics.networks import dnsmos

    _state["nets"] = [getattr(dnsmos, name)() for name in names]
    for net in _state["nets"]:
        net.load("cpu")
    score_ours(np.sin(np.arange(16_000, dtype=np.float32)))


def score_ours(samples: np.ndarray) -> dict[str, float]:
    from phonoscope.types import Audio

    scores: dict[str, float] = {}
    for net in _state["nets"]:
        scores |= net([Audio(samples, 16_000)])[0]
    return scores


def load_speechmos() -> None:
    from speechmos import dnsmos

    _state["speechmos"] = dnsmos
    score_speechmos(np.sin(np.arange(16_000, dtype=np.float32)))


def score_speechmos(samples: np.ndarray) -> dict[str, float]:
    scores = _state["speechmos"].run(samples, sr=16_000)
    return {ours: float(scores[theirs]) for ours, theirs in KEYS.items()}


def load_plain() -> None:
    from phonoscope import weights
    from phonoscope.metrics.networks import dnsmos

    _state["plain"] = dnsmos.session(weights.locate(dnsmos.P835.weight).read_bytes(), "cpu")
    score_plain(np.sin(np.arange(16_000, dtype=np.float32)))


def score_plain(samples: np.ndarray) -> dict[str, float]:
    from phonoscope.metrics.networks import dnsmos

    plan = dnsmos.window_plan(len(samples))
    signal = dnsmos.fill(samples, plan)
    windows = (signal[None, start : start + dnsmos.WINDOW] for start in plan.starts)
    raw = np.concatenate([_state["plain"].run(None, {"input_1": each})[0] for each in windows])
    columns = zip(("sig", "bak", "ovrl"), raw.T, strict=True)
    return {
        name: float(np.mean(dnsmos.polynomial(column, "standard", name)))
        for name, column in columns
    }


def _cpu(_: int) -> tuple[int, float]:
    time.sleep(0.2)  # so that every worker answers one
    return os.getpid(), time.process_time()


def _cpu_of(pool: ProcessPoolExecutor, workers: int) -> float:
    clocks: dict[int, float] = {}
    while len(clocks) < workers:
        clocks |= dict(pool.map(_cpu, range(workers)))
    return sum(clocks.values())


def measure(
    load: Callable[..., None],
    score: Callable[[np.ndarray], dict[str, float]],
    sounds: Sequence[np.ndarray],
    *,
    args: tuple[Any, ...] = (),
    workers: int = 1,
    threads: dict[str, str] | None = None,
) -> Measured:
    """Time one contender over decoded clips; loading and the first call are not counted."""
    os.environ.update(threads or {})
    pool = ProcessPoolExecutor(workers, get_context("spawn"), load, args)
    with pool:
        before = _cpu_of(pool, workers)
        start = time.perf_counter()
        scores = list(pool.map(score, sounds))
        wall = time.perf_counter() - start
        cpu = _cpu_of(pool, workers) - before
    for name in threads or {}:
        del os.environ[name]
    return Measured(wall, cpu, scores)


def largest_difference(ours: Scores, theirs: Scores) -> float:
    return max(
        abs(mine[name] - value)
        for mine, other in zip(ours, theirs, strict=True)
        for name, value in other.items()
    )


def best(repeat: int, run: Callable[[], Measured]) -> Measured:
    return min((run() for _ in range(repeat)), key=lambda measured: measured.wall)


def report(name: str, measured: Measured, seconds: float) -> None:
    print(
        f"{name:34s} {measured.wall:7.2f} s wall  {measured.cpu:7.2f} s CPU  "
        f"{measured.wall / seconds:.4f} wall and {measured.cpu / seconds:.4f} CPU per audio second"
    )


def versus_speechmos(sounds: list[np.ndarray], seconds: float, repeat: int) -> None:
    ours = best(
        repeat,
        lambda: measure(
            load_ours, score_ours, sounds, args=(["P808", "P835"],), workers=2, threads=ONE_THREAD
        ),
    )
    report("ours, P.808 + P.835, 2 processes", ours, seconds)
    try:
        import librosa  # noqa: F401
        import speechmos.dnsmos  # noqa: F401
    except ImportError as error:
        print(f"speechmos left out: {error}; pip install librosa requests tqdm")
        return
    theirs = best(repeat, lambda: measure(load_speechmos, score_speechmos, sounds))
    report("speechmos, file by file", theirs, seconds)
    print(
        f"  throughput x{theirs.wall / ours.wall:.2f}, CPU x{theirs.cpu / ours.cpu:.2f}, "
        f"largest difference {largest_difference(ours.scores, theirs.scores):.1e}"
    )


def versus_plain(sounds: list[np.ndarray], seconds: float, repeat: int) -> None:
    def ours_of(names: list[str]) -> Measured:
        return best(
            repeat,
            lambda: measure(load_ours, score_ours, sounds, args=(names,), threads=ONE_THREAD),
        )

    both, p835 = ours_of(["P808", "P835"]), ours_of(["P835"])
    plain = best(repeat, lambda: measure(load_plain, score_plain, sounds, threads=ONE_THREAD))
    report("ours, P.808 + P.835, 1 process", both, seconds)
    report("ours, P.835 alone, 1 process", p835, seconds)
    report("plain P.835 forward pass", plain, seconds)
    print(
        f"  CPU x{plain.cpu / p835.cpu:.2f} (P.835 alone), x{plain.cpu / both.cpu:.2f} "
        f"(with our P.808), largest difference {largest_difference(p835.scores, plain.scores):.1e}"
    )


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("PHONOSCOPE_TEST_DATA") or SHARED / "data")
    parser.add_argument("folder", nargs="?", type=Path, default=data / "lrs3_demo")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the fastest counts")
    options = parser.parse_args()
    os.environ.setdefault("PHONOSCOPE_WEIGHTS", str(SHARED / "weights"))
    sounds = [decode(file) for file in clips_of(options.folder)]
    seconds = sum(map(len, sounds)) / 16_000
    print(f"{len(sounds)} clips, {seconds:.0f} s of sound, {os.cpu_count()} cores")
    versus_speechmos(sounds, seconds, options.repeat)
    versus_plain(sounds, seconds, options.repeat)


if __name__ == "__main__":
    main()
