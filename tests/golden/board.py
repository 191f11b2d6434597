"""Make the leaderboard's golden files: `python tests/golden/board.py`, then read the diff."""

from __future__ import annotations

import math
import random
from pathlib import Path

from phonoscope.leaderboard import Cell, Column, Leaderboard, Published, Row, SampleValue, render
from phonoscope.types import Condition, Estimate

HERE = Path(__file__).parent
WORDS = ("bbaf", "lwbs", "pgid", "swiz", "lrae", "gwaj")
SHA = "8a3f1c0d9b7e6f5a4c3b2a1908f7e6d5c4b3a29180f7e6d5c4b3a29180f7e6d5"
COLUMNS = (
    Column(
        "pesq_wb", "PESQ-WB", "MOS", "higher", 2, 4.64, None, "1",
        {
            "aggregate": "mean",
            "views": {"generated": "audio(rate=16000) v1", "reference": "audio(rate=16000) v1"},
            "packages": {"pesq": "0.0.4"},
            "weights": [],
        },
    ),
    Column("estoi", "ESTOI", "-", "higher", 3, 1.0, None, "2", {"packages": {"pystoi": "0.4.1"}}),
    Column(
        "dnsmos_p808", "DNSMOS P.808", "MOS", "higher", 2, None, "dnsmos", "1",
        {
            "views": {"generated": "dnsmos_p808(window=reference) v1 <- audio(rate=16000) v1"},
            "packages": {"onnxruntime": "1.20.1"},
            "weights": [{"name": "dnsmos/model_v8", "sha256": SHA, "licence": "CC-BY-4.0"}],
        },
    ),
    Column("wer_pocketsphinx_grid", "WER", "%", "lower", 1, 0.0, None, "1", {}),
    Column("nisqa", "NISQA", "MOS", "higher", planned=True),
    Column(
        "lse_d", "LSE-D", "-", "lower",
        unavailable="weights_missing: syncnet/v2 is not on this machine",
    ),
)  # fmt: skip
# Per metric: the value of the unprocessed mixture at 0 dB, change per dB, gain of the two systems.
SHAPE = {
    "pesq_wb": (1.35, 0.045, 0.22, 0.45, 0.71),
    "estoi": (0.52, 0.021, 0.03, 0.09, 0.16),
    "dnsmos_p808": (2.55, 0.03, 0.28, 0.55, 0.81),
    "wer_pocketsphinx_grid": (46.0, -2.4, -3.0, -12.0, -16.0),
}
NAMES = {
    "small": ("spectral_gate", "Lip<b>2</b>Wav & \\co_{1}", '混合 | "net"'),
    "large": ("spectral_gate", "LipVoicer", "LipDiffuser"),
}


def small() -> Leaderboard:
    """Return the board of the golden files."""
    return make(NAMES["small"], snrs=(0, -10), samples=6)


def large() -> Leaderboard:
    """Return a board of six SNRs, to be looked at."""
    return make(NAMES["large"], snrs=(5, 0, -5, -10, -15, -20), samples=24)


def make(names: tuple[str, ...], *, snrs: tuple[int, ...], samples: int) -> Leaderboard:
    """Return a board with failures, an unsupported sample, a leak and published numbers."""
    rows = []
    for snr in snrs:
        rows += [_row("noisy", "reference", snr, samples, 0, fail=0)]
        for i, name in enumerate(names):
            rows.append(
                _row(
                    name, "system", snr, samples, i + 1, fail=2 if i == 0 and snr == snrs[-1] else 0
                )
            )
    return Leaderboard(
        title="Quickstart <demo> & more" if samples < 10 else "Speech from lips in noise",
        description="Utterances in babble. Systems hear the mixture, see the face, or both.",
        protocol="quickstart",
        task="lip2speech",
        columns=COLUMNS,
        rows=tuple(rows),
        published=_papers(names, snrs, samples),
        provenance={
            "packages": {"phonoscope": "0.1.0", "numpy": "2.2.6", "scipy": "1.15.3"},
            "datasets": {"demo": "5f0c2ab41e9d77aa"},
            "seeds": [0],
            "mixing": {"level": "whole_file_power", "clip": "rescale_peak095"},
            "interval": "95 % percentile bootstrap over groups, 2000 draws, seed 0",
        },
        notes=("WER is the mean over utterances.",),
    )


