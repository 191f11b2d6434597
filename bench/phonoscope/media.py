"""Decoding: the content digest of a clip, its sound, its pictures, and the one way to write sound.

Sound: soundfile where it can (wav, flac, ogg, aiff), else the first audio stream by PyAV; so for
mp3, which soundfile would end where a guess from the first frame's bit rate says.
Integers are divided by 2^(bits-1), channels are averaged, rates are changed by soxr HQ. Nothing is
trimmed, padded, clipped or normalised; what the decoder itself drops (samples before the start that
an mp4's edit list states, the codec delay of an mp3) stays dropped.

A clip that was cut off is an error wherever the file tells so: its index is missing, a chunk or a
packet ends early, or clearly less comes out than the stream declares.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import stat
import struct
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from phonoscope.errors import (
    ClipError,
    DecodeError,
    EmptyAudio,
    MissingClip,
    NoAudioStream,
    NonfiniteAudio,
    NoVideoStream,
)
from phonoscope.types import Audio, Clip, Effect, Frames, Window, fingerprint

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from soundfile import SoundFile

Samples: TypeAlias = NDArray[np.float32]
Pixels: TypeAlias = NDArray[np.uint8]
Known: TypeAlias = tuple[str, int, int, str]

SOUNDFILE_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".w64", ".rf64"}
)
UNPACKED = ("PCM_", "FLOAT", "DOUBLE")  # what soundfile calls samples that stand one by one
PCM16 = 32_768
BLOCK = 1 << 20
FRESH_NS = 50_000_000  # a file this young may change again within one tick of its mtime
SHORTFALL = 0.25  # seconds by which a clip may end before its declared end
SAME_FPS = 0.01  # rates this near are one rate
FRAMES_SHORT = 2.5  # the same for pictures, in frames
EXACT = 0.02  # seconds; for sound files that state their number of samples
STATING = frozenset({"mov", "matroska", "avi", "wav", "flac", "ogg", "asf"})  # their own duration
READERS = 8  # threads that read files for their digests
SHARES = 16  # of the files, for each of them
UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a stream of unknown length
STREAMED = 0x7FFF0000  # chunk sizes from here on are placeholders of writers into a pipe
TEXT = "tty"  # what FFmpeg calls a text file, whose letters it would draw
MP4_BOXES = frozenset({b"ftyp", b"moov", b"moof", b"mdat"})
MATROSKA, MATROSKA_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
OGG_PAGE = 65_307  # bytes at most
REMEDY = "make the file again, or take it out of the data set"


# Identity


_digests: dict[tuple[str, int, int], str] = {}


def digest(clip: Clip) -> str:
    """Return the identity of a clip's content, whatever its path.

    The sha256 of the file; where an effect or a window applies, a digest of that and of theirs.

    Raises
    ------
    MissingClip
        If there is no such file.
    DecodeError
        If it is no plain file, or may not be read.
    """
    content = file_digest(clip.path)
    if clip.effect is None and clip.window is None:
        return content
    effect = clip.effect.identity() if clip.effect else ""
    window = [clip.window.start, clip.window.stop] if clip.window else []
    return fingerprint(content, effect, window)


def file_digest(path: str) -> str:
    """Return the sha256 of a file, computed once per (path, size, time of change).

    Raises
    ------
    MissingClip, DecodeError
        As `digest`.
    """
    found = _require_file(path)
    key = (os.path.abspath(path), found.st_size, found.st_mtime_ns)  # noqa: PTH100
    known = _digests.get(key)
    if known:
        return known
    content = _sha256(path)
    if not 0 <= time.time_ns() - found.st_mtime_ns < FRESH_NS:
        _digests[key] = content
    return content


def prefetch(clips: Iterable[Clip | None]) -> None:
    """Take the digests of many files at once, so that a slow disk is waited for by threads.

    Files that are known are left alone; what is wrong with a file is told by `digest`.
    """
    known = {path for path, _, _ in _digests}
    paths = {os.path.abspath(clip.path) for clip in clips if clip}  # noqa: PTH100
    new = sorted(paths - known)
    share = math.ceil(len(new) / (READERS * SHARES)) or 1
    parts = [new[i : i + share] for i in range(0, len(new), share)]
    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(_try_digests, parts):
            pass


def _try_digests(paths: Sequence[str]) -> None:
    for path in paths:
        with contextlib.suppress(ClipError):
            file_digest(path)


def known_digests() -> list[Known]:
    """Return all (path, size, mtime_ns, digest) seen so far, for a store to keep."""
    return [(*key, content) for key, content in _digests.items()]


def remember(rows: Iterable[Known]) -> None:
    """Take over digests that `known_digests` gave in another process."""
    _digests.update({(path, size, mtime_ns): content for path, size, mtime_ns, content in rows})


def _require_file(path: str) -> os.stat_result:
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MissingClip(
            f"{path}: {reason.lower()}; generate or fetch the file, or correct the path"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise DecodeError(f"{path}: not a plain file; name the media file itself")
    return found


def _sha256(path: str) -> str:
    digester = hashlib.sha256()
    with _readable(path) as file:
        while block := file.read(BLOCK):
            digester.update(block)
    return digester.hexdigest()


@contextlib.contextmanager
def _readable(path: str) -> Iterator[BinaryIO]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            yield file
    except OSError as error:
        raise DecodeError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error


# Sound


def read_audio(clip: Clip, *, rate: int, decoded: Audio | None = None) -> Audio:
    """Decode a clip's sound at `rate` Hz: mono, float32, level and timeline untouched.

    The effect, if any, is applied at the effect's own rate, then the sound is brought to `rate`,
    then the window is cut.

    Parameters
    ----------
    clip : Clip
        Its first audio stream is taken, and the mean of its channels.
    rate : int
        Hz. Other rates are resampled (soxr HQ).
    decoded : Audio, optional
        The file's sound, where the caller has it.

    Raises
    ------
    MissingClip, DecodeError, NoAudioStream
        If the file is absent, broken or cut off, or silent film.
    NonfiniteAudio
        On a NaN or infinite sample.
    EmptyAudio
        If there are no samples, or none in the window.
    """
    sound = decoded or _decode(clip.path)
    if clip.effect:
        sound = _apply(clip.effect, sound, clip.path)
    sound = resample(sound, rate)
    return _cut(sound, clip.window, clip.path) if clip.window else sound


def countable(clip: Clip, *, rate: int) -> int | None:
    """Return how many samples a clip has, where parts of it can be read by `read_part`.

    That is a file of unpacked samples or FLAC at `rate`, without effect or window; else None.

    Raises
    ------
    MissingClip, DecodeError
        If the file is absent, cut off, or may not be read.
    """
    import soundfile

    simple = Path(clip.path).suffix.lower() in SOUNDFILE_SUFFIXES
    if not simple or clip.effect or clip.window:
        return None
    _require_file(clip.path)
    _require_whole(clip.path)
    try:
        found = soundfile.info(clip.path)
    except soundfile.LibsndfileError:
        return None
    exact = found.subtype.startswith(UNPACKED) and 0 < found.frames < UNKNOWN_FRAMES
    return int(found.frames) if exact and found.samplerate == rate else None


def read_part(clip: Clip, start: int, stop: int) -> Samples:
    """Return the samples `start` to `stop` - 1 of a `countable` clip, as `read_audio` gives them.

    Raises
    ------
    DecodeError, NonfiniteAudio
        If they cannot be read, or one is NaN or infinite.
    """
    import soundfile

    try:
        with soundfile.SoundFile(clip.path) as file:
            file.seek(start)
            samples = _mono(file.read(stop - start, dtype="float32", always_2d=True).T)
    except soundfile.LibsndfileError as error:
        raise DecodeError(f"{clip.path}: cannot be decoded ({error}); {REMEDY}") from error
    if len(samples) < stop - start:
        raise DecodeError(f"{clip.path}: cut off: ends before sample {stop}; {REMEDY}")
    if not np.isfinite(samples).all():
        raise NonfiniteAudio(f"{clip.path}: the sound holds NaN or infinite samples; {REMEDY}")
    return samples


def seconds(clip: Clip) -> float:
    """Return how long a clip's sound is, window included; errors as `read_audio`."""
    sound = _decode(clip.path)
    return (_cut(sound, clip.window, clip.path) if clip.window else sound).seconds


