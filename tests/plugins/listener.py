"""A system of a user: it hears the mixture and is told the voice."""

import numpy as np

from phonoscope import Audio, system
from phonoscope.media import read_audio, write_wav


@system(needs=("audio", "video", "enrollment"))
def listener(sample, out, *, seed):
    """Return the mean of what is heard and of the voice, as long as what is heard."""
    heard = read_audio(sample.inputs["audio"], rate=16_000).samples
    voice = read_audio(sample.inputs["enrollment"], rate=16_000).samples
    return write_wav(
        out / "generated.wav", Audio((heard + np.resize(voice, len(heard))) / 2, 16_000)
    )
