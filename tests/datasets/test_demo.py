"""The demo: whole, audible, visible, in step, and the same every time."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from phonoscope import media, plugins
from phonoscope.errors import DatasetError, DependencyMissing, NoAudioStream
from phonoscope.metrics.wer import pocketsphinx_grid, wer_pocketsphinx_grid
from phonoscope.types import Clip, Dataset, Ratio
from phonoscope.views import see

pytest.importorskip("espeakng_loader", reason="espeakng-loader comes with the extra `demo`")
making = importlib.import_module("phonoscope.datasets.demo")


@pytest.fixture
def demo(cache: Path) -> Dataset:
    plugins.discover()
    found: Dataset = plugins.DATASETS.get("demo")("demo")
    return found


def sound(clip: Clip) -> np.ndarray:
    return media.read_audio(clip, rate=16_000).samples


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.asarray(signal, float) ** 2)))


def test_six_speakers_say_four_sentences_each(demo: Dataset) -> None:
    assert Counter(s.group for s in demo.samples) == dict.fromkeys(
        ("s1", "s2", "s3", "s4", "s5", "s6"), 4
    )
    said = [s.meta["transcript"].split() for s in demo.samples]
    assert all(len(words) == 6 for words in said)
    assert len({tuple(words) for words in said}) == 24
    by_slot = [Counter(words) for words in zip(*said, strict=True)]
    assert [len(counts) for counts in by_slot] == [4, 4, 4, 24, 10, 4]
    assert all(max(c.values()) - min(c.values()) <= 1 for c in by_slot)


def test_sentences_follow_the_codes_of_grid(shared_data: Path) -> None:
    lines = (shared_data / "grid/transcripts.tsv").read_text().splitlines()
    for code, text in (line.split("\t") for line in lines if line):
        assert making.transcript(code) == text


def test_sound_is_clean_level_and_never_clipped(demo: Dataset) -> None:
    for sample in demo.samples:
        assert sample.reference is not None
        signal = sound(sample.reference)
        spoken = signal[np.flatnonzero(signal)[0] : np.flatnonzero(signal)[-1] + 1]
        assert np.abs(signal).max() < 0.9
        assert rms(spoken) == pytest.approx(making.LEVEL, rel=0.05)
        assert 1.5 < len(signal) / 16_000 < 4
        assert not signal[: 16_000 // 8].any()


def test_the_enrollment_is_another_utterance_of_the_same_speaker(demo: Dataset) -> None:
    by_path = {s.reference.path: s for s in demo.samples if s.reference}
    for sample in demo.samples:
        other = by_path[sample.inputs["enrollment"].path]
        assert other.group == sample.group
        assert other.id != sample.id


def test_pictures_are_silent_and_as_long_as_the_sound(demo: Dataset) -> None:
    for sample in demo.samples[::5]:
        assert sample.reference is not None
        frames = media.read_frames(sample.inputs["video"])
        assert frames.fps == pytest.approx(25)
        assert frames.pixels.shape[1:] == (96, 96, 3)
        assert len(frames.pixels) * 640 == len(sound(sample.reference))
        with pytest.raises(NoAudioStream):
            media.read_audio(sample.inputs["video"], rate=16_000)


def test_the_mouth_moves_in_step_with_the_sound(demo: Dataset) -> None:
    """Change of the mouth's region since it was closed, against the level of the sound."""
    for sample in demo.samples[::4]:
        assert sample.reference is not None
        pixels = media.read_frames(sample.inputs["video"]).pixels.astype(float)
        mouth = np.abs(pixels - pixels[0])[:, 64:86, 34:62].mean(axis=(1, 2, 3))
        level = making.opening(sound(sample.reference).astype(float))
        delays = range(-6, 7)
        matches = [np.corrcoef(np.roll(mouth, -delay), level)[0, 1] for delay in delays]
        assert delays[int(np.argmax(matches))] == 0
        assert max(matches) > 0.8


def test_speakers_look_and_sound_different(demo: Dataset) -> None:
    first = {s.group: s for s in reversed(demo.samples)}
    faces = [media.read_frames(s.inputs["video"]).pixels[0].astype(float) for s in first.values()]
    for i, face in enumerate(faces):
        for other in faces[:i]:
            assert np.abs(face - other).mean() > 3
    assert len({voice for voice, _ in making.VOICES.values()}) == 6


def test_noises_are_long_enough_and_level(demo: Dataset) -> None:
    longest = max(len(sound(s.reference)) for s in demo.samples if s.reference)
    assert list(demo.noises) == ["pink", "babble"]
    for (clip,) in demo.noises.values():
        signal = sound(clip)
        assert len(signal) >= 2 * longest
        assert rms(signal) == pytest.approx(making.LEVEL, rel=1e-4)
        parts = np.array_split(signal, 10)
        assert max(map(rms, parts)) < 2 * min(map(rms, parts))


