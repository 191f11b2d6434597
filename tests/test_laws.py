"""Laws that every registered metric and view obeys.

Nothing here names the metrics one by one: a new plugin is tested because it is registered. A metric
belongs to a class by what it sees (`CLASSES`), and the class says what becomes of silent, short,
broken and foreign clips. A plugin that fits no class fails `test_every_metric_has_a_class`, which
says what to declare.
"""

from __future__ import annotations

import functools
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import seeded_weights
import soundfile
from conftest import WEIGHTS
from test_scoring import speech

from phonoscope import media, plugins, scoring, views, weights
from phonoscope.errors import PhonoscopeError
from phonoscope.measure import lacks, record_row
from phonoscope.plugins import METRICS, Metric
from phonoscope.types import Audio, Clip, Failure, Frames, Outcome, Ratio, Record, Unsupported
from phonoscope.views import VIEWS, View, look, see

plugins.discover()
RATE = 16_000
TEXT = "bin blue at f two now"
REAL = ("spk1_snt1", "spk1_snt2", "spk1_snt3", "spk1_snt4")
LEAST_LENGTH = 2.5  # seconds of the good clips: more than any metric asks for


@pytest.fixture(scope="module", autouse=True)
def _every_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Laws hold whatever a network's values are: where the real ones are not here, seeded ones."""
    root = seeded_weights.complete(tmp_path_factory.mktemp("weights"), WEIGHTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHONOSCOPE_WEIGHTS", str(root))
        yield


# Classes


@dataclass(frozen=True)
class Class:
    """Metrics to which the same happens.

    Attributes
    ----------
    what : str
    fits : callable
        Whether a metric belongs here, by its views and roles.
    outcomes : mapping
        For each situation the code of the failure, ``unsupported:<code>``, ``ok``, or
        ``ok:<flag>``. Situations of the reference count for metrics that have one.
    """

    what: str
    fits: Callable[[Metric], bool]
    outcomes: Mapping[str, str]


def sees(metric: Metric, name: str) -> bool:
    return any(link.name == name for item in metric.views.values() for link in item.chain())


def hears(metric: Metric, rate: int) -> bool:
    return all(item == views.audio(rate) for item in metric.views.values())


BROKEN = {"text": "decode_error", "empty": "decode_error", "cut": "decode_error"}
BROKEN |= {"missing": "missing_clip"}
SOUND = {"nan": "nonfinite_audio", "inf": "nonfinite_audio", "zero": "empty_audio"}
FINE = dict.fromkeys(("good", "copy", "stereo", "fast"), "ok")
NO_ONSET_NEEDED = ("onset_count", "odf_w1_value")
ONSETS = {**BROKEN, **SOUND, **FINE, "one": "too_short", "silent": "ok:silent_generated"}

NO_VOICE_GIVEN = "unsupported:missing_enrollment"

CLASSES = (
    Class(
        "voice: compares with the enrollment, which a folder of files lacks",
        lambda m: "enrollment" in m.views,
        dict.fromkeys([*BROKEN, *SOUND, *FINE, "one", "silent"], NO_VOICE_GIVEN)
        | {"missing": BROKEN["missing"]},
    ),
    Class(
        "speech: whatever sees `speech16k`",
        lambda m: sees(m, "speech16k") and "enrollment" not in m.views,
        {
            **BROKEN,
            **SOUND,
            **FINE,
            "one": "too_short",
            "silent": "silent_audio",
            "silent_reference": "silent_reference",
        },
    ),
    Class(
        "onset: sound at 22050 Hz, scores the reference's onsets",
        lambda m: hears(m, 22_050) and not m.name.startswith(NO_ONSET_NEEDED),
        {**ONSETS, "silent_reference": "unsupported:unscorable_reference"},
    ),
    Class(
        "count: sound at 22050 Hz, defined without any onset",
        lambda m: hears(m, 22_050) and m.name.startswith(NO_ONSET_NEEDED),
        {**ONSETS, "silent_reference": "ok:silent_reference"},
    ),
    Class(
        "spectrum: silence is a spectrum like any other",
        lambda m: sees(m, "logmel_stats"),
        {**BROKEN, **SOUND, **FINE, **dict.fromkeys(("one", "silent", "silent_reference"), "ok")},
    ),
    Class(
        "picture: whatever sees frames",
        lambda m: sees(m, "frames"),
        {
            **BROKEN,
            "good": "ok",
            "sound_alone": "no_video_stream",
            "larger": "size_mismatch",
            "quicker": "frame_rate",
            "much_longer": "length_mismatch",
            "longer": "ok:trimmed",
        },
    ),
)
DECLARE = (
    "declare it in CLASSES of tests/test_laws.py: a Class whose `fits` is true for what the metric "
    "sees, and what becomes of silent, short, NaN, broken, missing and stereo clips"
)


def class_of(metric: Metric) -> Class:
    found = [item for item in CLASSES if item.fits(metric)]
    seen = {role: " <- ".join(map(str, item.chain())) for role, item in metric.views.items()}
    assert len(found) == 1, f"{metric.name} ({seen}) is in {len(found)} classes; {DECLARE}"
    return found[0]


def every(fits: Callable[[Metric], bool] = lambda metric: True) -> pytest.MarkDecorator:
    """Run a test for each metric that the law is about."""
    return pytest.mark.parametrize("name", [name for name in METRICS if fits(METRICS.get(name))])


@functools.cache
def usable(name: str) -> Metric:
    """Return a metric, or skip with the reason why it cannot run here."""
    metric = METRICS.get(name)
    reason = lacks(metric)
    if reason:
        pytest.skip(f"{name}: {reason.code}: {reason.error}")
    return metric


@every()
def test_every_metric_has_a_class(name: str) -> None:
    assert class_of(METRICS.get(name)).outcomes


def test_a_metric_in_no_class_is_told_what_to_declare() -> None:
    odd = replace(METRICS.get("si_sdr"), name="odd", views={"generated": views.audio(8_000)})
    with pytest.raises(AssertionError, match=r"odd .*audio\(rate=8000\).* in 0 classes; declare"):
        class_of(odd)


# Clips


def write_film(
    path: Path, pixels: np.ndarray, *, fps: int = 25, sound: Audio | None = None
) -> None:
    """Write pictures without loss, of shape (frames, height, width, 3)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.width, stream.height, stream.pix_fmt = pixels.shape[2], pixels.shape[1], "bgr0"
        track = container.add_stream("pcm_s16le", rate=RATE, layout="mono") if sound else None
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if track and sound:
            whole = np.rint(sound.samples * 32_767).astype(np.int16)
            block = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
            block.sample_rate = RATE
            container.mux(track.encode(block))
            container.mux(track.encode())
        container.mux(stream.encode())


def pictures(seed: int, *, frames: int = 8, side: int = 24) -> np.ndarray:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (1, side, side, 3)) + np.arange(frames)[:, None, None, None] * 3
    return (base % 256).astype(np.uint8)


@pytest.fixture(scope="module")
def sounds(request: pytest.FixtureRequest) -> list[np.ndarray]:
    """Four clips of real speech, or of something like it where there is none."""
    data = request.config.rootpath.parent / "shared/data"
    data = Path(os.environ.get("PHONOSCOPE_TEST_DATA") or data) / "speech"
    if all((data / f"{name}.wav").is_file() for name in REAL):
        return [soundfile.read(data / f"{name}.wav", dtype="float32")[0] for name in REAL]
    return [speech(seed, seconds=LEAST_LENGTH + 0.2).samples for seed in range(4)]


def degraded(sound: np.ndarray) -> np.ndarray:
    """Return a sound that is late and noisy."""
    late = np.concatenate([np.zeros(3200, np.float32), sound[:-3200]])
    noise = np.random.default_rng(5).standard_normal(len(sound)) * 0.5 * np.sqrt(np.mean(sound**2))
    return (late + noise).astype(np.float32)


@pytest.fixture(scope="module")
def pairs(sounds: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Four samples as (clips by role where identical, clips by role where degraded)."""
    root = tmp_path_factory.mktemp("pairs")
    found = []
    for number, samples in enumerate(sounds):
        clean = pictures(number)
        noise = np.random.default_rng(7).integers(-40, 40, clean.shape)
        files = {
            "clean": (clean, samples),
            "copy": (clean, samples),
            "bad": (np.clip(clean + noise, 0, 255).astype(np.uint8), degraded(samples)),
        }
        clips = {}
        for name, (pixels, wave) in files.items():
            path = root / f"{name}{number}.mkv"
            write_film(path, pixels, sound=Audio(wave, RATE))
            clips[name] = Clip(str(path))
        roles = dict.fromkeys(("generated", "audio", "video"), clips["copy"])
        rest = {"reference": clips["clean"], "enrollment": clips["clean"]}
        found.append(({**roles, **rest}, {**dict.fromkeys(roles, clips["bad"]), **rest}))
    return found


@functools.cache
def glance(item: View, clip: Clip) -> Any:
    """Look once: that networks give the same again is a law of its own, below."""
    return look(item, clip)


def measured(metric: Metric, clips: Mapping[str, Clip], text: str = TEXT) -> Outcome:
    """Measure one sample, views and all."""
    seen = {role: glance(item, clips[role]) for role, item in metric.views.items()}
    for output in seen.values():
        if isinstance(output, Failure | Unsupported):
            return output
    texts = dict.fromkeys(metric.texts, text)
    outcome: Outcome = views.attempt("measure", metric, **seen, **texts)
    return outcome


def records(metric: Metric, all_clips: list[Mapping[str, Clip]]) -> list[Record]:
    outcomes = [measured(metric, clips) for clips in all_clips]
    good = [outcome for outcome in outcomes if isinstance(outcome, Record)]
    assert len(good) == len(outcomes), outcomes
    return good


def total(metric: Metric, found: list[Record]) -> float:
    return metric.aggregate.reduce([record.value for record in found])[0]


# Values


@every(lambda metric: "reference" in metric.views)
def test_identical_clips_are_best(name: str, pairs: list[Any]) -> None:
    metric = usable(name)
    same = total(metric, records(metric, [same for same, _ in pairs]))
    worse = total(metric, records(metric, [bad for _, bad in pairs]))
    sign = 1 if metric.better == "higher" else -1
    assert sign * same > sign * worse
    if metric.ideal is not None:
        assert same == pytest.approx(metric.ideal, rel=1e-6, abs=1e-6 * abs(worse))


@every(lambda metric: metric.ideal is not None)
def test_nothing_is_better_than_ideal(name: str, pairs: list[Any]) -> None:
    metric = usable(name)
    assert metric.ideal is not None
    sign = 1 if metric.better == "higher" else -1
    for clips in [clips for pair in pairs for clips in pair]:
        found = measured(metric, clips)
        assert isinstance(found, Record)
        if not isinstance(found.value, tuple):
            value = found.value
            number = value.numerator / value.denominator if isinstance(value, Ratio) else value
            assert sign * number <= sign * metric.ideal + 1e-6 * abs(metric.ideal)


@every(lambda metric: "transcript" in metric.texts)
def test_a_text_that_was_heard_is_ideal(name: str) -> None:
    metric = usable(name)
    assert metric.ideal is not None
    found = metric(generated=TEXT, transcript=TEXT)
    assert total(metric, [found]) == metric.ideal
    worse = metric(generated="set red with a one soon", transcript=TEXT)
    sign = 1 if metric.better == "higher" else -1
    assert sign * total(metric, [worse]) < sign * metric.ideal


@every()
def test_order_does_not_matter(name: str, pairs: list[Any]) -> None:
    metric = usable(name)
    clips = [clips for pair in pairs for clips in pair]
    forwards = records(metric, clips)
    backwards = records(metric, clips[::-1])[::-1]
    assert rows(forwards) == rows(backwards)
    value = total(metric, forwards)
    for seed in range(3):
        mixed = random.Random(seed).sample(forwards, len(forwards))
        assert total(metric, mixed) == pytest.approx(value, rel=1e-9, abs=1e-12)


def rows(found: list[Record]) -> list[dict[str, Any]]:
    """Return records as a store keeps them: flags, info and all."""
    return [record_row("", "", record) for record in found]


@every()
def test_measuring_twice_gives_equal_records(name: str, pairs: list[Any]) -> None:
    metric = usable(name)
    clips = [pairs[0][0], pairs[1][1]]
    first = records(metric, clips)
    np.random.seed(12)
    random.seed(12)
    numbers, more = np.random.get_state(), random.getstate()
    again = records(metric, clips)
    assert rows(first) == rows(again)
    after = np.random.get_state()
    assert all(np.array_equal(a, b) for a, b in zip(numbers, after, strict=True)), "NumPy's state"
    assert more == random.getstate(), "the state of `random`"


# Arrays


def gives_audio(item: View | None) -> bool:
    """Whether a view's output is sound."""
    return item is not None and item.name in ("audio", "speech16k")


def test_which_views_give_audio(pairs: list[Any]) -> None:
    for item in distinct_views().values():
        if not item.is_network:
            assert gives_audio(item) == isinstance(look(item, pairs[0][0]["audio"]), Audio)


def distinct_views() -> dict[str, View]:
    """Return all views by what they are called: registered, and as metrics set them."""
    used = [
        link for name in METRICS for v in METRICS.get(name).views.values() for link in v.chain()
    ]
    return {str(item): item for item in [*(VIEWS.get(name) for name in VIEWS), *used]}


VIEWS_OF_SOUND = [name for name, item in distinct_views().items() if gives_audio(item.of)]
NETWORKS = [name for name, item in distinct_views().items() if item.is_network]


def ready(item: View) -> View:
    """Return a view, or skip with the reason why it cannot run here."""
    stand_in = replace(METRICS.get("si_sdr"), name=str(item), views={"generated": item})
    reason = lacks(stand_in)
    if reason:
        pytest.skip(f"{item}: {reason.code}: {reason.error}")
    return item


@every(lambda metric: any(gives_audio(item) for item in metric.views.values()))
def test_a_metric_refuses_another_rate(name: str, pairs: list[Any]) -> None:
    metric = usable(name)
    seen = {role: look(item, pairs[0][0][role]) for role, item in metric.views.items()}
    for role in [role for role, output in seen.items() if isinstance(output, Audio)]:
        wrong = {**seen, role: Audio(seen[role].samples, seen[role].rate // 2)}
        with pytest.raises(ValueError, match=r"wrong_rate: expected \d+, got \d+"):
            metric(**wrong, **dict.fromkeys(metric.texts, TEXT))
        wide = {**seen, role: Audio(np.stack([seen[role].samples] * 2, 1), seen[role].rate)}
        with pytest.raises(ValueError, match="wrong_shape"):
            metric(**wide, **dict.fromkeys(metric.texts, TEXT))


@pytest.mark.parametrize("name", VIEWS_OF_SOUND)
def test_a_view_refuses_another_rate(name: str, pairs: list[Any]) -> None:
    item = ready(distinct_views()[name])
    assert item.of is not None
    sound = look(item.of, pairs[0][0]["generated"])
    wrong = Audio(sound.samples, sound.rate + 50)
    with pytest.raises(ValueError, match=r"wrong_rate: expected \d+, got \d+"):
        views.network(item, "cpu")([wrong]) if item.is_network else item.make(wrong)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_equals_singles(name: str, pairs: list[Any]) -> None:
    item = ready(distinct_views()[name])
    clips = [clips["generated"] for pair in pairs[:2] for clips in pair]
    together = see(item, [*clips, clips[0]])
    alone = [see(item, [clip])[0] for clip in clips]
    for one, other in zip(together, [*alone, alone[0]], strict=True):
        assert_alike(one, other)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_a_batch_does_not_matter(name: str, pairs: list[Any]) -> None:
    item = ready(distinct_views()[name])
    clips = [pair[0]["generated"] for pair in pairs[:3]]
    for one, other in zip(see(item, clips), see(item, clips[::-1])[::-1], strict=True):
        assert_alike(one, other)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_bad_clip_spoils_no_batch(name: str, pairs: list[Any], tmp_path: Path) -> None:
    item = ready(distinct_views()[name])
    (tmp_path / "bad.wav").write_text("no sound")
    good = [pair[0]["generated"] for pair in pairs[:2]]
    first, bad, last = see(item, [good[0], Clip(str(tmp_path / "bad.wav")), good[1]])
    assert isinstance(bad, Failure)
    assert bad.code == "decode_error"
    assert_alike(first, see(item, [good[0]])[0])
    assert_alike(last, see(item, [good[1]])[0])


def assert_alike(one: Any, other: Any) -> None:
    assert not isinstance(one, Failure | Unsupported), one
    assert type(one) is type(other)
    if isinstance(one, Mapping):
        assert one.keys() == other.keys()
        for key in one:
            assert_alike(one[key], other[key])
    elif isinstance(one, str):
        assert one == other
    else:
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


# Files, through the path that users take


@pytest.fixture(scope="module")
def outcomes(
    sounds: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Outcome]:
    """Score a folder in which each sample is a situation; (metric, situation) to outcome."""
    root = tmp_path_factory.mktemp("files")
    for folder in ("out", "clean", "films", "true"):
        (root / folder).mkdir()
    heard = _heard(root, sounds)
    seen = _seen(root, sounds[0])
    return {**heard, **seen}


def _heard(root: Path, sounds: list[np.ndarray]) -> dict[tuple[str, str], Outcome]:
    good = sounds[0]
    for name in [*BROKEN, *SOUND, *FINE, "one", "silent", "silent_reference"]:
        wave = np.zeros_like(good) if name == "silent_reference" else good
        soundfile.write(root / f"clean/{name}.wav", wave, RATE, subtype="FLOAT")
    nan, inf = good.copy(), good.copy()
    nan[7], inf[9] = np.nan, np.inf
    fast = media.resample(Audio(good, RATE), 48_000)
    written = {
        "good": (degraded(good), RATE),
        "copy": (good, RATE),
        "stereo": (np.stack([good, good], 1), RATE),
        "fast": (fast.samples, fast.rate),
        "nan": (nan, RATE),
        "inf": (inf, RATE),
        "zero": (good[:0], RATE),
        "one": (np.ones(1, np.float32), RATE),
        "silent": (np.zeros_like(good), RATE),
        "silent_reference": (good, RATE),
        "cut": (good, RATE),
    }
    for name, (wave, rate) in written.items():
        soundfile.write(root / f"out/{name}.wav", wave, rate, subtype="FLOAT")
    (root / "out/cut.wav").write_bytes((root / "out/cut.wav").read_bytes()[:9_000])
    (root / "out/text.wav").write_text("hello\n" * 50)
    (root / "out/empty.wav").write_bytes(b"")
    names = [name for name in METRICS if not sees(METRICS.get(name), "frames")]
    return _scored(root, "out", "clean", names)


def _seen(root: Path, good: np.ndarray) -> dict[tuple[str, str], Outcome]:
    situations = {
        "good": (pictures(1), 25),
        "larger": (pictures(0, side=26), 25),
        "quicker": (pictures(0), 30),
        "longer": (pictures(0, frames=11), 25),
        "much_longer": (pictures(0, frames=15), 25),
        "cut": (pictures(0), 25),
    }
    for name in [*situations, *BROKEN, "sound_alone"]:
        write_film(root / f"true/{name}.mkv", pictures(0))
    for name, (pixels, fps) in situations.items():
        write_film(root / f"films/{name}.mkv", pixels, fps=fps)
    whole = (root / "films/cut.mkv").read_bytes()
    (root / "films/cut.mkv").write_bytes(whole[: len(whole) // 2])
    (root / "films/text.mkv").write_text("hello\n" * 50)
    (root / "films/empty.mkv").write_bytes(b"")
    soundfile.write(root / "films/sound_alone.wav", good, RATE)
    names = [name for name in METRICS if sees(METRICS.get(name), "frames")]
    return _scored(root, "films", "true", names)


def _scored(root: Path, out: str, true: str, names: list[str]) -> dict[tuple[str, str], Outcome]:
    texts = root / "texts.tsv"
    ids = [path.stem for path in (root / true).iterdir()]
    texts.write_text("".join(f"{name}\t{TEXT}\n" for name in ids))
    found = scoring.scores(
        root / out, root / true, metrics=names, transcripts=texts, engine="serial"
    )
    return {
        (metric, sample.id): outcome
        for metric, row in found.line.outcomes.items()
        for sample, outcome in zip(found.line.plan.samples, row, strict=True)
        if outcome is not None
    }


def cases() -> Iterator[Any]:
    for name in METRICS:
        found = [item for item in CLASSES if item.fits(METRICS.get(name))]
        for situation, expected in found[0].outcomes.items() if found else ():
            if "reference" in METRICS.get(name).views or "reference" not in situation:
                yield pytest.param(name, situation, expected, id=f"{name}-{situation}")


@pytest.mark.parametrize(("name", "situation", "expected"), list(cases()))
def test_each_situation_has_its_named_outcome(
    name: str, situation: str, expected: str, outcomes: Mapping[tuple[str, str], Outcome]
) -> None:
    metric = usable(name)
    found = outcomes[name, situation]
    if isinstance(found, Failure):
        assert found.code == expected, found
        assert situation in found.error, "names the file"
        assert "; " in found.error, "says what to do"
    elif isinstance(found, Unsupported):
        assert f"unsupported:{found.code}" == expected, found
        assert situation in found.error
    else:
        assert expected.partition(":")[0] == "ok", found
        assert expected.partition(":")[2] in ("", *found.flags)
        assert metric.aggregate.name == "frechet" or np.isfinite(
            scoring.assemble.scalar(found.value)
        )


@every(lambda m: "reference" in m.views and m.aggregate.linear and not sees(m, "frames"))
def test_a_copy_in_stereo_is_a_copy(
    name: str, outcomes: Mapping[tuple[str, str], Outcome], pairs: list[Any]
) -> None:
    metric = usable(name)
    stereo, copy = outcomes[name, "stereo"], outcomes[name, "copy"]
    assert isinstance(stereo, Record)
    assert isinstance(copy, Record)
    assert stereo.value == pytest.approx(copy.value, rel=1e-9)
    if metric.ideal is not None:
        assert copy.value == pytest.approx(metric.ideal, rel=1e-6, abs=1e-9)


# Cards and identities


@every()
def test_metric_cards(name: str) -> None:
    metric = METRICS.get(name)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert len(metric.doc) >= 40, "a docstring that says what it is"
    assert metric.doc.splitlines()[0].endswith((".", ":")), "a first line that stands alone"
    assert metric.unit
    assert metric.unit == metric.unit.strip()
    assert metric.label
    assert metric.label not in [METRICS.get(n).label for n in METRICS if n != name], "label"
    assert metric.better in ("higher", "lower")
    assert 0 <= metric.decimals <= 6
    assert metric.version
    assert metric.function.__name__ == name


@pytest.mark.parametrize("name", list(VIEWS))
def test_view_cards(name: str) -> None:
    item = VIEWS.get(name)
    assert item.make.__doc__, "a docstring that says what it gives"
    assert item.of is not None
    assert item.batch >= 1
    assert not item.is_network or item.stored, "what a network gave is kept"


def unpinned(names: tuple[str, ...]) -> list[str]:
    """Weights that say nothing yet: upstream publishes no hash, and no copy is here."""
    return [name for name in names if not weights.known_digest(name)]


def needs_hashes(names: tuple[str, ...]) -> None:
    absent = unpinned(names)
    if absent:
        pytest.skip(f"no identity without a hash: none is published of {absent}, no copy is here")


def weights_of(item: View) -> tuple[str, ...]:
    return tuple(name for link in item.chain() for name in link.weights)


@pytest.mark.parametrize("name", list(distinct_views()))
def test_an_identity_is_decided_by_all_that_decides_the_output(name: str) -> None:
    item = distinct_views()[name]
    needs_hashes(weights_of(item))
    again = replace(item)
    assert again.identity == item.identity
    others = [
        replace(item, version="other"),
        replace(item, name="other"),
        item(some_other_parameter=1),
        replace(item, of=views.audio(12_345)),
    ]
    identities = {other.identity for other in others}
    assert len(identities) == len(others)
    assert item.identity not in identities
    known = {n: o for n, o in distinct_views().items() if not unpinned(weights_of(o))}
    assert item.identity not in {o.identity for n, o in known.items() if n != name}


@pytest.mark.parametrize("name", [n for n, v in distinct_views().items() if v.weights])
def test_weights_belong_to_the_identity(name: str) -> None:
    item = distinct_views()[name]
    needs_hashes(item.weights)
    assert replace(item, weights=()).identity != item.identity


@every()
def test_a_metric_s_identity_follows_version_and_views(name: str) -> None:
    metric = METRICS.get(name)
    needs_hashes(metric.weights)
    role, item = next(iter(metric.views.items()))
    others = [
        replace(metric, version="other"),
        replace(metric, name="other"),
        replace(metric, views={**metric.views, role: replace(item, version="other")}),
    ]
    identities = {other.identity for other in others}
    assert len(identities) == 3
    assert metric.identity not in identities
    assert replace(metric, label="x", decimals=5, unit="y").identity == metric.identity


def test_identities_are_the_same_in_every_process() -> None:
    code = (
        "from phonoscope import plugins, weights\n"
        "plugins.discover()\n"
        "for metric in map(plugins.METRICS.get, plugins.METRICS):\n"
        "    if all(map(weights.known_digest, metric.weights)): print(metric.name, metric.identity)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    known = [METRICS.get(name) for name in METRICS if not unpinned(METRICS.get(name).weights)]
    here = [f"{metric.name} {metric.identity}" for metric in known]
    there = done.stdout.splitlines()
    assert set(there) <= set(here), "other tests may have registered more"
    assert len(there) >= 40


def test_silent_clips_are_refused_before_any_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "network", lambda item, device: pytest.fail(f"loaded {item}"))
    media.write_wav(tmp_path / "a.wav", Audio(np.zeros(32_000, np.float32), RATE))
    for name in NETWORKS:
        (found,) = see(distinct_views()[name], [Clip(str(tmp_path / "a.wav"))])
        assert isinstance(found, Failure)
        assert found.code == "silent_audio"


def test_pictures_come_as_frames(pairs: list[Any]) -> None:
    seen = look(views.frames(), pairs[0][0]["video"])
    assert isinstance(seen, Frames)
    assert np.array_equal(seen.pixels, pictures(0))


def test_every_error_has_a_remedy_and_a_code_of_its_own() -> None:
    from phonoscope import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    clip = [kind for kind in kinds if issubclass(kind, errors.ClipError)]
    assert all(kind.remedy for kind in clip)
    codes = [kind.code for kind in kinds if issubclass(kind, PhonoscopeError)]
    assert len(codes) == len(set(codes))
