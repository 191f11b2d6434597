"""A classical enhancer, so that a board has a system that listens and does not learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from phonoscope import media
from phonoscope.errors import NonfiniteOutput, SpecError, TooShort
from phonoscope.plugins import system
from phonoscope.types import Audio, Sample

N_FFT = 1024


@system(needs=("audio",), requires=("noisereduce",))
def spectral_gate(
    sample: Sample,
    out: Path,
    *,
    seed: int,
    rate: int = 16_000,
    stationary: bool = True,
    prop_decrease: float = 0.9,
) -> Path:
    """Turn down the time-frequency cells that are not louder than the noise in their band.

    Package `noisereduce` (Sainburg, Thielk and Gentner, PLoS Comput. Biol. 16(10), 2020). No random
    part, so the seed changes nothing. Digital silence comes back as it is.

    Parameters
    ----------
    sample : Sample
        Its `audio` input is enhanced.
    out : Path
        Folder for ``generated.wav``.
    seed : int
        Not used.
    rate : int
        Hz, of the processing and of the output.
    stationary : bool
        Whether one noise level per band is taken from the whole clip, or one that drifts.
    prop_decrease : float
        How much of the noise is turned down: 0 to 1.

    Raises
    ------
    SpecError
        If `prop_decrease` is not within 0 and 1.
    TooShort
        If the clip is shorter than one analysis window of 1024 samples.
    """
    import noisereduce

    if not 0 <= prop_decrease <= 1:
        raise SpecError(f"spectral_gate: prop_decrease is {prop_decrease}; give 0 to 1")
    sound = media.read_audio(sample.inputs["audio"], rate=rate)
    if len(sound.samples) < N_FFT:
        raise TooShort(f"sample {sample.id}: {len(sound.samples)} samples, needs {N_FFT}")
    if not sound.samples.any():
        return media.write_wav(out / "generated.wav", sound)
    gated = noisereduce.reduce_noise(
        y=sound.samples, sr=rate, stationary=stationary, prop_decrease=prop_decrease, n_fft=N_FFT
    )
    if not np.isfinite(gated).all():
        raise NonfiniteOutput(f"sample {sample.id}: spectral gating gave NaN or infinite samples")
    return media.write_wav(out / "generated.wav", Audio(gated.astype(np.float32), rate))
