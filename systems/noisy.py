"""The input itself: the row that an enhancer has to beat."""

from __future__ import annotations

from pathlib import Path

from phonoscope.plugins import system
from phonoscope.types import Clip, Sample


@system(needs=("audio",), materialise=False)
def noisy(sample: Sample, out: Path, *, seed: int) -> Clip:
    """Return the `audio` input as it is, noise included. Nothing is written."""
    return sample.inputs["audio"]
