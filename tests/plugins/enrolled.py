"""A system that hears, sees and is told a voice, and a metric that asks whose voice it was."""

import numpy as np

from phonoscope import Audio, audio, metric, system
from phonoscope.media import read_audio, read_frames, write_wav

RATE = 16_000


@system(needs=("audio", "video", "enrollment"))
def everything(sample, out, *, seed):
    """Write the mixture, then one sample per frame of the film, then the enrollment."""
    heard = read_audio(sample.inputs["audio"], rate=RATE).samples
    seen = read_frames(sample.inputs["video"], fps=25.0).pixels
    voice = read_audio(sample.inputs["enrollment"], rate=RATE).samples
    marks = np.full(len(seen), 0.25, np.float32)
    return write_wav(out / "generated.wav", Audio(np.concatenate([heard, marks, voice]), RATE))


@metric(unit="-", better="lower", generated=audio(RATE), enrollment=audio(RATE))
def voice_gap(generated: Audio, enrollment: Audio) -> float:
    """Difference of the two levels."""
    levels = [float(np.sqrt(np.mean(x.samples**2))) for x in (generated, enrollment)]
    return abs(levels[0] - levels[1])
