"""Every error phonoscope raises on purpose, in one tree.

PhonoscopeError
├── UserError               wrong input to a command; its message is all that the user sees
│   ├── SpecError           a protocol, manifest or system file is wrong (names file and key)
│   ├── UnknownName         no such plugin (answers "did you mean")
│   ├── DuplicateName       two plugins of one name
│   ├── DatasetError        a data set is incomplete or not what the protocol pinned
│   │   └── DatasetMismatch a corpus on disk lacks files, or has others than it is known to have
│   ├── StoreError          a store cannot be opened or written
│   ├── GateError           a baseline file is wrong
│   └── RatingsError        a file of human ratings is wrong
├── SetupError              a plugin cannot run here; its whole column is unavailable
│   ├── WeightsMissing
│   ├── WeightsMismatch
│   ├── LicenceNotAccepted
│   └── DependencyMissing
├── ClipError               one clip cannot be measured: becomes a `Failure` with `code`
│   ├── MissingClip  DecodeError  NoAudioStream  NoVideoStream
│   ├── NonfiniteAudio  NonfiniteOutput  EmptyAudio  SilentAudio  SilentReference  SilentNoise
│   ├── TooShort  TooLong  LengthMismatch  SizeMismatch  FrameRateMismatch  FullScale
│   ├── NoUtterances  NoSpeech  EmptyReferenceText  EmptyReferencePhonemes  TooFewSamples
│   └── WorkerDied
└── UnsupportedSample       a sample that the metric is not defined for: counted, not failed
    └── UnscorableReference
"""

from __future__ import annotations


class PhonoscopeError(Exception):
    """Root of all errors raised on purpose."""

    code = "error"


class UserError(PhonoscopeError):
    """Wrong input to a command. The message says what to do."""

    code = "user_error"


class SpecError(UserError):
    """A protocol, manifest or system file is wrong."""

    code = "spec_error"


class UnknownName(UserError):
    """No plugin of that name."""

    code = "unknown_name"


class DuplicateName(UserError):
    """Two plugins share a name."""

    code = "duplicate_name"


class DatasetError(UserError):
    """A data set is incomplete, or not the revision that was pinned."""

    code = "dataset_error"


class DatasetMismatch(DatasetError):
    """A known corpus is not whole on this disk, or has files that it is not known to have."""

    code = "dataset_mismatch"


class StoreError(UserError):
    """A store cannot be opened or written."""

    code = "store_error"


class GateError(UserError):
    """A gate's baseline or rules cannot be read."""

    code = "gate_error"


class RatingsError(UserError):
    """A file of human ratings or preferences cannot be used (names file, line and problem)."""

    code = "ratings_error"


class SetupError(PhonoscopeError):
    """A plugin cannot run on this machine: the whole column is unavailable."""

    code = "unavailable"


class WeightsMissing(SetupError):
    """A network's weights are not on this machine."""

    code = "weights_missing"


class WeightsMismatch(SetupError):
    """A weights file has another hash than the one pinned."""

    code = "weights_mismatch"


class LicenceNotAccepted(SetupError):
    """Non-commercial weights whose licence was not accepted yet."""

    code = "licence_not_accepted"


class DependencyMissing(SetupError):
    """A package that the plugin needs is not installed."""

    code = "dependency_missing"


REMAKE = "make the file again, or take it out of the data set"
DEFECT = "a defect of the plugin, please report it"


class ClipError(PhonoscopeError):
    """One clip cannot be measured. `remedy` says what to do where the message does not."""

    code = "clip_error"
    remedy = REMAKE


class MissingClip(ClipError):
    """The file does not exist."""

    code = "missing_clip"
    remedy = "generate or fetch the file, or correct the path"


class DecodeError(ClipError):
    """The decoder gave up."""

    code = "decode_error"


class NoAudioStream(ClipError):
    """A container without sound."""

    code = "no_audio_stream"
    remedy = "give a file with sound"


class NoVideoStream(ClipError):
    """A container without moving pictures."""

    code = "no_video_stream"
    remedy = "give a file with moving pictures"


class NonfiniteAudio(ClipError):
    """A NaN or infinite sample."""

    code = "nonfinite_audio"


class NonfiniteOutput(ClipError):
    """A network gave a NaN or an infinity."""

    code = "nonfinite_output"
    remedy = "look at the clip; if it is in order, report a defect of the metric"


class EmptyAudio(ClipError):
    """No samples at all."""

    code = "empty_audio"


class SilentAudio(ClipError):
    """The largest sample is below 1e-4."""

    code = "silent_audio"
    remedy = "this metric cannot score silence: check the file and how it was made"


class SilentReference(ClipError):
    """The reference is silent."""

    code = "silent_reference"
    remedy = "give a reference with sound, or take the sample out of the data set"


class SilentNoise(ClipError):
    """The noise of a mixture is silent where it was cut."""

    code = "silent_noise"
    remedy = "give noise that is not silent"


class TooShort(ClipError):
    """Shorter than the metric's definition needs."""

    code = "too_short"
    remedy = "give a longer clip, or leave the metric out"


class TooLong(ClipError):
    """Longer than the metric's definition allows."""

    code = "too_long"
    remedy = "cut the clip, or leave the metric out"


class LengthMismatch(ClipError):
    """Generated and reference differ in length by more than the rule allows."""

    code = "length_mismatch"
    remedy = "cut both clips to the same part"


class SizeMismatch(ClipError):
    """Frames of different size."""

    code = "size_mismatch"
    remedy = "resize the generated clip"


class FrameRateMismatch(ClipError):
    """Frames at different rates."""

    code = "frame_rate"
    remedy = "encode both clips at one rate"


class FullScale(ClipError):
    """The speech alone reaches full scale, where the mixture has to stay below it."""

    code = "full_scale"
    remedy = "use another rule against clipping"


class NoUtterances(ClipError):
    """PESQ found no speech in the reference."""

    code = "no_utterances"
    remedy = "check that the reference holds speech"


class NoSpeech(ClipError):
    """Too little voiced sound."""

    code = "no_speech"
    remedy = "check that the clip holds speech"


class EmptyReferenceText(ClipError):
    """No words are left after normalisation."""

    code = "empty_reference_text"
    remedy = "correct the transcript"


class EmptyReferencePhonemes(ClipError):
    """The recogniser heard no phoneme in the reference."""

    code = "empty_reference_phonemes"
    remedy = "check that the reference holds speech"


class TooFewSamples(ClipError):
    """Too few records for the aggregate."""

    code = "too_few_samples"
    remedy = "add samples"


class WorkerDied(ClipError):
    """The process that measured the sample was killed."""

    code = "worker_died"
    remedy = "run the same command again, with fewer --workers if memory is short"


class UnsupportedSample(PhonoscopeError):
    """The metric is not defined for this sample: counted apart, not a failure."""

    code = "unsupported"
    remedy = "nothing can be scored here, whatever the system"


class UnscorableReference(UnsupportedSample):
    """The reference holds nothing to score, for any system."""

    code = "unscorable_reference"


def told(error: ClipError | UnsupportedSample) -> str:
    """Return an error's message without its code in front and with a remedy behind.

    A message that has a part after a semicolon says itself what to do.
    """
    text = str(error).removeprefix(f"{error.code}: ")
    return text if "; " in text else f"{text}; {error.remedy}"
