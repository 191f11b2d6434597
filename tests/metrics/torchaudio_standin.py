"""Lets torchaudio's Python part be imported where its binary part does not load.

torchaudio's wheels are built for torch with CUDA: beside a CPU-only torch their binary extension
cannot be loaded, and so neither can what imports torchaudio (SpeechBrain, pyannote.audio). What the
tests ask of these packages needs none of that extension.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from typing import Any


def imported(name: str) -> Any:
    """Import a module that needs torchaudio; its warnings are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _torchaudio()
        return importlib.import_module(name)


def _torchaudio() -> None:
    try:
        importlib.import_module("torchaudio")
    except OSError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        absent: Any = types.ModuleType("torchaudio._extension")
        absent.fail_if_no_align = lambda function: function
        absent._IS_TORCHAUDIO_EXT_AVAILABLE = absent._IS_ALIGN_AVAILABLE = False
        sys.modules[absent.__name__] = absent
        importlib.import_module("torchaudio")
