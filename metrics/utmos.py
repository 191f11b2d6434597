"""UTMOS: predicted naturalness of speech without a reference, on a scale of 1 to 5.

The network was trained on synthesised and converted voices (the VoiceMOS challenge 2022): it rates
how natural a voice sounds, not whether it says the right thing.
"""

from __future__ import annotations

from typing import Any

from phonoscope.metrics.networks.utmos import Utmos
from phonoscope.metrics.speech import speech16k
from phonoscope.plugins import metric
from phonoscope.types import Record
from phonoscope.views import view


@view(of=speech16k, version="1", weights=[Utmos.weight], requires=("torch",))
class utmos_scores(Utmos):
    """`mos` of one clip and `n_frames`, the frames of 20 ms that it is the mean over."""


@metric(unit="MOS", better="higher", label="UTMOS (utmos22_strong)", generated=utmos_scores)
def utmos(generated: dict[str, Any]) -> Record:
    """Naturalness by UTMOS22's strong learner, of the waveform at its own level; not clamped.

    Saeki et al., Interspeech 2022; weights of tarepan/SpeechMOS, with its domain and listener.
    """
    return Record(float(generated["mos"]), info={"n_frames": int(generated["n_frames"])})
