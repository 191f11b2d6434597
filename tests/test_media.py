"""Decoding: real clips give the golden samples, broken ones their named error."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from phonoscope import media
from phonoscope.errors import (
    ClipError,
    DecodeError,
    EmptyAudio,
    MissingClip,
    NoAudioStream,
    NonfiniteAudio,
    NoVideoStream,
    TooShort,
)
from phonoscope.types import Audio, Clip, Frames, Window

RATE = 16_000


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype("f4")


def sound_of(path: Path, rate: int = RATE) -> Audio:
    return media.read_audio(Clip(str(path)), rate=rate)


def pictures_of(path: Path, **options: Any) -> Frames:
    window = options.pop("window", None)
    return media.read_frames(Clip(str(path), window=window), **options)


def write_container(
    path: Path,
    *,
    audio: str | None = "aac",
    video: str | None = "mpeg4",
    rate: int = RATE,
    seconds: float = 2.0,
    options: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        pictures = container.add_stream(video, rate=25) if video else None
        sound = container.add_stream(audio, rate=rate, layout="mono") if audio else None
        if pictures:
            pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
            for i in range(round(seconds * 25)):
                shade = np.full((64, 96, 3), 4 * i % 256, np.uint8)
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
            container.mux(pictures.encode(None))
        if sound:
            frame = av.AudioFrame.from_ndarray(tone(seconds, rate)[None], "fltp", "mono")
            frame.sample_rate = rate
            to_codec = av.AudioResampler(format=sound.format.name, layout="mono", rate=rate)
            for part in [*to_codec.resample(frame), *to_codec.resample(None)]:
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    return path


def write_frames(
    path: Path, times: Iterable[float], *, size: tuple[int, int] = (64, 48), codec: str = "ffv1"
) -> Path:
    """One grey picture per time; the i-th has level 8 i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        base = stream.time_base = stream.codec_context.time_base = Fraction(1, 3000)
        for i, moment in enumerate(times):
            grey = np.full((size[1], size[0], 3), 8 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = round(moment / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shown(frames: Frames) -> list[int]:
    """The numbers of the pictures that `write_frames` wrote."""
    return [round(float(picture.mean()) / 8) for picture in frames.pixels]


class Gain:
    """An effect at its own rate."""

    rate = 8_000

    def apply(self, speech: Audio) -> Audio:
        assert speech.rate == self.rate
        return Audio(speech.samples * np.float32(0.5), self.rate)

    def identity(self) -> str:
        return "gain 0.5"


class TestParity:
    def test_speech_clips(self, shared_data: Path, parity: Callable[[str], Any]) -> None:
        for name, golden in parity("speech")["clips"].items():
            samples = sound_of(shared_data / name).samples
            assert len(samples) == golden["n"], name
            rms = np.sqrt(np.mean(samples.astype(np.float64) ** 2))
            assert rms == pytest.approx(golden["rms"], abs=1.1e-6), name
            assert np.abs(samples).max() == pytest.approx(golden["peak"], abs=1.1e-5), name

    def test_video_to_audio_clips(self, shared_data: Path, parity: Callable[[str], Any]) -> None:
        for name, golden in parity("video_to_audio")["intermediate"].items():
            samples = sound_of(shared_data / "v2a_demo" / f"{name}.mp4", 22_050).samples
            assert len(samples) == golden["n_samples_22050"], name
            if "rms" in golden:
                rms = np.sqrt(np.mean(samples.astype(np.float64) ** 2))
                assert rms == pytest.approx(golden["rms"], rel=1e-6), name

    def test_talking_face_clips(self, shared_data: Path, parity: Callable[[str], Any]) -> None:
        for name, golden in parity("talking_face")["fixtures"].items():
            path = shared_data.parent / name
            frames = pictures_of(path)
            assert (
                hashlib.sha256(frames.pixels.tobytes()).hexdigest()
                == (golden["decoded_rgb24_sha256"])
            ), name
            assert frames.pixels.shape == (golden["frames"], golden["height"], golden["width"], 3)
            assert frames.native_fps == pytest.approx(golden["fps"], abs=0.01)
            assert media.digest(Clip(str(path))) == golden["file_sha256"]
            if golden.get("audio16k_samples"):
                assert len(sound_of(path).samples) == golden["audio16k_samples"], name


class TestSound:
    @pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
    def test_integers_are_divided_by_full_scale(self, tmp_path: Path, subtype: str) -> None:
        steps = {"PCM_U8": 2**7, "PCM_16": 2**15, "PCM_24": 2**23}.get(subtype, 2**30)
        values = np.array([-steps, -1, 0, 1, steps // 2]) / steps
        soundfile.write(tmp_path / "a.wav", values, RATE, subtype=subtype)
        samples = sound_of(tmp_path / "a.wav").samples
        assert samples.dtype == np.float32
        np.testing.assert_array_equal(samples, values.astype(np.float32))

    @pytest.mark.parametrize(
        ("codec", "bits"), [("pcm_u8", 8), ("pcm_s16le", 16), ("pcm_s24le", 24)]
    )
    def test_integers_in_a_container_too(self, tmp_path: Path, codec: str, bits: int) -> None:
        path = write_container(tmp_path / "a.mkv", audio=codec, video=None, seconds=0.5)
        np.testing.assert_allclose(sound_of(path).samples, tone(0.5), atol=2 / 2**bits)

    def test_channels_are_averaged(self, tmp_path: Path) -> None:
        channels = np.random.default_rng(0).uniform(-1, 1, (1000, 7)).astype("f4")
        soundfile.write(tmp_path / "seven.wav", channels, RATE, subtype="FLOAT")
        samples = sound_of(tmp_path / "seven.wav").samples
        np.testing.assert_allclose(samples, channels.mean(axis=1), atol=1e-6)

    def test_long_files_come_in_blocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stereo = np.random.default_rng(0).uniform(-1, 1, (1050, 2)).astype("f4")
        soundfile.write(tmp_path / "a.wav", stereo, RATE, subtype="FLOAT")
        whole = sound_of(tmp_path / "a.wav").samples
        monkeypatch.setattr(media, "BLOCK", 100)
        np.testing.assert_array_equal(sound_of(tmp_path / "a.wav").samples, whole)

    @pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 96_000])
    def test_other_rates_are_resampled(self, tmp_path: Path, rate: int) -> None:
        soundfile.write(tmp_path / "a.wav", tone(1.0, rate), rate, subtype="FLOAT")
        sound = sound_of(tmp_path / "a.wav")
        assert (sound.rate, len(sound.samples)) == (RATE, RATE)
        middle = slice(2000, 14_000)
        np.testing.assert_allclose(sound.samples[middle], tone(1.0)[middle], atol=1e-4)

    def test_level_is_kept_above_full_scale(self, tmp_path: Path) -> None:
        media.write_wav(tmp_path / "loud.wav", Audio(tone(0.1) * 5, RATE))
        assert np.abs(sound_of(tmp_path / "loud.wav").samples).max() > 2.4

    @pytest.mark.parametrize(
        ("name", "audio", "video", "rate"),
        [
            ("a.mp4", "aac", "mpeg4", 16_000),
            ("a.m4a", "aac", None, 44_100),
            ("a.mkv", "aac", "mpeg4", 16_000),
            ("a.webm", "libopus", "libvpx", 48_000),
            ("a.avi", "pcm_s16le", "mpeg4", 16_000),
            ("a.mpg", "mp2", "mpeg1video", 44_100),
            ("a.mp3", "libmp3lame", None, 44_100),
            ("a.opus", "libopus", None, 48_000),
            ("a.flac", "flac", None, 16_000),
        ],
    )
    def test_containers(
        self, tmp_path: Path, name: str, audio: str, video: str | None, rate: int
    ) -> None:
        path = write_container(tmp_path / name, audio=audio, video=video, rate=rate)
        samples = sound_of(path).samples
        assert len(samples) == pytest.approx(2 * RATE, abs=0.15 * RATE)
        spectrum = np.abs(np.fft.rfft(samples[8000:24_000]))
        assert np.argmax(spectrum) == 440
        if video:
            assert pictures_of(path).pixels.shape == (50, 64, 96, 3)

    def test_mp3_whose_bit_rate_changes_is_read_to_its_end(self, tmp_path: Path) -> None:
        rate, options = 44_100, {"write_xing": "0", "id3v2_version": "0"}
        noise = np.random.default_rng(0).standard_normal(6 * rate).astype("f4") * 0.3
        noise[rate:] = 0
        with av.open(str(tmp_path / "vbr.mp3"), "w", options=options) as container:
            stream = container.add_stream("libmp3lame", rate=rate, layout="mono")
            stream.codec_context.qscale, stream.codec_context.global_quality = True, 2 * 118
            frame = av.AudioFrame.from_ndarray(noise[None], "fltp", "mono")
            frame.sample_rate = rate
            container.mux([*stream.encode(frame), *stream.encode(None)])
        assert sound_of(tmp_path / "vbr.mp3", rate).seconds == pytest.approx(6, abs=0.1)

    def test_flac_of_unstated_length(self, tmp_path: Path) -> None:
        path = write_container(tmp_path / "a.flac", audio="flac", video=None)
        data = bytearray(path.read_bytes())
        data[21] &= 0xF0  # total samples: the low 4 bits of byte 21 and the next four bytes
        data[22:26] = bytes(4)
        path.write_bytes(bytes(data))
        assert len(sound_of(path).samples) == 2 * RATE

    def test_another_format_under_the_name_of_wav(self, tmp_path: Path) -> None:
        path = write_container(tmp_path / "a.m4a", video=None)
        path.rename(tmp_path / "a.wav")
        assert sound_of(tmp_path / "a.wav").seconds == pytest.approx(2, abs=0.15)

    def test_window(self, tmp_path: Path) -> None:
        media.write_wav(tmp_path / "a.wav", Audio(tone(2.0), RATE))
        clip = Clip(str(tmp_path / "a.wav"), window=Window(0.5, 1.25))
        np.testing.assert_array_equal(
            media.read_audio(clip, rate=RATE).samples, tone(2.0)[8000:20_000]
        )

    def test_effect_runs_at_its_rate_before_the_window(self, tmp_path: Path) -> None:
        media.write_wav(tmp_path / "a.wav", Audio(tone(2.0), RATE))
        clip = Clip(str(tmp_path / "a.wav"), effect=Gain(), window=Window(0.5, 1.5))
        samples = media.read_audio(clip, rate=RATE).samples
        np.testing.assert_allclose(samples, tone(2.0)[8000:24_000] / 2, atol=1e-4)

    def test_error_of_an_effect_names_the_clip(self, tmp_path: Path) -> None:
        class Broken(Gain):
            def apply(self, speech: Audio) -> Audio:
                raise TooShort("noise too short")

        media.write_wav(tmp_path / "a.wav", Audio(tone(0.5), RATE))
        with pytest.raises(TooShort, match=r"a\.wav: noise too short"):
            media.read_audio(Clip(str(tmp_path / "a.wav"), effect=Broken()), rate=RATE)


class TestPictures:
    def test_rate_from_time_stamps(self, tmp_path: Path) -> None:
        path = write_frames(tmp_path / "a.mkv", [0, 0.04, 0.08, 0.2, 0.24, 0.5, 1.0])
        frames = pictures_of(path)
        assert frames.native_fps == frames.fps == pytest.approx(6.0)
        assert shown(frames) == list(range(7))

    def test_nearest_frame_and_ties_to_the_earlier(self, tmp_path: Path) -> None:
        path = write_frames(tmp_path / "a.mkv", [0, 0.1, 0.2, 0.3])
        frames = pictures_of(path, fps=20)
        assert (frames.fps, frames.native_fps) == (20.0, pytest.approx(10.0))
        assert shown(frames) == [0, 0, 1, 1, 2, 2, 3, 3]
        assert shown(pictures_of(path, fps=5)) == [0, 2]

    def test_a_rate_within_a_hundredth_is_left_alone(self, tmp_path: Path) -> None:
        path = write_frames(tmp_path / "a.mkv", [i / 25 for i in range(5)])
        assert shown(pictures_of(path, fps=25.005)) == list(range(5))

    def test_gaps_are_filled_by_time(self, tmp_path: Path) -> None:
        path = write_frames(tmp_path / "a.mkv", [0, 0.04, 0.08, 0.24, 0.28])
        assert shown(pictures_of(path, fps=25)) == [0, 1, 2, 2, 2, 3, 3, 4]

    @pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.mp4", "mpeg4")])
    def test_time_starts_at_the_first_frame(self, tmp_path: Path, name: str, codec: str) -> None:
        path = write_frames(tmp_path / name, [1 + i / 25 for i in range(6)], codec=codec)
        assert shown(pictures_of(path, window=Window(0.08, 0.16))) == [2, 3]

    @pytest.mark.parametrize(
        ("window", "fps", "numbers"),
        [
            (Window(0.2, 0.4), None, [2, 3]),
            (Window(0.2, 0.4), 20, [2, 2, 3, 3]),
            (Window(0.26, 0.34), 20, [3]),
            (Window(0, 99), None, list(range(6))),
        ],
    )
    def test_window(
        self, tmp_path: Path, window: Window, fps: float | None, numbers: list[int]
    ) -> None:
        path = write_frames(tmp_path / "a.mkv", [i / 10 for i in range(6)])
        assert shown(pictures_of(path, window=window, fps=fps)) == numbers

    def test_window_is_a_cut_of_the_whole(self, tmp_path: Path) -> None:
        path = write_frames(tmp_path / "a.mkv", [0, 0.03, 0.1, 0.11, 0.4, 0.41, 0.7])
        whole = shown(pictures_of(path, fps=25))
        for start in range(0, len(whole) - 1, 3):
            part = pictures_of(path, fps=25, window=Window(start / 25, (start + 2) / 25))
            assert shown(part) == whole[start : start + 2]

    def test_odd_sizes_and_resizing(self, tmp_path: Path) -> None:
        path = write_frames(tmp_path / "a.mkv", [0, 0.04], size=(63, 47))
        assert pictures_of(path).pixels.shape == (2, 47, 63, 3)
        assert pictures_of(path, width=30).pixels.shape == (2, 22, 30, 3)
        assert pictures_of(path, height=94).pixels.shape == (2, 94, 126, 3)
        assert pictures_of(path, width=32, height=8).pixels.shape == (2, 8, 32, 3)

    def test_rotation_metadata(self, tmp_path: Path) -> None:
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:16, :16, 0] = 255  # red at the top left
        with av.open(str(tmp_path / "a.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25, options={"qscale": "1"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux([*stream.encode(frame), *stream.encode(None)])
        data = bytearray((tmp_path / "a.mp4").read_bytes())
        matrix = data.index(b"tkhd") + 44
        clockwise = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
        data[matrix : matrix + 36] = clockwise
        (tmp_path / "a.mp4").write_bytes(bytes(data))
        pixels = pictures_of(tmp_path / "a.mp4").pixels
        assert pixels.shape == (1, 64, 48, 3)
        assert pixels[0, :8, -8:, 0].min() > 150  # now at the top right
        assert pixels[0, -8:, :, 0].max() < 100

    def test_moving_gif(self, tmp_path: Path) -> None:
        path = write_frames(tmp_path / "a.gif", [i / 25 for i in range(4)], codec="gif")
        assert pictures_of(path).pixels.shape == (4, 48, 64, 3)


class TestBadInput:
    @pytest.mark.parametrize("read", [sound_of, pictures_of])
    @pytest.mark.parametrize(
        "name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.mp4", "a.mkv", "a.mpg"]
    )
    def test_empty_file(self, tmp_path: Path, read: Callable[[Path], Any], name: str) -> None:
        (tmp_path / name).touch()
        with pytest.raises(DecodeError, match=rf"{name}: the file is empty"):
            read(tmp_path / name)

    @pytest.mark.parametrize("content", [b"these are words\n" * 300, b"x", bytes(5000)])
    @pytest.mark.parametrize(
        "suffix", ["wav", "flac", "ogg", "mp3", "m4a", "mp4", "mkv", "avi", "mpg", "webm", "txt"]
    )
    def test_text_under_any_name(self, tmp_path: Path, suffix: str, content: bytes) -> None:
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(content)
        with pytest.raises(DecodeError, match=rf"a\.{suffix}: .*(again|data set)"):
            sound_of(path)
        with pytest.raises((DecodeError, NoVideoStream), match=rf"a\.{suffix}: "):
            pictures_of(path)

    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.95])
    @pytest.mark.parametrize(
        ("name", "audio", "video", "options"),
        [
            ("a.mp4", "aac", "mpeg4", {}),
            ("fast.mp4", "aac", "mpeg4", {"movflags": "faststart"}),
            ("pieces.mp4", "aac", "mpeg4", {"movflags": "frag_keyframe+empty_moov"}),
            ("a.mkv", "aac", "mpeg4", {}),
            ("a.webm", "libopus", "libvpx", {}),
            ("a.m4a", "aac", None, {}),
            ("a.opus", "libopus", None, {}),
            ("a.flac", "flac", None, {}),
            ("a.wav", "pcm_s16le", None, {}),
        ],
    )
    def test_cut_off(
        self,
        tmp_path: Path,
        name: str,
        audio: str,
        video: str | None,
        options: dict[str, str],
        kept: float,
    ) -> None:
        rate = 48_000 if audio == "libopus" else RATE
        path = write_container(
            tmp_path / name, audio=audio, video=video, rate=rate, options=options
        )
        os.truncate(path, int(path.stat().st_size * kept))
        with pytest.raises(DecodeError, match=name):
            sound_of(path)
        if video:
            with pytest.raises(DecodeError, match=name):
                pictures_of(path)

    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.8])
    def test_cut_off_avi_and_mp3(self, tmp_path: Path, kept: float) -> None:
        avi = write_container(tmp_path / "a.avi", audio="pcm_s16le")
        mp3 = write_container(tmp_path / "a.mp3", audio="libmp3lame", video=None, rate=44_100)
        for path in (avi, mp3):
            os.truncate(path, int(path.stat().st_size * kept))
            with pytest.raises(DecodeError, match=path.name):
                sound_of(path)

    def test_corrupt_packets(self, tmp_path: Path) -> None:
        path = write_container(tmp_path / "a.mp4")
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
        path.write_bytes(bytes(data))
        with pytest.raises(DecodeError, match=r"a\.mp4"):
            sound_of(path)

    def test_lost_flac_frame(self, tmp_path: Path) -> None:
        path = write_container(tmp_path / "a.flac", audio="flac", video=None)
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 40] = bytes(40)
        path.write_bytes(bytes(data))
        with pytest.raises(DecodeError, match=r"a\.flac"):
            sound_of(path)

    def test_wav_written_into_a_pipe_is_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, tone(0.5), RATE)
        data = bytearray(path.read_bytes())
        at = data.index(b"data") + 4
        data[at : at + 4] = b"\xff\xff\xff\xff"
        path.write_bytes(bytes(data))
        assert len(sound_of(path).samples) == RATE // 2

    def test_matroska_written_into_a_pipe_is_whole(self, tmp_path: Path) -> None:
        path = write_container(tmp_path / "a.mkv", options={"live": "1"})
        assert len(pictures_of(path).pixels) == 50
        assert sound_of(path).seconds == pytest.approx(2, abs=0.15)

    def test_edit_list_that_hides_the_start_is_no_cut(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp4"
        with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for i in range(50):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = i - 25, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        assert len(pictures_of(path).pixels) == 25

    def test_no_sound_and_no_pictures(self, tmp_path: Path) -> None:
        silent = write_container(tmp_path / "silent.mp4", audio=None)
        blind = write_container(tmp_path / "blind.m4a", video=None)
        with pytest.raises(NoAudioStream, match=r"silent\.mp4: no audio stream"):
            sound_of(silent)
        with pytest.raises(NoVideoStream, match=r"blind\.m4a: no video stream"):
            pictures_of(blind)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
    def test_still_picture(self, tmp_path: Path, suffix: str) -> None:
        from PIL import Image

        path = tmp_path / f"a.{suffix}"
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
        with pytest.raises(NoVideoStream, match="still picture"):
            pictures_of(path)
        with pytest.raises(NoAudioStream):
            sound_of(path)

    def test_no_samples(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
        with pytest.raises(EmptyAudio, match=r"a\.wav"):
            sound_of(tmp_path / "a.wav")

    def test_one_sample(self, tmp_path: Path) -> None:
        media.write_wav(tmp_path / "a.wav", Audio(np.float32([0.25]), RATE))
        np.testing.assert_array_equal(sound_of(tmp_path / "a.wav").samples, np.float32([0.25]))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_nonfinite(self, tmp_path: Path, value: float) -> None:
        samples = tone(0.1)
        samples[100] = value
        media.write_wav(tmp_path / "a.wav", Audio(samples, RATE))
        for rate in (RATE, 22_050):
            with pytest.raises(NonfiniteAudio, match=r"a\.wav"):
                sound_of(tmp_path / "a.wav", rate)

    @pytest.mark.parametrize("path", ["none/such.wav", "", "a\0b.wav", "x" * 300 + ".wav"])
    def test_missing(self, path: str) -> None:
        for read in (sound_of, pictures_of, lambda path: media.digest(Clip(str(path)))):
            with pytest.raises(MissingClip, match="generate or fetch"):
                read(path)  # type: ignore[arg-type]

    def test_folder(self, tmp_path: Path) -> None:
        for read in (sound_of, pictures_of, lambda path: media.digest(Clip(str(path)))):
            with pytest.raises(DecodeError, match="not a plain file"):
                read(tmp_path)

    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        (tmp_path / "a.wav").write_bytes(b"RIFF")
        monkeypatch.setattr("builtins.open", refuse)
        for read in (sound_of, lambda path: media.digest(Clip(str(path)))):
            with pytest.raises(DecodeError, match=r"a\.wav: cannot be read \(Permission denied\)"):
                read(tmp_path / "a.wav")

    def test_window_outside_the_clip(self, tmp_path: Path) -> None:
        path = write_container(tmp_path / "a.mp4", seconds=1)
        clip = Clip(str(path), window=Window(5, 6))
        with pytest.raises(EmptyAudio, match=r"a\.mp4: no sound between 5 and 6 s"):
            media.read_audio(clip, rate=RATE)
        with pytest.raises(DecodeError, match=r"a\.mp4: no picture within"):
            media.read_frames(clip)

    @pytest.mark.parametrize(
        "name", ["sp ace.mkv", "q'\"uote.mkv", "ünï漢.mkv", "a:b.mkv", "%03d.mkv"]
    )
    def test_awkward_names(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_frames(tmp_path / "plain.mkv", [0, 0.04]).rename(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert shown(pictures_of(Path(name))) == [0, 1]

    def test_any_bytes_give_a_clip_or_its_error(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        source = write_container(tmp_path / "a.mp4", seconds=0.4).read_bytes()
        for _ in range(60):
            data = bytearray(source)
            for at in rng.integers(0, len(data), 20):
                data[at] = rng.integers(0, 256)
            (tmp_path / "b.mp4").write_bytes(bytes(data))
            for read in (sound_of, pictures_of):
                try:
                    read(tmp_path / "b.mp4")
                except ClipError as error:
                    assert "b.mp4" in str(error)


class TestDigest:
    def test_content_not_path(self, tmp_path: Path) -> None:
        media.write_wav(tmp_path / "a.wav", Audio(tone(0.1), RATE))
        shutil.copy(tmp_path / "a.wav", tmp_path / "b.wav")
        a, b = (Clip(str(tmp_path / name)) for name in ("a.wav", "b.wav"))
        assert media.digest(a) == media.digest(b)
        assert media.digest(a) == hashlib.sha256((tmp_path / "a.wav").read_bytes()).hexdigest()

    def test_effect_and_window_belong_to_it(self, tmp_path: Path) -> None:
        (tmp_path / "a.wav").write_bytes(b"1")
        path = str(tmp_path / "a.wav")
        clips = [
            Clip(path),
            Clip(path, effect=Gain()),
            Clip(path, window=Window(0, 1)),
            Clip(path, window=Window(0, 2)),
            Clip(path, effect=Gain(), window=Window(0, 1)),
        ]
        assert len({media.digest(clip) for clip in clips}) == len(clips)
        assert media.digest(clips[1]) == media.digest(Clip(path, effect=Gain()))

    def test_rewritten_file_of_the_same_size(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        found = set()
        for i in range(20):
            path.write_bytes(b"%02d" % i)
            found.add(media.digest(Clip(str(path))))
        assert len(found) == 20

    def test_old_files_are_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(b"1")
        past = time.time() - 10
        os.utime(path, (past, past))
        first = media.digest(Clip(str(path)))
        monkeypatch.setattr(media, "_sha256", lambda path: pytest.fail("read again"))
        assert media.digest(Clip(str(path))) == first

    def test_known_digests_can_be_taken_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(b"1")
        past = time.time() - 10
        os.utime(path, (past, past))
        first = media.digest(Clip(str(path)))
        rows = [row for row in media.known_digests() if row[0] == str(path)]
        assert rows == [(str(path), 1, path.stat().st_mtime_ns, first)]
        monkeypatch.setattr(media, "_digests", {})
        monkeypatch.setattr(media, "_sha256", lambda path: pytest.fail("read again"))
        media.remember(rows)
        assert media.digest(Clip(str(path))) == first


class TestWriting:
    def test_round_trip_and_same_bytes(self, tmp_path: Path) -> None:
        samples = np.random.default_rng(0).standard_normal(1001).astype("f4")
        first = media.write_wav(tmp_path / "a.wav", Audio(samples, 22_050))
        second = media.write_wav(tmp_path / "b.wav", Audio(samples, 22_050))
        assert first.read_bytes() == second.read_bytes()
        assert first.stat().st_size == 58 + 4 * 1001
        np.testing.assert_array_equal(sound_of(first, 22_050).samples, samples)
        info = soundfile.info(first)
        assert (info.subtype, info.samplerate, info.channels) == ("FLOAT", 22_050, 1)

    def test_nothing_is_left_of_a_failed_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        media.write_wav(tmp_path / "a.wav", Audio(tone(0.1), RATE))
        before = (tmp_path / "a.wav").read_bytes()

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            media.write_wav(tmp_path / "a.wav", Audio(tone(0.2), RATE))
        assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
        assert (tmp_path / "a.wav").read_bytes() == before

    def test_only_mono(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"\(2, 10\)"):
            media.write_wav(tmp_path / "a.wav", Audio(np.zeros((2, 10), np.float32), RATE))
