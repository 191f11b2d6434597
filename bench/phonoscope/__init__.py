"""phonoscope: evaluation and benchmarks for audio-visual generation.

The public names below are imported when they are first used, so that `import phonoscope` is fast.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phonoscope.plugins import dataset, metric, system
    from phonoscope.runner import run
    from phonoscope.scoring import score
    from phonoscope.types import (
        Audio,
        Clip,
        Dataset,
        Estimate,
        Failure,
        Frames,
        Ratio,
        Record,
        Sample,
    )
    from phonoscope.views import audio, frames, view

    __version__: str

__all__ = [
    "Audio",
    "Clip",
    "Dataset",
    "Estimate",
    "Failure",
    "Frames",
    "Ratio",
    "Record",
    "Sample",
    "__version__",
    "audio",
    "dataset",
    "frames",
    "metric",
    "run",
    "score",
    "system",
    "view",
]

# No module may be called as one of these names: importing it would take the name's place here.
_HOMES = {
    "phonoscope.types": (
        "Audio",
        "Clip",
        "Dataset",
        "Estimate",
        "Failure",
        "Frames",
        "Ratio",
        "Record",
        "Sample",
    ),
    "phonoscope.views": ("audio", "frames", "view"),
    "phonoscope.plugins": ("dataset", "metric", "system"),
    "phonoscope.runner": ("run",),
    "phonoscope.scoring": ("score",),
}
_LAZY = {name: home for home, names in _HOMES.items() for name in names}
_LINKED = ("leaderboards", "metrics", "systems")


def _check_links(root: Path) -> None:
    """Say what to do where a checkout has text files in place of the symlinked folders."""
    broken = [name for name in _LINKED if not (root / name).is_dir()]
    if broken:
        raise ImportError(
            f"{', '.join(str(root / name) for name in broken)}: should be a folder (in a checkout, "
            "a symlink to the folder of that name at the top). Git was probably told not to make "
            "symlinks: run `git config core.symlinks true && git checkout -- bench` (on Windows, "
            "switch on developer mode first), or install a wheel: `pip install phonoscope`."
        )


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("phonoscope")
    elif name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_check_links(Path(__file__).parent)