def resample(sound: Audio, rate: int) -> Audio:
    """Bring a sound to `rate` Hz (soxr HQ); the same object where it has that rate already."""
    if sound.rate == rate:
        return sound
    import soxr

    return Audio(soxr.resample(sound.samples, sound.rate, rate, quality="HQ"), rate)


def _apply(effect: Effect, sound: Audio, path: str) -> Audio:
    try:
        return effect.apply(resample(sound, effect.rate))
    except ClipError as error:
        raise type(error)(f"{path}: {error}") from error


def _cut(sound: Audio, window: Window, path: str) -> Audio:
    start, stop = (max(0, round(edge * sound.rate)) for edge in (window.start, window.stop))
    samples = sound.samples[start:stop]
    if not len(samples):
        raise EmptyAudio(
            f"{path}: no sound between {window.start:g} and {window.stop:g} s, the clip has "
            f"{sound.seconds:.3f} s; correct the window"
        )
    return Audio(np.ascontiguousarray(samples), sound.rate)


def _decode(path: str) -> Audio:
    _require_file(path)
    _require_whole(path)
    simple = Path(path).suffix.lower() in SOUNDFILE_SUFFIXES
    sound = _decode_simple(path) if simple else _decode_container(path)
    if not len(sound.samples):
        raise EmptyAudio(f"{path}: the sound has no samples; {REMEDY}")
    if not np.isfinite([sound.samples.min(), sound.samples.max()]).all():
        raise NonfiniteAudio(f"{path}: the sound holds NaN or infinite samples; {REMEDY}")
    return sound


