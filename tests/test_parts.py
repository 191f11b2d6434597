"""Parts of sound files: the same samples as the whole, and errors where the whole has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from phonoscope import media, noise
from phonoscope.errors import DecodeError, MissingClip, NonfiniteAudio
from phonoscope.types import Audio, Clip, Window

RATE = 16_000


def written(path: Path, *, channels: int = 1, **options: Any) -> Clip:
    signal = np.random.default_rng(0).uniform(-0.9, 0.9, (5000, channels))
    soundfile.write(path, signal, RATE, **options)
    return Clip(str(path))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("wav", {"subtype": "PCM_16"}),
        ("wav", {"subtype": "PCM_24"}),
        ("wav", {"subtype": "PCM_U8"}),
        ("wav", {"subtype": "FLOAT"}),
        ("wav", {"subtype": "DOUBLE"}),
        ("wav", {"subtype": "PCM_16", "channels": 3}),
        ("aiff", {"subtype": "PCM_16"}),
        ("flac", {}),
    ],
)
def test_a_part_is_the_same_samples(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    clip = written(tmp_path / f"n.{suffix}", **options)
    whole = media.read_audio(clip, rate=RATE).samples
    assert media.countable(clip, rate=RATE) == len(whole) == 5000
    for start, stop in ((0, 5000), (17, 18), (4990, 5000), (1234, 3456)):
        part = media.read_part(clip, start, stop)
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part, whole[start:stop])


@pytest.mark.parametrize("options", [{"subtype": "IMA_ADPCM"}, {"subtype": "ULAW"}])
def test_packed_samples_are_not_counted(tmp_path: Path, options: dict[str, Any]) -> None:
    assert media.countable(written(tmp_path / "n.wav", **options), rate=RATE) is None


def test_what_is_not_read_in_parts(tmp_path: Path) -> None:
    clip = written(tmp_path / "n.wav")
    assert media.countable(clip, rate=8_000) is None
    assert media.countable(Clip(clip.path, window=Window(0, 0.1)), rate=RATE) is None
    mixture = noise.Mixture(clip, 0, 0)
    assert media.countable(Clip(clip.path, effect=mixture), rate=RATE) is None
    assert media.countable(written(tmp_path / "n.ogg"), rate=RATE) is None
    assert media.countable(written(tmp_path / "n.mp3"), rate=RATE) is None


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(MissingClip):
        media.countable(Clip(str(tmp_path / "none.wav")), rate=RATE)
    clip = written(tmp_path / "n.wav")
    content = Path(clip.path).read_bytes()
    Path(clip.path).write_bytes(content[:-200])
    with pytest.raises(DecodeError, match="cut off"):
        media.countable(clip, rate=RATE)
    flac = written(tmp_path / "n.flac")
    Path(flac.path).write_bytes(Path(flac.path).read_bytes()[:-4000])
    with pytest.raises(DecodeError, match=r"n\.flac: "):
        media.read_part(flac, 4000, 5000)


def test_sixteen_bits_are_written_as_others_write_them(tmp_path: Path) -> None:
    samples = np.array([0, 0.5, -0.5, 1.5, -1.5, 1e-5, 3 / 65_536, 0.123456], np.float32)
    path = media.write_wav(tmp_path / "a.wav", Audio(samples, RATE), bits=16)
    found, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    assert soundfile.info(path).subtype == "PCM_16"
    expected = [0, 16_384, -16_384, 32_767, -32_768, 0, 2, 4045]
    assert found.tolist() == expected
    decoded = media.read_audio(Clip(str(path)), rate=RATE).samples
    np.testing.assert_array_equal(decoded, noise.rounded(samples.astype(float)).astype("f4"))
    assert path.stat().st_size == 44 + 2 * len(samples)


def test_a_sample_that_is_no_number(tmp_path: Path) -> None:
    samples = np.zeros(100, np.float32)
    samples[50] = np.nan
    clip = Clip(str(media.write_wav(tmp_path / "n.wav", Audio(samples, RATE))))
    assert not media.read_part(clip, 0, 50).any()
    with pytest.raises(NonfiniteAudio, match=r"n\.wav"):
        media.read_part(clip, 0, 51)


def test_mixtures_do_not_depend_on_how_noise_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = written(tmp_path / "n.wav", subtype="PCM_16")
    speech = Audio(np.random.default_rng(1).standard_normal(900).astype("f4"), RATE)
    mixtures = [
        noise.Mixture(clip, -5, key, short_noise=rule)
        for key in ("a", "b", 4500)
        for rule in ("wrap", "zero_pad")
    ]
    parts = [mixture.apply(speech).samples for mixture in mixtures]
    monkeypatch.setattr(media, "countable", lambda *_, **__: None)
    for mixture, part in zip(mixtures, parts, strict=True):
        np.testing.assert_array_equal(mixture.apply(speech).samples, part)