def _papers(names: tuple[str, ...], snrs: tuple[int, ...], samples: int) -> tuple[Published, ...]:
    source = "Doe & Roe 2025, Table 1, https://example.org/paper?a=1&b=<2>"
    at = f"snr_db={snrs[-1]}"
    return (
        Published(names[2], "pesq_wb", 1.86, 0.2, samples, at, source, "demo"),
        Published(names[2], "estoi", 0.81, 0.1, samples, at, source, "demo"),
        Published(names[2], "dnsmos_p808", 3.64, 0.30, 1321, at, source, "demo"),
        Published(names[2], "nisqa", 4.57, 0.52, 1321, at, source, "demo"),
        Published(names[1], "dnsmos_p808", 3.17, 0.30, 1321, at, source, "demo"),
        Published(
            names[0], "dnsmos_p808", 2.90, None, None, at, source, "demo", "read off a figure"
        ),
        Published("IL2S (SSL)", "dnsmos_p808", 2.86, 0.28, 1321, at, source, "demo"),
    )


def _row(name: str, kind: str, snr: int, samples: int, rank: int, *, fail: int) -> Row:
    draw = random.Random(f"{name}{snr}")
    ids = [f"s{i // 6 + 1}_{WORDS[i % 6]}{i}n" for i in range(samples)]
    gone = ids[2 : 2 + fail]
    cells = {metric: _cell(metric, snr, rank, ids, gone, draw) for metric in SHAPE}
    marks = ("incomplete", "not_ranked") if fail else ()
    return Row(
        system=name,
        dataset="demo",
        dataset_revision="5f0c2ab41e9d77aa",
        condition=Condition((("snr_db", snr),)),
        seed=0,
        kind=kind,
        n_total=samples,
        cells=cells,
        marks=marks,
        trained_on=("LRS3",) if rank > 1 else (),
        encoders=("dnsmos",) if rank == 2 else (),
        generation_failures=tuple(
            (
                sample,
                "missing_clip",
                f"outputs/{name}/{sample}.wav: no such file",
            )
            for sample in gone
        ),
    )


def _cell(
    metric: str, snr: int, rank: int, ids: list[str], gone: list[str], draw: random.Random
) -> Cell:
    base, slope, *gains = SHAPE[metric]
    centre = base + slope * snr * (1.0, 0.95, 0.35, 0.25)[rank] + (0.0, *gains)[rank]
    spread = abs(base) * 0.11
    samples = []
    for i, sample in enumerate(ids):
        value = round(centre + draw.uniform(-1, 1) * spread + draw.uniform(-1, 1) * spread, 4)
        if sample in gone:
            samples.append(
                SampleValue(sample, sample[:2], None, "failed", "missing_clip", "no clip")
            )
        elif metric == "pesq_wb" and rank == 2 and i == 4 and snr == -10:
            samples.append(
                SampleValue(
                    sample,
                    sample[:2],
                    None,
                    "failed",
                    "no_utterances",
                    f"{sample}: PESQ found no speech in the reference",
                )
            )
        elif metric == "wer_pocketsphinx_grid" and i == 5:
            samples.append(
                SampleValue(
                    sample,
                    sample[:2],
                    None,
                    "unsupported",
                    "no_transcript",
                    "the sample has no transcript",
                )
            )
        else:
            samples.append(SampleValue(sample, sample[:2], value))
    return Cell(
        _estimate(samples),
        tuple(samples),
        _ranks(metric, rank, snr),
        ("leakage",) if metric.startswith("dnsmos") and rank == 2 else (),
    )


def _ranks(metric: str, rank: int, snr: int) -> tuple[int, int] | None:
    if rank == 0 or (metric.startswith("dnsmos") and rank == 2):
        return None
    return (1, 1) if rank == 3 else (2, 3) if snr > -10 else (2, 2) if rank == 2 else None


def _estimate(samples: list[SampleValue]) -> Estimate:
    values = [s.value for s in samples if s.value is not None]
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
    half = 1.96 * std / math.sqrt(len(values))
    failed, unsupported = (
        sum(s.status == name for s in samples) for name in ("failed", "unsupported")
    )
    mean, low, high, std = (round(v, 5) for v in (mean, mean - half, mean + half, std))
    return Estimate(mean, low, high, std, len(values), failed, unsupported, ("few_groups",))


if __name__ == "__main__":
    render(small(), HERE)
