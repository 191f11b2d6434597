"""NISQA v2.0: predicted quality of speech without a reference, in five dimensions of 1 to 5.

All five are better when higher: 5 is "not noisy", "not discontinuous" and so on. Nothing is
clipped: very noisy speech scores below 1. The names without a suffix look at the 16 kHz view as it
is (the mel bands above 8 kHz are then empty), which is what the published command does with 16 kHz
files; ``_48k`` names look at it after resampling to 48 kHz. The two are not comparable.

The network was trained on transmitted speech of 6 to 12 s, and its score moves with the level.
The weights are non-commercial: ``phonoscope weights accept nisqa``.

Mittag et al., Interspeech 2021; gabrielmittag/NISQA.
"""

from __future__ import annotations

from typing import Any, cast

from phonoscope.metrics.networks.nisqa import Nisqa
from phonoscope.metrics.networks.nisqa_tts import NisqaTts
from phonoscope.metrics.speech import speech16k
from phonoscope.plugins import Metric, metric
from phonoscope.types import Record
from phonoscope.views import View, view


@view(of=speech16k, version="1", weights=[Nisqa.weight], batch=16, requires=("torch",))
class nisqa_scores(Nisqa):
    """`mos`, `noi`, `dis`, `col` and `loud` of one clip, and `n_segments`."""


# A type checker does not see that `view` makes a View of a class.
_SCORES = cast(View, nisqa_scores)

MEANINGS = {
    "mos": "Overall quality of transmitted speech as rated in ITU-T P.808 tests.",
    "noi": "Noisiness: how little background, circuit or coding noise there is.",
    "dis": "Discontinuity: how little is lost, chopped or interrupted.",
    "col": "Coloration: how natural the frequency response is.",
    "loud": "Loudness: how close to optimal the level is.",
}


SOURCE = """About 1 to 5, and below 1 for speech that is lost in noise.
Mittag et al., Interspeech 2021; gabrielmittag/NISQA."""


def _nisqa(name: str, *, title: str) -> Metric:
    """Register one column; `n_segments` and `resample` go to the info."""
    score, _, rate = name.removeprefix("nisqa_").partition("_")
    resample = rate or "none"

    def measure(generated: dict[str, Any]) -> Record:
        n_segments = int(generated["n_segments"])
        return Record(
            float(generated[score]), info={"n_segments": n_segments, "resample": resample}
        )

    seen = "resampled to 48 kHz by soxr HQ" if rate else "at 16 kHz, not resampled"
    measure.__name__ = name
    measure.__doc__ = f"{MEANINGS[score]} NISQA v2.0 {seen}, unclamped.\n\n{SOURCE}"
    variant = "audio16k, 48k soxr HQ" if rate else "audio16k, native"
    label = f"NISQA{title} ({variant})"
    scores = _SCORES(resample=rate) if rate else _SCORES
    return metric(unit="MOS", better="higher", label=label, generated=scores)(measure)


nisqa_mos = _nisqa("nisqa_mos", title="")
nisqa_noi = _nisqa("nisqa_noi", title=" noisiness")
nisqa_dis = _nisqa("nisqa_dis", title=" discontinuity")
nisqa_col = _nisqa("nisqa_col", title=" coloration")
nisqa_loud = _nisqa("nisqa_loud", title=" loudness")

nisqa_mos_48k = _nisqa("nisqa_mos_48k", title="")
nisqa_noi_48k = _nisqa("nisqa_noi_48k", title=" noisiness")
nisqa_dis_48k = _nisqa("nisqa_dis_48k", title=" discontinuity")
nisqa_col_48k = _nisqa("nisqa_col_48k", title=" coloration")
nisqa_loud_48k = _nisqa("nisqa_loud_48k", title=" loudness")


@view(of=speech16k, version="1", weights=[NisqaTts.weight], batch=8, requires=("torch",))
class nisqa_tts_scores(NisqaTts):
    """`mos` of one clip, its naturalness, and `n_segments`."""


@metric(unit="MOS", better="higher", label="NISQA-TTS (audio16k)", generated=nisqa_tts_scores)
def nisqa_tts(generated: dict[str, Any]) -> Record:
    """Naturalness of synthesised speech. NISQA-TTS at 16 kHz, unclamped; not the NISQA of tables.

    Mittag and Möller, Interspeech 2020.
    """
    return Record(float(generated["mos"]), info={"n_segments": int(generated["n_segments"])})
