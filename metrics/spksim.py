"""Speaker similarity: the cosine of two speaker embeddings.

The names say whose network it is; scores of different networks are never comparable. Raw cosine:
nothing is mapped to [0, 1], and no threshold is used. Plain names compare with the reference, also
for systems that were given no voice; ``_enrollment`` names with the clip that told the system the
voice. Both share the embedding of each clip.

The level of a clip hardly matters, except to GE2E: it raises clips below -30 dBFS to that level,
but sees louder ones as they are (speech at half its level has about 0.95 with itself). The others
take the mean off logarithms, or normalise the wave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import NonfiniteOutput
from phonoscope.metrics.networks.ecapa import Ecapa
from phonoscope.metrics.networks.ge2e import Ge2e
from phonoscope.metrics.networks.wespeaker import (
    WespeakerPyannote,
    WespeakerResnet34,
    WespeakerResnet221,
)
from phonoscope.metrics.networks.xvector import XVectorSincNet
from phonoscope.metrics.speech import speech16k
from phonoscope.plugins import Metric, metric
from phonoscope.types import Record
from phonoscope.views import view

Embedding: TypeAlias = NDArray[Any]
Measure: TypeAlias = Callable[..., Record]

KALDI = ("kaldi_native_fbank",)
WESPEAKER = "Wang et al., ICASSP 2023; wenet-e2e/wespeaker."


@view(of=speech16k, version="1", weights=[WespeakerResnet221.weight], requires=KALDI)
class wespeaker_resnet221_embedding(WespeakerResnet221):
    """Speaker embedding by WeSpeaker ResNet221_LM, shape (256,)."""


@view(of=speech16k, version="1", weights=[WespeakerResnet34.weight], requires=KALDI)
class wespeaker_resnet34_embedding(WespeakerResnet34):
    """Speaker embedding by WeSpeaker ResNet34_LM, shape (256,)."""


@view(of=speech16k, version="1", weights=[WespeakerPyannote.weight], requires=(*KALDI, "torch"))
class wespeaker_pyannote_embedding(WespeakerPyannote):
    """Speaker embedding by pyannote's re-host of WeSpeaker ResNet34_LM, shape (256,)."""


@view(of=speech16k, version="1", weights=[Ecapa.weight], requires=("torch",))
class ecapa_embedding(Ecapa):
    """Speaker embedding by SpeechBrain's ECAPA-TDNN, shape (192,)."""


@view(of=speech16k, version="1", weights=[XVectorSincNet.weight], requires=("torch",))
class xvector_embedding(XVectorSincNet):
    """Speaker embedding by pyannote's XVectorSincNet, shape (512,)."""


@view(of=speech16k, version="1", weights=[Ge2e.weight], batch=8, requires=("torch", "webrtcvad"))
class ge2e_embedding(Ge2e):
    """Speaker embedding by resemblyzer's GE2E, 256 numbers, and the number of voiced samples."""


def cosine(one: Embedding, other: Embedding) -> float:
    """Return the cosine of the angle between two embeddings, in [-1, 1].

    Raises
    ------
    NonfiniteOutput
        If one of them is zero or not finite: it points nowhere.
    """
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not (np.isfinite(lengths).all() and all(lengths)):
        raise NonfiniteOutput(f"embeddings of length {lengths[0]} and {lengths[1]}")
    return float(np.clip(a @ b / (lengths[0] * lengths[1]), -1, 1))


def _record(one: Embedding, other: Embedding, *, against: str) -> Record:
    return Record(cosine(one, other), info={"against": against})


def _voiced_record(one: Embedding, other: Embedding, *, against: str) -> Record:
    counts = {"voiced_samples": int(one[-1]), "voiced_samples_against": int(other[-1])}
    return Record(cosine(one[:-1], other[:-1]), info={"against": against, **counts})


def _reference(record: Measure) -> Callable[..., Record]:
    def measure(generated: Embedding, reference: Embedding) -> Record:
        return record(generated, reference, against="clean_same")

    return measure


def _enrollment(record: Measure) -> Callable[..., Record]:
    def measure(generated: Embedding, enrollment: Embedding) -> Record:
        return record(generated, enrollment, against="used_enrollment")

    return measure


def _spksim(name: str, seen: Any, *, title: str, encoder: str, source: str) -> Metric:
    """Register one column; `against` and, for GE2E, the voiced samples go to the info."""
    record = _voiced_record if seen is ge2e_embedding else _record
    used = name.endswith("_enrollment")
    measure = (_enrollment if used else _reference)(record)
    measure.__name__ = name
    other = "the clip that told the system the voice" if used else "the reference"
    measure.__doc__ = (
        f"Likeness of the voice to that of {other}: cosine of embeddings by {title}.\n\n"
        f"Raw cosine, in {'[0, 1]' if seen is ge2e_embedding else '[-1, 1]'}. {source}"
    )
    label = f"SpkSim ({title}, against=used_enrollment)" if used else f"SpkSim ({title})"
    views = {"generated": seen, "enrollment" if used else "reference": seen}
    return metric(unit="-", better="higher", label=label, ideal=1.0, encoder=encoder, **views)(
        measure
    )


def _pair(name: str, seen: Any, **facts: str) -> tuple[Metric, Metric]:
    """Register a network's two columns: against the reference, against the enrollment."""
    return _spksim(name, seen, **facts), _spksim(f"{name}_enrollment", seen, **facts)


spksim_wespeaker, spksim_wespeaker_enrollment = _pair(
    "spksim_wespeaker",
    wespeaker_resnet221_embedding,
    title="WeSpeaker resnet221_lm",
    encoder="wespeaker_resnet221",
    source=WESPEAKER,
)
spksim_wespeaker_resnet34_lm, spksim_wespeaker_resnet34_lm_enrollment = _pair(
    "spksim_wespeaker_resnet34_lm",
    wespeaker_resnet34_embedding,
    title="WeSpeaker resnet34_lm",
    encoder="wespeaker_resnet34",
    source=WESPEAKER,
)
spksim_wespeaker_pyannote, spksim_wespeaker_pyannote_enrollment = _pair(
    "spksim_wespeaker_pyannote",
    wespeaker_pyannote_embedding,
    title="WeSpeaker resnet34_lm, pyannote's file",
    encoder="wespeaker_resnet34",
    source=WESPEAKER,
)
spksim_ecapa, spksim_ecapa_enrollment = _pair(
    "spksim_ecapa",
    ecapa_embedding,
    title="SpeechBrain ECAPA-TDNN",
    encoder="ecapa_voxceleb",
    source="Desplanques et al., Interspeech 2020; speechbrain/spkrec-ecapa-voxceleb.",
)
spksim_pyannote, spksim_pyannote_enrollment = _pair(
    "spksim_pyannote",
    xvector_embedding,
    title="pyannote XVectorSincNet",
    encoder="pyannote_embedding",
    source="Clips below 0.32 s are `too_short`. pyannote/embedding, window=whole.",
)
spksim_ge2e, spksim_ge2e_enrollment = _pair(
    "spksim_ge2e",
    ge2e_embedding,
    title="GE2E, resemblyzer",
    encoder="ge2e_resemblyzer",
    source="Below 0.5 s of voiced sound: `no_speech`. Wan et al., ICASSP 2018; resemblyzer 0.1.4.",
)
