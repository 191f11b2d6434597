"""The systems in the tree: pass-through rows, the classical enhancer, imported files, controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import media, plugins
from phonoscope.errors import MissingClip, NonfiniteOutput, SpecError, TooShort
from phonoscope.noise import mix
from phonoscope.systems.controls import (
    SHIFT,
    _circle,
    control_chance,
    control_identical,
    control_shift_200ms,
    control_silence,
    control_white_noise,
)
from phonoscope.systems.imported import imported
from phonoscope.systems.noisy import noisy
from phonoscope.systems.reference import reference
from phonoscope.systems.spectral_gate import spectral_gate
from phonoscope.types import Audio, Clip, Condition, Dataset, Sample, Window

NAMES = {
    "reference",
    "noisy",
    "spectral_gate",
    "imported",
    "control_identical",
    "control_chance",
    "control_white_noise",
    "control_silence",
    "control_shift_200ms",
}

WRITE = {"spectral_gate", "control_white_noise", "control_silence", "control_shift_200ms"}


def wav(path: Path, samples: Any, rate: int = 16_000) -> Clip:
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write_wav(path, Audio(np.asarray(samples, np.float32), rate))
    return Clip(str(path))


def read(path: Any, rate: int) -> np.ndarray:
    return media.read_audio(Clip(str(path)), rate=rate).samples


def tone(seconds: float, rate: int = 16_000) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return np.sin(2 * np.pi * 440 * times) * (np.sin(2 * np.pi * times) > 0) * 0.3


def sweeps() -> np.ndarray:
    """Rising tones with pauses, 3 s: like speech, each band sounds for a moment only."""
    times = np.arange(48_000) / 16_000 % 0.75
    return np.sin(2 * np.pi * (300 * times + 2_000 * times**2)) * (times < 0.5) * 0.3


def test_they_are_found_and_documented() -> None:
    plugins.discover()
    assert set(plugins.SYSTEMS) >= NAMES
    for name in NAMES:
        item = plugins.SYSTEMS.get(name)
        assert item.doc
        assert item.materialise == (name in WRITE), name


def test_reference_and_noisy_pass_clips_through(tmp_path: Path) -> None:
    clean, loud = wav(tmp_path / "c.wav", tone(1)), wav(tmp_path / "n.wav", tone(2))
    sample = Sample("a", "g", {"audio": loud}, clean)
    assert reference(sample, tmp_path, seed=0) is clean
    assert control_identical(sample, tmp_path, seed=0) is clean
    (mixed,) = [mix(sample, [loud], snr_db=0, seed=0)]
    assert noisy(mixed, tmp_path, seed=0).effect is not None
    assert reference.needs == ("reference",)
    assert noisy.needs == ("audio",)


# The enhancer


@pytest.fixture
def noised(tmp_path: Path) -> Sample:
    speech = wav(tmp_path / "speech.wav", sweeps())
    hiss = wav(tmp_path / "hiss.wav", np.random.default_rng(1).standard_normal(80_000) * 0.1)
    return mix(Sample("a", "g", {"audio": speech}, speech), [hiss], snr_db=0, seed=0)


def si_sdr(reference: np.ndarray, generated: np.ndarray) -> float:
    target = np.dot(generated, reference) / np.dot(reference, reference) * reference
    return float(10 * np.log10(np.sum(target**2) / np.sum((generated - target) ** 2)))


@pytest.mark.parametrize("stationary", [True, False])
def test_the_gate_takes_noise_away(noised: Sample, tmp_path: Path, stationary: bool) -> None:
    pytest.importorskip("noisereduce", reason="noisereduce comes with the extra `demo`")
    made = spectral_gate(noised, tmp_path, seed=0, stationary=stationary)
    assert made == tmp_path / "generated.wav"
    clean = sweeps()
    before = media.read_audio(noised.inputs["audio"], rate=16_000).samples
    after = read(made, 16_000)
    assert len(after) == len(clean)
    assert si_sdr(clean, after) > si_sdr(clean, before) + 3


def test_the_gate_gives_the_same_bytes_whatever_the_seed(noised: Sample, tmp_path: Path) -> None:
    pytest.importorskip("noisereduce", reason="noisereduce comes with the extra `demo`")
    folders = [tmp_path / str(i) for i in range(2)]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        spectral_gate(noised, folder, seed=seed)
    first, second = ((folder / "generated.wav").read_bytes() for folder in folders)
    assert first == second


def test_the_gate_names_what_it_cannot_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisereduce = pytest.importorskip("noisereduce", reason="it comes with the extra `demo`")
    short = Sample("tiny", "g", {"audio": wav(tmp_path / "s.wav", tone(0.05))})
    with pytest.raises(TooShort, match="sample tiny: 800 samples, needs 1024"):
        spectral_gate(short, tmp_path, seed=0)
    long = Sample("a", "g", {"audio": wav(tmp_path / "l.wav", tone(1))})
    with pytest.raises(SpecError, match=r"prop_decrease is 2; give 0 to 1"):
        spectral_gate(long, tmp_path, seed=0, prop_decrease=2)
    monkeypatch.setattr(noisereduce, "reduce_noise", lambda y, **_: np.full(len(y), np.nan))
    with pytest.raises(NonfiniteOutput, match="sample a"):
        spectral_gate(long, tmp_path, seed=0)


@pytest.mark.parametrize("stationary", [True, False])
def test_the_gate_leaves_digital_silence_alone(tmp_path: Path, stationary: bool) -> None:
    pytest.importorskip("noisereduce", reason="noisereduce comes with the extra `demo`")
    silent = Sample("a", "g", {"audio": wav(tmp_path / "s.wav", np.zeros(16_000))})
    assert not read(spectral_gate(silent, tmp_path, seed=0, stationary=stationary), 16_000).any()


# Imported files


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    for name in ("s1/a.wav", "s1/b.mp4", "s1/b.txt", "s2/C.WAV", "s1/twice.wav", "s1/twice.mp3"):
        path = tmp_path / "outputs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "outputs"


def named(folder: Path, sample: str, **params: Any) -> str:
    clip = imported(Sample(sample, "s1"), folder, seed=3, folder=str(folder), **params)
    assert isinstance(clip, Clip)
    return Path(clip.path).relative_to(folder).as_posix()


@pytest.mark.parametrize(
    ("sample", "pattern", "file"),
    [
        ("s1/a", "{id}", "s1/a.wav"),
        ("s1/b", "{id}", "s1/b.mp4"),
        ("s2/C", "{id}", "s2/C.WAV"),
        ("s1/twice", "{id}.mp3", "s1/twice.mp3"),
        ("x/a", "{group}/{stem}", "s1/a.wav"),
        ("a.flac", "{group}/{stem}.wav", "s1/a.wav"),
        ("a", "s1/{id}.wav", "s1/a.wav"),
        ("../a", "s1/{stem}", "s1/a.wav"),
    ],
)
def test_imported_files_are_found(outputs: Path, sample: str, pattern: str, file: str) -> None:
    assert named(outputs, sample, pattern=pattern) == file


def test_the_seed_and_strange_ids_are_filled_in_once(outputs: Path) -> None:
    for name in ("a_3.wav", "{seed}_3.wav", "quo'te \u00e4_3.wav", "v1.2_3.wav", "v1.wav_3.wav"):
        (outputs / name).write_bytes(b"x")
        assert named(outputs, name.removesuffix("_3.wav"), pattern="{id}_{seed}") == name


def test_a_file_that_came_later_is_found(outputs: Path) -> None:
    with pytest.raises(MissingClip):
        named(outputs, "s1/late")
    (outputs / "s1/late.flac").write_bytes(b"x")
    assert named(outputs, "s1/late") == "s1/late.flac"


@pytest.mark.parametrize(
    ("sample", "pattern", "parts"),
    [
        ("s1/aa", "{id}", ["'s1/aa'", "s1/aa: no such file", "near names: a.wav"]),
        ("s1/aa", "{id}.wav", ["s1/aa.wav: no such file", "near names: a.wav"]),
        ("zzzzzz", "{id}", ["zzzzzz: no such file", "nothing in", "is named like it"]),
        ("nodir/a", "{id}", ["nodir/a: no such file"]),
        ("s1/twice", "{id}", ["more than one file fits", "twice.mp3, twice.wav", "{id}.wav"]),
        ("../../etc/passwd", "{id}", ["lies outside", "{stem}"]),
        ("/etc/passwd", "{id}", ["lies outside"]),
        ("x" * 300, "{id}", ["no such file"]),
        ("nul\0", "{id}", ["no such file"]),
        ("nul\0", "{id}.wav", ["no such file"]),
        ("x" * 300, "{id}/{id}.wav", ["no such file"]),
    ],
)
def test_a_missing_file_is_named(
    outputs: Path, sample: str, pattern: str, parts: list[str]
) -> None:
    with pytest.raises(MissingClip) as error:
        named(outputs, sample, pattern=pattern)
    for part in parts:
        assert part in str(error.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        MissingClip, match="nowhere: no such folder; correct the system's parameter"
    ):
        imported(Sample("a", "g"), tmp_path, seed=0, folder=str(tmp_path / "nowhere"))


@given(st.text(max_size=40))
@settings(deadline=None)
def test_no_id_leads_out_of_the_folder_or_to_another_error(sample: str) -> None:
    here = Path(__file__).parent
    with pytest.raises(MissingClip):
        imported(Sample(sample, "g"), here, seed=0, folder=str(here))


def test_a_window_is_stated(outputs: Path) -> None:
    clip = imported(Sample("s1/a", "s1"), outputs, seed=0, folder=str(outputs), window=[0.5, 2])
    assert clip.window == Window(0.5, 2.0)


@pytest.mark.parametrize(
    "window", [[1], [1, 1], [2, 1], [-1, 1], ["a", "b"], [0, 1, 2], [0, float("nan")]]
)
def test_a_wrong_window_is_named(outputs: Path, window: Any) -> None:
    with pytest.raises(SpecError, match=r"give \[start, stop\] in seconds"):
        named(outputs, "s1/a", window=window)


def test_real_outputs_are_found_for_every_utterance(shared_data: Path) -> None:
    root = shared_data / "lrs3_demo"
    ids = [
        path.relative_to(root / "orig").with_suffix("").as_posix()
        for path in (root / "orig").rglob("*.mp4")
    ]
    assert len(ids) == 5
    for system in ("lipdiffuser", "avgen"):
        assert [named(root / system, sample) for sample in ids] == [
            f"{sample}.mp4" for sample in ids
        ]


# Controls


@pytest.fixture
def stereo(tmp_path: Path) -> Sample:
    import soundfile

    channels = np.stack([tone(2, 44_100), np.random.default_rng(0).uniform(-1, 1, 88_200)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", channels, 44_100, subtype="FLOAT")
    return Sample("a", "g", reference=Clip(str(tmp_path / "stereo.wav")))


def test_sound_controls_have_the_references_length_at_22050_hz(
    stereo: Sample, tmp_path: Path
) -> None:
    assert stereo.reference is not None
    truth = media.read_audio(stereo.reference, rate=22_050).samples
    noise = read(control_white_noise(stereo, tmp_path, seed=7), 22_050)
    assert (
        noise.tolist()
        == (np.random.RandomState(0).standard_normal(44_100) * 0.1).astype(np.float32).tolist()
    )
    silence = read(control_silence(stereo, tmp_path, seed=7), 22_050)
    assert len(silence) == len(truth) == 44_100
    assert not silence.any()
    shifted = read(control_shift_200ms(stereo, tmp_path, seed=7), 22_050)
    assert (shifted == truth[SHIFT:]).all()
    assert SHIFT / 22_050 == 0.2


def test_a_reference_shorter_than_the_shift_is_named(tmp_path: Path) -> None:
    short = Sample("tiny", "g", reference=wav(tmp_path / "t.wav", tone(0.2, 22_050), 22_050))
    with pytest.raises(TooShort, match="'tiny': 4410 samples, needs more than 4410"):
        control_shift_200ms(short, tmp_path, seed=0)


def dataset(count: int) -> Dataset:
    samples = [Sample(f"id{i}", "g", reference=Clip(f"{i}.wav")) for i in range(count)]
    return Dataset("mine", (Sample("none", "g"), *samples), "r")


@pytest.mark.parametrize("count", [2, 3, 7, 50])
def test_chance_is_a_seeded_derangement(count: int) -> None:
    mine = dataset(count)

    def row(seed: int) -> list[str]:
        clips = [control_chance(s, Path(), seed=seed, dataset=mine) for s in mine.samples[1:]]
        return [clip.path for clip in clips]

    own = [s.reference.path for s in mine.samples if s.reference]
    for seed in range(5):
        assert sorted(row(seed)) == sorted(own)
        assert all(a != b for a, b in zip(row(seed), own, strict=True))
        assert row(seed) == row(seed)
    assert count < 4 or len({tuple(row(seed)) for seed in range(20)}) > 5


def test_every_ordered_pair_of_chance_is_about_equally_likely() -> None:
    counts = np.zeros((6, 6))
    for seed in range(3_000):
        counts[np.arange(6), _circle(6, seed)] += 1
    off = counts[~np.eye(6, dtype=bool)]
    assert not counts.diagonal().any()
    assert off.min() > 500
    assert off.max() < 700


@pytest.mark.parametrize("mine", [dataset(1), Dataset("mine", (Sample("id0", "g"),), "r")])
def test_chance_needs_another_reference(mine: Dataset) -> None:
    with pytest.raises(MissingClip, match="'id0': chance needs two samples with a reference"):
        control_chance(Sample("id0", "g", reference=Clip("0.wav")), Path(), seed=0, dataset=mine)


def test_imported_outputs_of_a_sweep_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    for snr in (-5, 0):
        (tmp_path / str(snr)).mkdir()
        (tmp_path / str(snr) / "a.wav").write_bytes(b"x")
    sample = Sample("a", "a")
    for snr in (-5, 0):
        condition = Condition((("snr_db", snr),))
        where = {"folder": str(tmp_path), "pattern": "{snr_db}/{id}", "condition": condition}
        made = imported(sample, Path(), seed=0, **where)
        assert made.path == str(tmp_path / str(snr) / "a.wav")
