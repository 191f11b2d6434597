"""Every error phonoscope raises on purpose, in one tree.

PhonoscopeError
├── UserError               wrong input to a command; its message is all that the user sees
│   ├── SpecError           a protocol, manifest or system file is wrong (names file and key)
│   ├── UnknownName         no such plugin (answers "did you mean")
│   ├── DuplicateName       two plugins of one name
│   ├── DatasetError        a data set is incomplete or not what the protocol pinned
│   ├── StoreError          a store cannot be opened or written
│   └── GateError           a baseline file is wrong
├── SetupError              a plugin cannot run here; its whole column is unavailable
│   ├── WeightsMissing
│   ├── WeightsMismatch
│   ├── LicenceNotAccepted
│   └── DependencyMissing
├── ClipError               one clip cannot be measured: becomes a `Failure` with `code`
│   ├── MissingClip  DecodeError  NoAudioStream  NoVideoStream
│   ├── NonfiniteAudio  NonfiniteOutput  EmptyAudio  SilentAudio  SilentReference  SilentNoise
│   ├── TooShort  TooLong  LengthMismatch  SizeMismatch  FrameRateMismatch
│   ├── NoUtterances  NoSpeech  EmptyReferenceText  TooFewSamples
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


class StoreError(UserError):
    """A store cannot be opened or written."""

    code = "store_error"


class GateError(UserError):
    """A gate's baseline or rules cannot be read."""

    code = "gate_error"


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


class ClipError(PhonoscopeError):
    """One clip cannot be measured."""

    code = "clip_error"


class MissingClip(ClipError):
    """The file does not exist."""

    code = "missing_clip"


class DecodeError(ClipError):
    """The decoder gave up."""

    code = "decode_error"


class NoAudioStream(ClipError):
    """A container without sound."""

    code = "no_audio_stream"


class NoVideoStream(ClipError):
    """A container without moving pictures."""

    code = "no_video_stream"


class NonfiniteAudio(ClipError):
    """A NaN or infinite sample."""

    code = "nonfinite_audio"


class NonfiniteOutput(ClipError):
    """A network gave a NaN or an infinity."""

    code = "nonfinite_output"


class EmptyAudio(ClipError):
    """No samples at all."""

    code = "empty_audio"


class SilentAudio(ClipError):
    """The largest sample is below 1e-4."""

    code = "silent_audio"


class SilentReference(ClipError):
    """The reference is silent."""

    code = "silent_reference"


class SilentNoise(ClipError):
    """The noise of a mixture is silent where it was cut."""

    code = "silent_noise"


class TooShort(ClipError):
    """Shorter than the metric's definition needs."""

    code = "too_short"


class TooLong(ClipError):
    """Longer than the metric's definition allows."""

    code = "too_long"


class LengthMismatch(ClipError):
    """Generated and reference differ in length by more than the rule allows."""

    code = "length_mismatch"


class SizeMismatch(ClipError):
    """Frames of different size."""

    code = "size_mismatch"


class FrameRateMismatch(ClipError):
    """Frames at different rates."""

    code = "frame_rate"


class NoUtterances(ClipError):
    """PESQ found no speech in the reference."""

    code = "no_utterances"


class NoSpeech(ClipError):
    """Too little voiced sound."""

    code = "no_speech"


class EmptyReferenceText(ClipError):
    """No words are left after normalisation."""

    code = "empty_reference_text"


class TooFewSamples(ClipError):
    """Too few records for the aggregate."""

    code = "too_few_samples"


class WorkerDied(ClipError):
    """The process that measured the sample was killed."""

    code = "worker_died"


class UnsupportedSample(PhonoscopeError):
    """The metric is not defined for this sample: counted apart, not a failure."""

    code = "unsupported"


class UnscorableReference(UnsupportedSample):
    """The reference holds nothing to score, for any system."""

    code = "unscorable_reference"
