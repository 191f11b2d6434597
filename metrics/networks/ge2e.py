"""GE2E speaker embedding: the voice encoder of resemblyzer, from sound to unit vector.

The sound is raised to -30 dBFS where it is softer, its pauses are cut out by WebRTC's voice
activity detector, its mel spectrogram is seen in windows of 1.6 s by an LSTM, and the windows'
unit vectors are averaged. All of it follows resemblyzer 0.1.4, whose own front end takes a minute
of compilation in every process that uses it; samples beyond full scale saturate here, there they
wrap around.

Source: resemble-ai/Resemblyzer; Wan et al., ICASSP 2018 (GE2E).
"""

from __future__ import annotations

import functools
import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope import weights
from phonoscope.errors import NonfiniteOutput, NoSpeech
from phonoscope.metrics.networks.inference import exact
from phonoscope.metrics.odf import mel_bands
from phonoscope.metrics.speech import RATE, require_rate
from phonoscope.types import Audio

Floats: TypeAlias = NDArray[np.float32]

LEVEL_DBFS = -30.0
FULL_SCALE = 32_767

VAD_MODE = 3
VAD_FRAME = 480
SMOOTHED = 8  # frames; more than half of them must be voiced
WIDENED = 3  # frames on either side
LEAST_VOICED = 8_000

N_FFT, HOP, BANDS = 400, 160, 40
WINDOW = 160
STEP = 77  # frames: round(100 / 1.3), 1.3 windows per second
LEAST_COVERAGE = 0.75
WIDTH, LAYERS = 256, 3
AT_ONCE = 128


def raised(samples: Floats) -> Floats:
    """Return the sound at -30 dBFS (root mean square) if it is softer, else as it is."""
    level = 20 * np.log10(np.sqrt(np.mean((samples * FULL_SCALE) ** 2)) / FULL_SCALE)
    change = LEVEL_DBFS - level
    return samples if change < 0 else (samples * 10 ** (change / 20)).astype(np.float32)