def _decode_simple(path: str) -> Audio:
    """Decode by soundfile; what it does not know (ADPCM, AAC in .wav) by PyAV."""
    import soundfile

    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        return _second_try(path, error)
    with file:
        if file.frames >= UNKNOWN_FRAMES:
            return _decode_container(path)
        try:
            samples = _read_mono(file)
        except soundfile.LibsndfileError as error:
            raise DecodeError(f"{path}: cannot be decoded ({error}); {REMEDY}") from error
        rate = file.samplerate
        _require_length(path, len(samples) / rate, file.frames / rate, EXACT)
        return Audio(samples, rate)


def _read_mono(file: SoundFile) -> Samples:
    """Average the channels block by block, so that a long clip is held once."""
    samples = np.empty(file.frames, np.float32)
    count = 0
    # Not `SoundFile.blocks`: where the file ends early, that hands out stale memory.
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        samples[count : count + len(block)] = _mono(block.T)
        count += len(block)
    return samples[:count]


def _second_try(path: str, error: Exception) -> Audio:
    try:
        return _decode_container(path)
    except ClipError as second:
        reason = getattr(error, "error_string", None) or error
        raise DecodeError(f"{path}: no sound can be decoded ({reason}); {REMEDY}") from second


def _decode_container(path: str) -> Audio:
    with _opened(path) as container:
        if not container.streams.audio:
            raise NoAudioStream(f"{path}: no audio stream; give a file with sound")
        stream = container.streams.audio[0]
        blocks, rates = [], set()
        for frame in _frames_of(container, stream, path):
            blocks.append(_mono(_floats(frame)))
            rates.add(frame.sample_rate)
        if len(rates) > 1:
            raise DecodeError(f"{path}: the sample rate changes within the stream; {REMEDY}")
        sound = Audio(_join(blocks), next(iter(rates), 0) or stream.rate)
        if not sound.rate:
            raise DecodeError(f"{path}: no sound can be decoded; {REMEDY}")
        _require_length(path, sound.seconds, _declared_seconds(container, stream), SHORTFALL)
        return sound


def _floats(frame: AudioFrame) -> Samples:
    """Convert a frame to float32 of shape (channels, n)."""
    block: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        block = block.reshape(-1, frame.layout.nb_channels).T
    if block.dtype == np.uint8:
        return (block.astype(np.float32) - np.float32(128)) / np.float32(128)
    if block.dtype.kind == "i":
        return block.astype(np.float32) / np.float32(2 ** (8 * block.dtype.itemsize - 1))
    return block.astype(np.float32, copy=False)


def _mono(block: Samples) -> Samples:
    if len(block) == 1:
        return np.array(block[0], dtype=np.float32)
    return np.asarray(np.mean(np.ascontiguousarray(block), axis=0, dtype=np.float32))


def _join(blocks: list[Samples]) -> Samples:
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


# Pictures


