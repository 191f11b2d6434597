"""The enrollment clip as a condition: which recording tells a system the speaker's voice.

A point of the axis ``enrollment`` is one of `SOURCES`:

==================  ================================================================
``same_clean``      the sample's own reference
``other_clean``     the reference of the next sample of the same group, by sorted id,
                    the first after the last
``same_enhanced``   what an enhancer made of the sample's mixture: files made elsewhere
``same_noisy``      the sample's mixture, with the noise and the cut that the run hears
==================  ================================================================

Where there is no such recording, the sample has a `Failure` ``missing_enrollment`` in its place.
"""

from __future__ import annotations

import difflib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from phonoscope.errors import DatasetError, MissingClip, SpecError
from phonoscope.plugins import System
from phonoscope.types import Clip, Condition, Dataset, Failure, Sample, Scalar
from phonoscope.views import attempt

ROLE = "enrollment"
SOURCES = ("same_clean", "other_clean", "same_enhanced", "same_noisy")
CODE = "missing_enrollment"


@dataclass(frozen=True)
class Enrollment:
    """What a protocol says of its enrollment clips.

    Attributes
    ----------
    snr_db : float or None
        Of the mixture that ``same_noisy`` gives and the enhancer had; the condition's where None.
    noise : str
        Which noise of the data set; the condition's where empty.
    enhancer : System or None
        Names the clips of ``same_enhanced``.
    params : mapping
        Of the enhancer.
    """

    snr_db: float | None = None
    noise: str = ""
    enhancer: System | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def described(self, source: Scalar) -> dict[str, Any]:
        """Return what decides the clips of a source, as plain data."""
        mixed = {"snr_db": self.snr_db, "noise": self.noise}
        if source == "same_noisy":
            return mixed
        if source != "same_enhanced" or self.enhancer is None:
            return {}
        made = {"system": self.enhancer.name, "version": self.enhancer.version}
        return mixed | made | {"params": dict(self.params)}

    def mixture(self, condition: Condition) -> Condition:
        """Return the condition under which the enrollment was recorded."""
        stated = {"snr_db": self.snr_db, "noise": self.noise or None}
        axes = dict(condition.axes) | {k: v for k, v in stated.items() if v is not None}
        return Condition(tuple(axes.items()))

    def enhanced(self, sample: Sample, condition: Condition, seed: int) -> Clip:
        """Return the enhancer's clip of a sample.

        Raises
        ------
        MissingClip
            If the enhancer has none.
        """
        if self.enhancer is None:
            raise MissingClip("no enhancer; give the protocol one, under enrollment.enhanced")
        asked = inspect.signature(self.enhancer.function).parameters
        extra = {"condition": self.mixture(condition)} if "condition" in asked else {}
        try:
            made = self.enhancer(sample, Path(), seed=seed, **self.params, **extra)
        except MissingClip as error:
            raise MissingClip(f"enrollment.enhanced: {error}") from None
        return made if isinstance(made, Clip) else Clip(str(made))


def give(sample: Sample, find: Callable[[Sample], Clip | None]) -> Sample:
    """Return the sample with the enrollment that `find` gives, or with the reason why not."""
    inputs = {role: clip for role, clip in sample.inputs.items() if role != ROLE}
    found = attempt("generate", find, sample)
    if isinstance(found, Clip):
        return replace(sample, inputs={**inputs, ROLE: found})
    failure = found if isinstance(found, Failure) else _none(sample)
    if failure.code == MissingClip.code:
        failure = replace(failure, code=CODE)
    return replace(sample, inputs=inputs, missing={**sample.missing, ROLE: failure})


def _none(sample: Sample) -> Failure:
    text = (
        f"sample {sample.id!r}: there is no recording of {sample.group!r} to enroll with; "
        "keep such speakers out, by min_utterances: 2, or choose another enrollment"
    )
    return Failure("generate", CODE, text)


def others(samples: Iterable[Sample]) -> dict[str, Clip]:
    """Return, by sample id, the reference of the next sample of the same group.

    In sorted order of the ids, the first after the last. A sample without a reference counts as not
    there; a sample that is alone in its group gets none.
    """
    groups: dict[str, list[tuple[str, Clip]]] = {}
    for sample in sorted(samples, key=lambda item: item.id):
        if sample.reference is not None:
            groups.setdefault(sample.group, []).append((sample.id, sample.reference))
    return {
        name: following
        for members in groups.values()
        if len(members) > 1
        for (name, _), (_, following) in zip(members, [*members[1:], members[0]], strict=True)
    }


def repeated(dataset: Dataset, least: int) -> Dataset:
    """Return the data set without the groups of fewer than `least` samples.

    Raises
    ------
    DatasetError
        If nothing is left.
    """
    sizes = Counter(sample.group for sample in dataset.samples)
    kept = tuple(sample for sample in dataset.samples if sizes[sample.group] >= least)
    if not kept:
        raise DatasetError(
            f"data set {dataset.name}: no group has {least} samples; lower min_utterances"
        )
    if len(kept) == len(dataset.samples):
        return dataset
    revision = f"{dataset.revision}[min_utterances={least}]"
    return replace(dataset, samples=kept, revision=revision)


def check(points: Sequence[Scalar], stated: Enrollment) -> None:
    """Refuse points of an ``enrollment`` axis that no sample could be given.

    Raises
    ------
    SpecError
        Naming the key and what it needs.
    """
    for point in points:
        if point not in SOURCES:
            near = difflib.get_close_matches(str(point), SOURCES, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            known = ", ".join(SOURCES)
            raise SpecError(f"conditions.enrollment: no {point!r}; {hint}allowed: {known}")
    if "same_enhanced" in points and stated.enhancer is None:
        raise SpecError(
            "enrollment.enhanced: is missing; same_enhanced needs to know where the clips lie, "
            "such as {plugin: imported, params: {folder: enhanced}}"
        )


def check_mixture(dataset: Dataset, stated: Enrollment, condition: Condition) -> None:
    """Refuse ``same_noisy`` where a data set has neither noise at a stated SNR nor noisy audio.

    Raises
    ------
    SpecError
        Naming the data set and what it needs.
    """
    axes = stated.mixture(condition)
    noise, snr_db = axes.get("noise"), axes.get("snr_db")
    where = f"conditions.enrollment: same_noisy on data set {dataset.name}"
    if dataset.noises and snr_db is None:
        raise SpecError(f"{where} needs an SNR; add enrollment: {{snr_db: -10}}, or an axis snr_db")
    if snr_db is not None and not dataset.noises:
        raise SpecError(f"{where}: the data set has no noise to mix; give it one, or no SNR")
    if noise is not None and noise not in dataset.noises:
        known = ", ".join(dataset.noises)
        raise SpecError(f"enrollment.noise: {dataset.name} has no noise {noise!r}; it has {known}")
    if not dataset.noises and any(_clean(sample) for sample in dataset.samples):
        raise SpecError(f"{where}: it has neither noise to mix nor noisy audio among its inputs")


def _clean(sample: Sample) -> bool:
    return sample.inputs.get("audio") in (None, sample.reference)