def voice_flags(samples: Floats) -> NDArray[np.bool_]:
    """Return for each whole frame of 30 ms whether WebRTC's detector, mode 3, hears a voice."""
    # The package's Python part only wraps this and needs pkg_resources, which setuptools dropped.
    import _webrtcvad

    detector = _webrtcvad.create()
    _webrtcvad.init(detector)
    _webrtcvad.set_mode(detector, VAD_MODE)
    scaled = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE - 1, FULL_SCALE)
    frames = scaled[: len(samples) // VAD_FRAME * VAD_FRAME].astype("<i2").reshape(-1, VAD_FRAME)
    heard = [_webrtcvad.process(detector, RATE, frame.tobytes(), VAD_FRAME) for frame in frames]
    return np.array(heard, bool)


def kept(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which frames stay: smoothed over 240 ms, then widened by 90 ms on either side."""
    n, half = len(flags), SMOOTHED // 2
    heard = np.convolve(flags, np.ones(SMOOTHED))[half : half + n]
    wide = np.convolve(heard > half, np.ones(2 * WIDENED + 1))[WIDENED : WIDENED + n]
    found: NDArray[np.bool_] = wide > 0.5
    return found


def voiced(samples: Floats) -> Floats:
    """Return the sound of 16 kHz at its level for the network, without pauses.

    Raises
    ------
    NoSpeech
        With fewer than 8000 voiced samples (0.5 s).
    """
    loud = raised(samples)
    mask = np.repeat(kept(voice_flags(loud)), VAD_FRAME)
    found = loud[: len(mask)][mask]
    if len(found) < LEAST_VOICED:
        raise NoSpeech(f"no_speech: {len(found)} voiced samples, GE2E needs {LEAST_VOICED} (0.5 s)")
    return found


def window_starts(n_samples: int) -> range:
    """Return the first mel frames of the windows; only the number of voiced samples matters.

    The last window is left out where the sound fills less than 3/4 of it, unless it is the first.
    """
    frames = math.ceil((n_samples + 1) / HOP)
    starts = range(0, max(1, frames - WINDOW + STEP + 1), STEP)
    coverage = (n_samples - starts[-1] * HOP) / (WINDOW * HOP)
    return starts[:-1] if coverage < LEAST_COVERAGE and len(starts) > 1 else starts


@functools.cache
def _bands() -> Floats:
    return mel_bands(RATE, N_FFT, BANDS, 0.0, RATE / 2).astype(np.float32)


def spectrogram(samples: Floats) -> Floats:
    """Return the mel spectrogram of powers, shape (1 + n // 160, 40), as librosa's."""
    padded = np.pad(samples, N_FFT // 2)
    seen = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(seen * hann))).astype(np.float32)
    return power @ _bands()


def windows(samples: Floats) -> Floats:
    """Return what the LSTM sees of a voiced sound: shape (windows, 160, 40)."""
    starts = window_starts(len(samples))
    missing = max(0, (starts[-1] + WINDOW) * HOP - len(samples))
    mel = spectrogram(np.pad(samples, (0, missing)))
    return np.stack([mel[start : start + WINDOW] for start in starts])


def read(path: Any, device: str) -> Any:
    """Return the network of the published file, on `device`.

    Raises
    ------
    RuntimeError
        If the file holds another architecture.
    """
    import torch
    from torch import nn

    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    net = nn.ModuleDict(
        {
            "lstm": nn.LSTM(BANDS, WIDTH, LAYERS, batch_first=True),
            "linear": nn.Linear(WIDTH, WIDTH),
        }
    )
    used = {name: value for name, value in state.items() if not name.startswith("similarity_")}
    net.load_state_dict(used, strict=True)
    return net.eval().requires_grad_(False).to(device)


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """Return vectors scaled to length 1 along the last axis.

    Raises
    ------
    NonfiniteOutput
        If one is zero or not finite: it points nowhere.
    """
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(norms).all() and norms.all()):
        raise NonfiniteOutput(f"the GE2E network gave vectors of length {norms.ravel().tolist()}")
    scaled: NDArray[Any] = vectors / norms
    return scaled


class Ge2e:
    """Embedding of a clip's voice, no entry below 0, and how much of the clip it is made of.

    Output: float32, shape (257,): the unit vector of 256 entries, then the number of voiced
    samples.
    """

    weight = weights.register(
        weights.Weight(
            name="resemblyzer/pretrained",
            file="resemblyzer/pretrained.pt",
            bytes=17_090_379,
            sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
            licence="Apache-2.0",
            origin="inside the package resemblyzer 0.1.4: pip install resemblyzer",
            package="resemblyzer/pretrained.pt",
        ),
        origin=__name__,
    ).name

    def load(self, device: str) -> None:
        """Read the weights onto `device` ("cpu", "cuda", "cuda:0")."""
        self._net, self._device = read(weights.locate(self.weight), device), device

    def __call__(self, batch: list[Audio]) -> list[Floats]:
        """Return the output for each clip of 16 kHz mono sound.

        Raises
        ------
        NoSpeech
            See `voiced`.
        NonfiniteOutput
            If the network gave a NaN or only zeros.
        ValueError
            If a clip has another rate or more than one channel: a programming error.
        """
        for sound in batch:
            require_rate(sound, RATE)
        heard = [voiced(sound.samples.astype(np.float32, copy=False)) for sound in batch]
        seen = [windows(samples) for samples in heard]
        raw = np.split(self._infer(np.concatenate(seen)), np.cumsum([len(x) for x in seen])[:-1])
        means = [unit(unit(part).mean(0)) for part in raw]
        pairs = zip(means, heard, strict=True)
        return [np.append(mean, len(samples)).astype(np.float32) for mean, samples in pairs]

    def _infer(self, seen: Floats) -> NDArray[np.float64]:
        """Return the rectified output for each window, shape (windows, 256)."""
        import torch

        found = []
        with exact(self._device):
            for part in torch.from_numpy(seen).split(AT_ONCE):
                _, (last, _) = self._net["lstm"](part.to(self._device))
                found.append(torch.relu(self._net["linear"](last[-1])).double().cpu().numpy())
        return np.concatenate(found)