def read_frames(
    clip: Clip,
    *,
    fps: float | None = None,
    width: int | None = None,
    height: int | None = None,
) -> Frames:
    """Decode a clip's pictures in presentation order: RGB, rotation metadata applied.

    The native rate is (n-1)/(last-first) of the time stamps, never the container's own field.
    Another `fps` takes, for each output time k/fps, the nearest frame (ties: the earlier).

    Parameters
    ----------
    clip : Clip
        Its first video stream is taken. A window cuts by time, counted from the first frame.
    fps : float, optional
        Frames per second; as in the file where absent or within 0.01 of the native rate.
    width, height : int, optional
        Size after rotation, by Pillow's antialiased bilinear filter; one alone keeps the shape.
        Pixels are taken as square.

    Raises
    ------
    MissingClip, DecodeError
        If the file is absent, broken or cut off, or the window holds no frame.
    NoVideoStream
        If there is no video stream, or only a still picture.
    """
    _require_file(clip.path)
    _require_whole(clip.path)
    with _opened(clip.path) as container:
        stream = _moving(container, clip.path)
        stated = float(stream.average_rate or stream.guessed_rate or 25)
        timed = _timed(_frames_of(container, stream, clip.path), stated)
        times, end, kept = _collect(timed, clip.window, (width, height))
        if not times:
            raise DecodeError(f"{clip.path}: no picture can be decoded; {REMEDY}")
        native = _native_rate(times, stated)
        seconds = max(end, times[-1] + 1 / native) - times[0]
        declared = _declared_seconds(container, stream)
        _require_length(clip.path, seconds, declared, FRAMES_SHORT / native)
    chosen, rate = _choose(np.asarray(times) - times[0], native, fps, clip.window)
    if not len(chosen):
        raise DecodeError(f"{clip.path}: no picture within {clip.window}; correct the window")
    return Frames(_stack(kept, chosen, clip.path), rate, native)