def test_pink_noise_falls_by_three_decibels_per_octave() -> None:
    power = np.abs(np.fft.rfft(making.pink(1 << 18, seed=5))) ** 2
    frequencies = np.fft.rfftfreq(1 << 18, 1 / 16_000)
    bands = [(low, 2 * low) for low in (50, 100, 200, 400, 800, 1_600, 3_200)]
    levels = [
        10 * np.log10(power[(frequencies >= low) & (frequencies < high)].mean())
        for low, high in bands
    ]
    assert np.diff(levels) == pytest.approx(-10 * np.log10(2), abs=0.5)


def test_no_speaker_is_in_the_babble() -> None:
    speakers = {voice.name for voice, _ in making.VOICES.values()}
    assert not speakers & {voice.name for voice in making.BABBLE_VOICES}
    assert not set(making.SENTENCES) & set(making.BABBLE_SENTENCES)


def test_clean_speech_is_understood(demo: Dataset) -> None:
    pytest.importorskip("pocketsphinx", reason="pocketsphinx comes with the extra `demo`")
    texts = see(pocketsphinx_grid, [s.reference for s in demo.samples if s.reference])
    rates = []
    for text, sample in zip(texts, demo.samples, strict=True):
        value = wer_pocketsphinx_grid(text, sample.meta["transcript"]).value
        assert isinstance(value, Ratio)
        rates.append(value.numerator / value.denominator)
    assert np.mean(rates) < 0.15


def test_made_again_it_has_the_same_bytes(
    demo: Dataset, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path))
    told: list[tuple[str, int, int]] = []
    folder = making.ensure(lambda *step: told.append(step))
    assert told[-1] == ("utterances", 24, 24)
    assert contents(folder) == contents(cache / "demo-v1")
    assert making.demo("demo").revision == demo.revision
    assert [path.name for path in tmp_path.iterdir()] == ["demo-v1"]


def test_a_finished_one_is_not_made_again(
    cache: Path, demo: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "make", lambda *_: pytest.fail("made again"))
    monkeypatch.setattr(making, "missing_packages", lambda _: ["espeakng_loader"])
    assert making.demo("demo").revision == demo.revision


def _copy(demo_folder: Path, target: Path) -> None:
    for name, data in contents(demo_folder).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)


def test_a_damaged_one_is_made_again(
    demo: Dataset, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cache / "demo-v1"
    _copy(whole, tmp_path / "demo-v1")
    (tmp_path / "demo-v1/noise/pink.wav").unlink()
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path))
    monkeypatch.setattr(making, "make", lambda folder, progress: _copy(whole, folder))
    assert contents(making.ensure()) == contents(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["demo-v1"]


def test_a_crash_in_the_middle_leaves_nothing_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path))
    monkeypatch.setattr(making, "write_film", stop)
    with pytest.raises(KeyboardInterrupt):
        making.ensure()
    assert not list(tmp_path.iterdir())


def _make_in(cache: str) -> str:
    os.environ["PHONOSCOPE_CACHE"] = cache
    revision: str = making.demo("demo").revision
    return revision


def test_two_processes_at_once_make_one(demo: Dataset, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_make_in, [str(tmp_path)] * 2) == [demo.revision] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["demo-v1"]


def test_without_the_voice_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path))
    monkeypatch.setattr(making, "missing_packages", list)
    with pytest.raises(DependencyMissing, match=r"pip install 'phonoscope\[demo\]'"):
        making.demo("demo")
    assert not list(tmp_path.iterdir())


def test_a_cache_that_is_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("not a folder")
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DatasetError, match="set PHONOSCOPE_CACHE to a folder with space"):
        making.demo("demo")


def test_a_voice_that_does_not_exist_is_named() -> None:
    with pytest.raises(DatasetError, match="refused voice nobody"):
        making._espeak([{"text": "a", "voice": "nobody", "speed": 130, "pitch": 50}])


def test_what_the_speaking_program_writes_is_checked() -> None:
    from phonoscope.datasets.espeak import Speaker, decode, encode

    speaker = Speaker()
    spoken = speaker.say("bin blue", voice="en-us", speed=130, pitch=50)
    assert speaker.rate == 22_050
    assert len(spoken) > speaker.rate
    with pytest.raises(RuntimeError, match="refused voice nobody: status"):
        speaker.say("a", voice="nobody", speed=130, pitch=50)
    assert encode([{"text": "\u00e4"}, {"text": "b"}]).decode().split("\n")[1] == '{"text": "b"}'
    whole = b"\x22\x56\0\0\x02\0\0\0\x02\0\0\0\x04\0\0\0" + b"abcdef"
    assert decode(whole) == (22_050, [b"ab", b"cdef"])
    with pytest.raises(ValueError, match="has 21 bytes, announced were 22"):
        decode(whole[:-1])
