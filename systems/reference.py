"""The true clip itself: the ceiling row of a board."""

from __future__ import annotations

from pathlib import Path

from phonoscope.plugins import system
from phonoscope.types import Clip, Sample


@system(needs=("reference",), materialise=False)
def reference(sample: Sample, out: Path, *, seed: int) -> Clip | None:
    """Return the sample's reference as if a system had made it. Nothing is written."""
    return sample.reference