def _moving(container: InputContainer, path: str) -> Any:
    from av.stream import Disposition

    still = container.format.name.startswith("image2") or container.format.name.endswith("_pipe")
    streams = [
        stream
        for stream in container.streams.video
        if not still and not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        what = "a still picture" if container.streams.video else "no video stream"
        raise NoVideoStream(f"{path}: {what}; give a file with moving pictures")
    return streams[0]


def _timed(frames: Iterable[VideoFrame], stated: float) -> Iterator[tuple[float, VideoFrame]]:
    for i, frame in enumerate(frames):
        yield (i / stated if frame.time is None else frame.time), frame


def _end(moment: float, frame: VideoFrame) -> float:
    return moment + float((frame.duration or 0) * (frame.time_base or 0))


def _collect(
    timed: Iterable[tuple[float, VideoFrame]],
    window: Window | None,
    size: tuple[int | None, int | None],
) -> tuple[list[float], float, dict[int, Pixels]]:
    """Return the times of all frames, the end, and the pixels of the window and just beside it."""
    start, stop = (window.start, window.stop) if window else (-np.inf, np.inf)
    times: list[float] = []
    kept: dict[int, Pixels] = {}
    before: tuple[int, VideoFrame] | None = None
    done, end = False, 0.0
    for i, (moment, frame) in enumerate(timed):
        times.append(moment)
        since, end = moment - times[0], _end(moment, frame)
        if since < start:
            before = i, frame
        elif not done:
            if before and not kept:
                kept[before[0]] = _pixels(before[1], size)
            kept[i] = _pixels(frame, size)
            done = since >= stop
    if before and not kept:
        kept[before[0]] = _pixels(before[1], size)
    return times, end, kept


def _pixels(frame: VideoFrame, size: tuple[int | None, int | None]) -> Pixels:
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
    width, height = _target_size(pixels.shape, size)
    if (height, width) == pixels.shape[:2]:
        return np.ascontiguousarray(pixels)
    from PIL import Image

    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _target_size(shape: tuple[int, ...], size: tuple[int | None, int | None]) -> tuple[int, int]:
    height, width = shape[:2]
    wanted_width, wanted_height = size
    if wanted_width and not wanted_height:
        wanted_height = max(1, round(height * wanted_width / width))
    if wanted_height and not wanted_width:
        wanted_width = max(1, round(width * wanted_height / height))
    return wanted_width or width, wanted_height or height


def _native_rate(times: list[float], stated: float) -> float:
    span = times[-1] - times[0]
    return (len(times) - 1) / span if span > 0 else stated


def _choose(
    times: NDArray[np.float64], native: float, fps: float | None, window: Window | None
) -> tuple[NDArray[np.intp], float]:
    """Return the indices of the frames to show, and their rate."""
    if fps is None or abs(native - fps) <= SAME_FPS:
        shown, chosen = times, np.arange(len(times))
    else:
        seconds = times[-1] - times[0] + 1 / native
        shown = np.arange(int(fps * seconds + 1e-6)) / fps
        chosen = _nearest(times, shown)
    if window:
        inside = (shown >= window.start - 1e-9) & (shown < window.stop - 1e-9)
        chosen = chosen[inside]
    return chosen, native if fps is None else float(fps)


def _nearest(times: NDArray[np.float64], shown: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the index of the nearest of `times` for each of `shown`; ties: the earlier."""
    times = np.maximum.accumulate(times)
    later = np.clip(np.searchsorted(times, shown), 1, max(1, len(times) - 1))
    later = np.minimum(later, len(times) - 1)
    earlier = np.maximum(later - 1, 0)
    closer = times[later] - shown < shown - times[earlier] - 1e-9
    return np.where(closer, later, earlier)


def _stack(kept: dict[int, Pixels], chosen: NDArray[np.intp], path: str) -> Pixels:
    """Gather the chosen frames; each is dropped once copied, so that memory is held once."""
    shape = kept[int(chosen[0])].shape
    stacked = np.empty((len(chosen), *shape), np.uint8)
    last = -1
    for k, i in enumerate(chosen.tolist()):
        if i != last:
            kept.pop(last, None)
        if kept[i].shape != shape:
            raise DecodeError(f"{path}: the picture size changes at frame {i}; {REMEDY}")
        stacked[k], last = kept[i], i
    return stacked


# Containers


@contextlib.contextmanager
def _opened(path: str) -> Iterator[InputContainer]:
    """Open a container; every error of FFmpeg inside the block becomes a `DecodeError`."""
    import av

    # An absolute path, so that no file name is read as a protocol or as an option.
    absolute = os.path.abspath(path)  # noqa: PTH100
    try:
        with av.open(absolute, options={"protocol_whitelist": "file"}) as container:
            nothing = not container.streams.audio and not container.streams.video
            if nothing or container.format.name == TEXT:
                raise DecodeError(f"{path}: neither sound nor pictures inside; {REMEDY}")
            yield container
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DecodeError(f"{path}: cannot be decoded ({reason}); {REMEDY}") from error


def _frames_of(container: InputContainer, stream: Any, path: str) -> Iterator[Any]:
    """Yield a stream's frames in presentation order; a broken packet is an error, not a gap."""
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise DecodeError(f"{path}: a packet of the stream is broken or cut off; {REMEDY}")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise DecodeError(f"{path}: a frame of the stream is broken; {REMEDY}")
            yield frame


def _declared_seconds(container: InputContainer, stream: Stream) -> float:
    """Return the duration that the stream states for itself; 0 where it states none."""
    if not STATING & set(container.format.name.split(",")) and not _has_mp3_header(container):
        return 0.0
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    stated = {key.upper(): value for key, value in stream.metadata.items()}.get("DURATION", "")
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    try:  # Matroska's tag is the time of the end
        end = sum(float(part) * 60.0**i for i, part in enumerate(reversed(stated.split(":"))))
    except ValueError:
        return 0.0
    return end - start


def _has_mp3_header(container: InputContainer) -> bool:
    """Whether an mp3 states its length; FFmpeg guesses it from the bit rate otherwise."""
    with _readable(container.name) as file:
        head = file.read(10)
        if head[:3] == b"ID3":
            size = sum(
                (byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=False)
            )
            file.seek(size, os.SEEK_CUR)
        else:
            file.seek(0)
        first = file.read(64)
    return container.format.name == "mp3" and (b"Xing" in first or b"Info" in first)


def _require_length(path: str, seconds: float, declared: float, slack: float) -> None:
    if seconds < declared - slack:
        raise DecodeError(
            f"{path}: cut off: {seconds:.3f} s of {declared:.3f} s can be decoded; {REMEDY}"
        )


def _require_whole(path: str) -> None:
    """Refuse a file that ends before its own container says it does."""
    with _readable(path) as file:
        length = os.fstat(file.fileno()).st_size
        end = _promised_end(file, length)
    if not length:
        raise DecodeError(f"{path}: the file is empty (0 bytes); {REMEDY}")
    if end > length:
        raise DecodeError(
            f"{path}: cut off: {length} bytes are there, at least {end} belong to it; {REMEDY}"
        )


def _promised_end(file: BinaryIO, length: int) -> int:
    """Return where the container says that it ends at the earliest; 0 where it does not say."""
    magic = file.read(12)
    if magic[:4] == b"RIFF":
        sizes = _riff_chunks(file, length)
        return max((end for name, end in sizes if name in (b"data", b"LIST")), default=0)
    if magic[4:8] in MP4_BOXES:
        sizes = _mp4_boxes(file, length)
        return max((end for name, end in sizes if name in MP4_BOXES), default=0)
    if magic[:4] == MATROSKA:
        return _matroska_end(file)
    return _ogg_end(file, length) if magic[:4] == b"OggS" else 0


def _riff_chunks(file: BinaryIO, length: int) -> Iterator[tuple[bytes, int]]:
    """Yield (name, end) of the chunks of a wav or avi file."""
    start = 12
    while start + 8 <= length:
        file.seek(start)
        name, size = struct.unpack("<4sI", file.read(8))
        start += 8 + size
        yield name, start if size < STREAMED else 0
        start += size % 2


def _mp4_boxes(file: BinaryIO, length: int) -> Iterator[tuple[bytes, int]]:
    """Yield (name, end) of the outermost boxes; size 0 means up to the end, 1 a 64-bit size."""
    start = 0
    while start + 16 <= length:
        file.seek(start)
        size, name, large = struct.unpack(">I4sQ", file.read(16))
        size = large if size == 1 else size or length - start
        if size < 8:
            return
        start += size
        yield name, start


def _matroska_end(file: BinaryIO) -> int:
    """Return the end of the segment of an mkv or webm file; 0 where it was written as a stream."""
    file.seek(4)
    file.seek(_matroska_number(file), os.SEEK_CUR)
    if file.read(4) != MATROSKA_SEGMENT:
        return 0
    size = _matroska_number(file)
    return file.tell() + size if size >= 0 else 0


def _matroska_number(file: BinaryIO) -> int:
    """Read a number whose leading zero bits count its further bytes; -1 is "unknown"."""
    first = (file.read(1) or b"\0")[0]
    further = 8 - first.bit_length()
    value = int.from_bytes(bytes([first]) + file.read(further), "big")
    unknown = (1 << 7 * (further + 1)) - 1
    value &= unknown
    return -1 if value == unknown else value


def _ogg_end(file: BinaryIO, length: int) -> int:
    """Return the end of the last page; one byte more where that page is not marked as the last."""
    start = max(0, length - OGG_PAGE)
    file.seek(start)
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return length + 1
    end = length - len(page) + 27 + page[26] + sum(page[27 : 27 + page[26]])
    return max(end, length if page[5] & 4 else length + 1)


# Writing


def write_wav(path: str | Path, audio: Audio, *, bits: Literal[16, 32] = 32) -> Path:
    """Write mono sound as a 32-bit float WAV: the same sound gives the same bytes.

    The file appears under its name only when it is complete. The header is written here because
    libsndfile's holds the time of day.

    Parameters
    ----------
    path : path
        Of the file.
    audio : Audio
        The sound.
    bits : {16, 32}
        With 16, integers, rounded to 1/32768 and saturated.

    Raises
    ------
    ValueError
        If the samples are not one-dimensional, or exceed the 4 GiB of the format.
    """
    samples = np.asarray(audio.samples, dtype="<f4")
    if bits == 16:
        samples = np.clip(np.rint(samples * PCM16), -PCM16, PCM16 - 1).astype("<i2")
    if samples.ndim != 1 or samples.nbytes > 0xFFFFFFFF - 50:
        raise ValueError(f"{path}: cannot write samples of shape {samples.shape} as mono WAV")
    target = Path(path)
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(_wav_header(len(samples), audio.rate, bits))
            file.write(samples.tobytes())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _wav_header(count: int, rate: int, bits: int) -> bytes:
    width = bits // 8
    size = width * count
    if bits == 16:
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, width * rate, width, bits)
    else:  # floats need the longer header
        form = struct.pack("<4sIHHIIHHH", b"fmt ", 18, 3, 1, rate, width * rate, width, bits, 0)
        form += struct.pack("<4sII", b"fact", 4, count)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", size)
    return struct.pack("<4sI", b"RIFF", len(body) + size) + body
