"""A small world to test the harness with: short synthetic clips, cheap metrics, systems that write.

Load it with ``plugin_files=[...]`` or ``--plugin``. What it does is decided by variables that reach
every worker:

PHONOSCOPE_TINY_LOG     a file that gets one line for each call: ``what detail``
PHONOSCOPE_TINY_SLEEP   seconds that `tiny_slow` and `tiny_slow_copy` take (0.05)
PHONOSCOPE_TINY_GUILTY  transcript of the sample on which `tiny_fatal` kills its process
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import numpy as np

from phonoscope import (
    Audio,
    Clip,
    Dataset,
    Ratio,
    Record,
    Sample,
    audio,
    dataset,
    metric,
    system,
    view,
)
from phonoscope.media import read_audio, write_wav
from phonoscope.metrics.frechet import frechet
from phonoscope.stats import ratio_of_sums

RATE = 16_000
WORDS = ("set", "bin", "lay", "place")


def note(what, detail=""):
    """Append one line to the log, whole even where several processes write."""
    log = os.environ.get("PHONOSCOPE_TINY_LOG")
    if log:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, f"{what} {detail}\n".encode())
        os.close(file)


def fingerprint(samples):
    """Name a sound in the log."""
    return hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()[:12]


def pause():
    """Take some time."""
    time.sleep(float(os.environ.get("PHONOSCOPE_TINY_SLEEP", "0.05")))


def tone(number, seconds):
    """Return a sound that no other number has."""
    rng = np.random.default_rng(number)
    time_axis = np.arange(int(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * (200 + 20 * number) * time_axis)
    return Audio((wave + 0.02 * rng.standard_normal(len(wave))).astype(np.float32), RATE)


def _clip(path, number, seconds):
    if not path.is_file():
        write_wav(path, tone(number, seconds))
    return Clip(str(path))


@dataset
def tiny(name, *, folder, count=6, seconds=0.1):
    """Tones of `seconds`, made in `folder` where they are absent, in groups of three."""
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    enrollment = _clip(root / "enrollment.wav", 10_001, seconds)
    samples = []
    for number in range(count):
        clip = _clip(root / f"{number:03d}.wav", number, seconds)
        samples.append(
            Sample(
                id=f"u{number:03d}",
                group=f"g{number // 3}",
                inputs={"audio": clip, "enrollment": enrollment},
                reference=clip,
                meta={"transcript": f"{WORDS[number % 4]} {number}"},
            )
        )
    noises = {"hiss": (_clip(root / "hiss.wav", 10_000, 2 * seconds),)}
    return Dataset(name, tuple(samples), f"tiny-{count}-{seconds}", noises)


@view(of=audio(RATE), batch=4)
class tiny_net:
    """Level, peak and sign changes of a sound, as if a network had said so."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def load(self, device):
        note("load", device)

    def __call__(self, batch):
        return [self._one(sound.samples) for sound in batch]

    def _one(self, samples):
        note("net", fingerprint(samples))
        signs = np.mean(np.diff(np.signbit(samples)))
        level = np.sqrt(np.mean(samples**2))
        return np.array([level, np.max(np.abs(samples)), signs], np.float32) * np.float32(
            self.scale
        )


@view(of=audio(RATE), stored=True)
def tiny_peak(sound):
    """Largest magnitude: a plain function whose output is kept in the store."""
    note("peak", fingerprint(sound.samples))
    return float(np.max(np.abs(sound.samples)))


@metric(unit="-", better="higher", generated=audio(RATE))
def tiny_rms(generated: Audio) -> float:
    """Level."""
    note("rms", fingerprint(generated.samples))
    return float(np.sqrt(np.mean(generated.samples**2)))


@metric(unit="-", better="lower", ideal=0.0, generated=audio(RATE), reference=audio(RATE))
def tiny_gap(generated: Audio, reference: Audio) -> Record:
    """Mean distance of the samples."""
    note("gap", fingerprint(generated.samples))
    gap = np.mean(np.abs(generated.samples - reference.samples))
    flags = ("same",) if gap == 0 else ()
    return Record(float(gap), flags, {"n_samples": len(reference.samples)})


