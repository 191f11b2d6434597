"""From a store to a board."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phonoscope import Audio, runner, weights
from phonoscope.errors import WeightsMissing
from phonoscope.leaderboard import failed_samples
from phonoscope.media import write_wav
from phonoscope.protocol import load


@pytest.fixture
def protocol(tmp_path: Path) -> dict[str, object]:
    rng = np.random.default_rng(0)
    for group in range(3):
        for folder in ("clean", "near", "far"):
            (tmp_path / folder / str(group)).mkdir(parents=True)
        for number in range(2):
            clean = rng.standard_normal(16_000).astype(np.float32) * np.float32(0.1)
            noise = rng.standard_normal(16_000).astype(np.float32) * np.float32(0.05)
            write_wav(tmp_path / f"clean/{group}/{number}.wav", Audio(clean, 16_000))
            write_wav(tmp_path / f"near/{group}/{number}.wav", Audio(clean + noise / 9, 16_000))
            write_wav(tmp_path / f"far/{group}/{number}.wav", Audio(clean + noise, 16_000))
    return {
        "name": "p",
        "task": "lip2speech",
        "datasets": [
            {"name": "d", "kind": "folder", "options": {"reference": str(tmp_path / "clean")}}
        ],
        "systems": [
            {"name": name, "plugin": "imported", "params": {"folder": str(tmp_path / name)}}
            for name in ("near", "far")
        ],
        "metrics": ["si_sdr", "dnsmos_p808"],
    }


def test_a_column_that_nobody_can_have_here_leaves_the_ranks_of_the_others(
    protocol: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Path:
        raise WeightsMissing(f"{name} is not here")

    monkeypatch.setattr(weights, "locate", absent)
    board = runner.run(protocol, tmp_path / "store", engine="serial")
    near, far = board.rows
    assert near.cells["si_sdr"].ranks == (1, 1)
    assert far.cells["si_sdr"].ranks == (2, 2)
    assert "dnsmos_p808" not in near.cells
    assert failed_samples(near) == 0
    assert runner.too_many_failures(board, load(protocol))
    assert "incomplete" not in near.marks
    assert "not_ranked" not in near.marks
    assert board.columns[1].unavailable.startswith("weights_missing")


def test_a_row_with_failures_is_marked_and_not_ranked(
    protocol: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "far/0/1.wav").unlink()
    board = runner.run({**protocol, "metrics": ["si_sdr"]}, tmp_path / "store", engine="serial")
    near, far = board.rows
    assert far.cells["si_sdr"].estimate is not None
    assert (far.cells["si_sdr"].estimate.n, far.cells["si_sdr"].estimate.n_failed) == (5, 1)
    assert {"incomplete", "not_ranked"} <= set(far.marks)
    assert far.cells["si_sdr"].ranks is None
    assert near.cells["si_sdr"].ranks is None
