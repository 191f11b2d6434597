"""A program that speaks: JSON lines in, 16-bit samples out.

It runs as a process of its own, because espeak-ng keeps the phase of its oscillators in global
variables that no call resets: only a fresh process gives the same bytes for the same lines.

A line is ``{"text": ..., "voice": ..., "speed": ..., "pitch": ...}``: voice as espeak-ng names it,
words per minute, 0 to 99.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

RETRIEVAL = 1  # AUDIO_OUTPUT_RETRIEVAL: nothing is played, the samples are handed over
RATE, PITCH = 1, 3  # espeakRATE, espeakPITCH
UTF8 = 1  # espeakCHARS_UTF8
SEED = 1
SYNTH_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Speaker:
    """The espeak-ng library of the `espeakng-loader` package."""

    def __init__(self) -> None:
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path()).encode()
        self.rate = int(self.library.espeak_Initialize(RETRIEVAL, 0, data, 0))
        if self.rate <= 0:
            raise RuntimeError(f"espeak-ng did not start from {data!r}: {self.rate}")
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(SEED))  # else the time of day
        self._chunks: list[bytes] = []
        self._callback = SYNTH_CALLBACK(self._receive)  # kept: the library holds no reference
        self.library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, _: Any) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def say(self, text: str, *, voice: str, speed: int, pitch: int) -> bytes:
        """Return native-endian 16-bit samples at `rate` Hz."""
        self._chunks.clear()
        self._check(self.library.espeak_SetVoiceByName(voice.encode()), f"voice {voice}")
        self._check(self.library.espeak_SetParameter(RATE, speed, 0), f"speed {speed}")
        self._check(self.library.espeak_SetParameter(PITCH, pitch, 0), f"pitch {pitch}")
        line = text.encode()
        size = ctypes.c_size_t(len(line) + 1)
        self._check(self.library.espeak_Synth(line, size, 0, 0, 0, UTF8, None, None), text)
        self._check(self.library.espeak_Synchronize(), text)
        return b"".join(self._chunks)

    def _check(self, status: int, what: str) -> None:
        if status:
            raise RuntimeError(f"espeak-ng refused {what}: status {status}")


def encode(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """Return what the program reads."""
    return "\n".join(json.dumps(dict(line)) for line in lines).encode()


def decode(data: bytes) -> tuple[int, list[bytes]]:
    """Return what the program wrote: the rate, and the samples of each line."""
    rate, count = struct.unpack_from("<II", data)
    sizes = struct.unpack_from(f"<{count}I", data, 8)
    spoken, at = [], 8 + 4 * count
    for size in sizes:
        spoken.append(data[at : at + size])
        at += size
    if at != len(data):
        raise ValueError(f"espeak-ng's output has {len(data)} bytes, announced were {at}")
    return rate, spoken


def main() -> None:
    """Speak the lines of the standard input."""
    speaker = Speaker()
    spoken = [speaker.say(**json.loads(line)) for line in sys.stdin if line.strip()]
    sizes = [len(samples) for samples in spoken]
    out = sys.stdout.buffer
    out.write(struct.pack(f"<II{len(sizes)}I", speaker.rate, len(sizes), *sizes))
    out.writelines(spoken)
    out.flush()


if __name__ == "__main__":
    main()
