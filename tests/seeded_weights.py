"""A weights folder in which no network is missing.

Where the real file is here, it is that one; else a network of the same kind with seeded values,
most of them small, in the published format. Its numbers mean nothing: it is there for what holds
whatever the values are.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from phonoscope import plugins, weights

NEEDED = ("torch", "transformers")


def complete(root: Path, real: Path) -> Path:
    """Fill the folder `root` with links to files below `real`, and to seeded ones; return it."""
    plugins.discover()
    seeded = root / "seeded"
    if all(importlib.util.find_spec(name) for name in NEEDED):
        _write(seeded)
    for name in weights.WEIGHTS:
        file = weights.WEIGHTS.get(name).file
        found = next((f / file for f in (real, seeded) if (f / file).exists()), None)
        if found:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).symlink_to(found)
    return root


def _write(root: Path) -> None:
    import asr_cases
    import speaker_cases
    import test_speech_bert_score
    import test_utmos

    asr_cases.write_words(root)
    asr_cases.write_phonemes(root)
    speaker_cases.write_all(root)
    test_speech_bert_score.write_all(root)
    test_utmos.write_published(root)
    if importlib.util.find_spec("nemo"):
        import test_wer_nemo

        test_wer_nemo.write(root, test_wer_nemo.seeded())