@metric(unit="-", better="higher", generated=audio(RATE))
def tiny_slow(generated: Audio) -> float:
    """Mean magnitude, slowly."""
    note("slow", fingerprint(generated.samples))
    pause()
    return float(np.mean(np.abs(generated.samples)))


@metric(unit="-", better="lower", aggregate=ratio_of_sums, generated=audio(RATE))
def tiny_ratio(generated: Audio) -> Ratio:
    """Samples above zero over all samples."""
    return Ratio(float(np.sum(generated.samples > 0)), float(len(generated.samples)))


@metric(unit="-", better="higher", generated=tiny_net)
def tiny_level(generated: np.ndarray) -> float:
    """The network's first output."""
    note("level")
    return float(generated[0])


@metric(unit="-", better="lower", aggregate=frechet, generated=tiny_net, reference=tiny_net)
def tiny_distance(generated: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fréchet distance of the network's outputs."""
    return generated, reference


@metric(unit="-", better="higher", reference=tiny_peak)
def tiny_headroom(reference: float) -> float:
    """One minus the reference's peak."""
    return 1 - reference


@metric(unit="-", better="higher", generated=audio(RATE))
def tiny_fatal(generated: Audio, transcript: str) -> float:
    """Peak, unless the sample is guilty: then the process dies."""
    if transcript == os.environ.get("PHONOSCOPE_TINY_GUILTY"):
        note("fatal", transcript)
        os.kill(os.getpid(), signal.SIGKILL)
    return float(np.max(np.abs(generated.samples)))


def _scaled(sample, role, out, gain):
    sound = read_audio(sample.inputs[role], rate=RATE)
    return write_wav(out / "generated.wav", Audio(sound.samples * np.float32(gain), RATE))


@system(needs=("audio",))
def tiny_copy(sample, out, *, seed, gain=0.5):
    """Write the input, scaled."""
    note("copy", sample.id)
    return _scaled(sample, "audio", out, gain)


@system(needs=("audio",))
def tiny_quits(sample, out, *, seed):
    """Write the input, but leave Python where it is the second."""
    if sample.id == "u001":
        raise SystemExit(3)
    return _scaled(sample, "audio", out, 0.7)


@system(needs=("audio",))
def tiny_forgets(sample, out, *, seed):
    """Write the input, and do not say where."""
    _scaled(sample, "audio", out, 0.7)


@system(needs=("audio",))
def tiny_slow_copy(sample, out, *, seed):
    """Write the input, slowly."""
    note("slow_copy", sample.id)
    pause()
    return _scaled(sample, "audio", out, 0.8)


@system(needs=("enrollment",))
def tiny_voice(sample, out, *, seed):
    """Write the enrollment clip: needs no `audio`, so no SNR changes it."""
    note("voice", sample.id)
    return _scaled(sample, "enrollment", out, 0.9)


@system(needs=("audio",))
def tiny_axis(sample, out, *, seed, gain):
    """Write the input, scaled by an axis of the condition."""
    note("axis", f"{sample.id} {gain}")
    return _scaled(sample, "audio", out, gain)


@view(of=audio(RATE), batch=4)
class tiny_broken:
    """A network that cannot be loaded."""

    def load(self, device):
        note("load_broken", device)
        raise RuntimeError("no such operator")

    def __call__(self, batch):
        raise AssertionError("it was never loaded")


@metric(unit="-", better="higher", generated=tiny_broken)
def tiny_lost(generated: float) -> float:
    """What a network says that cannot be loaded."""
    return generated


@metric(unit="-", better="higher", generated=audio(RATE), reference=tiny_broken)
def tiny_lost_too(generated: Audio, reference: float) -> float:
    """Another metric that looks through it."""
    return reference
