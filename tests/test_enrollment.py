"""The axis `enrollment`: which recording tells a system the voice, and what that decides."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_cases as cases
from tiny_cases import Log

from phonoscope import enrollment, generate, media, noise, protocol, views
from phonoscope.errors import DatasetError, SpecError
from phonoscope.protocol import Protocol, RunSpec
from phonoscope.store import RunStore
from phonoscope.types import Audio, Clip, Dataset, Sample

SOURCES = list(enrollment.SOURCES)
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> Iterator[None]:
    with cases.loaded():
        views.load_file(HERE / "plugins" / "enrolled.py")
        yield


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setenv("PHONOSCOPE_TINY_LOG", str(tmp_path / "log"))
    return Log(tmp_path / "log")


def load(tmp_path: Path, **changes: Any) -> Protocol:
    standard = {
        "references": [],
        "systems": ["tiny_voice"],
        "metrics": ["tiny_rms"],
        "conditions": {"enrollment": "same_clean"},
    }
    return protocol.load(cases.protocol(tmp_path / "clips", **standard | changes))


def enhanced(folder: Path, pattern: str = "{id}") -> dict[str, Any]:
    """Return an `enrollment` section whose enhancer halved every clean clip."""
    return {
        "enhanced": {
            "plugin": "imported",
            "params": {"folder": str(folder), "pattern": pattern},
        }
    }


def make_enhanced(found: Dataset, folder: Path) -> None:
    for sample in found.samples:
        sound = media.read_audio(sample.reference, rate=16_000)
        path = folder / f"{sample.id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        media.write_wav(path, Audio(sound.samples * np.float32(0.5), 16_000))


def at(found: Protocol, **axes: Any) -> RunSpec:
    """Return the only run under these values."""
    (run,) = [
        run
        for run in found.runs()
        if all(run.condition.get(axis) == value for axis, value in axes.items())
    ]
    return run


def enrolled(run: RunSpec) -> dict[str, Clip]:
    return {s.id: s.inputs["enrollment"] for s in run.samples() if "enrollment" in s.inputs}


class TestSources:
    def test_same_clean_is_the_reference(self, tmp_path: Path) -> None:
        (run,) = load(tmp_path).runs()
        assert enrolled(run) == {s.id: s.reference for s in run.dataset.samples}

    def test_other_clean_is_the_next_of_the_speaker(self, tmp_path: Path) -> None:
        (run,) = load(tmp_path, conditions={"enrollment": "other_clean"}).runs()
        names = {name: Path(clip.path).stem for name, clip in enrolled(run).items()}
        assert names == {
            **{"u000": "001", "u001": "002", "u002": "000"},
            **{"u003": "004", "u004": "005", "u005": "003"},
        }

    @pytest.mark.parametrize("snr", [5, -10])
    def test_same_noisy_is_the_mixture_that_the_run_hears(self, tmp_path: Path, snr: int) -> None:
        axes = {"snr_db": [5, -10], "enrollment": "same_noisy"}
        run = at(load(tmp_path, conditions=axes), snr_db=snr)
        for sample in run.samples():
            assert sample.inputs["enrollment"] == sample.inputs["audio"]
            effect = sample.inputs["enrollment"].effect
            assert isinstance(effect, noise.Mixture)
            assert effect.snr_db == snr
            assert sample.reference is not None and sample.reference.effect is None

    def test_same_noisy_at_a_stated_snr_hears_the_same_cut(self, tmp_path: Path) -> None:
        axes = {"snr_db": [5, -5], "enrollment": "same_noisy"}
        found = load(tmp_path, conditions=axes, enrollment={"snr_db": -10})
        by_run = [list(run.samples()) for run in found.runs()]
        for loud, soft in zip(*by_run, strict=True):
            assert loud.inputs["enrollment"] == soft.inputs["enrollment"]
            given, heard = (loud.inputs[role].effect for role in ("enrollment", "audio"))
            assert isinstance(given, noise.Mixture)
            assert replace(given, snr_db=5.0) == heard

    def test_same_noisy_needs_no_snr_axis(self, tmp_path: Path) -> None:
        found = load(tmp_path, conditions={"enrollment": "same_noisy"}, enrollment={"snr_db": -10})
        (run,) = found.runs()
        sample = next(iter(run.samples()))
        assert sample.inputs["audio"].effect is None
        mixed = media.read_audio(sample.inputs["enrollment"], rate=16_000).samples
        clean = media.read_audio(sample.inputs["audio"], rate=16_000).samples
        effect = sample.inputs["enrollment"].effect
        assert isinstance(effect, noise.Mixture)
        gain = float(effect.recipe(Audio(clean, 16_000))["total_gain"] or 0)
        rest = mixed / gain - clean
        assert 10 * np.log10(np.sum(clean**2) / np.sum(rest**2)) == pytest.approx(-10, abs=1e-3)

    def test_same_noisy_is_the_audio_as_it_is_where_that_is_noisy(self, tmp_path: Path) -> None:
        clips = tmp_path / "clips"
        load(tmp_path)
        for name in ("clean", "noisy"):
            (tmp_path / name).mkdir()
            for number in range(2):
                file = clips / f"00{number + 2 * (name == 'noisy')}.wav"
                (tmp_path / name / f"{number}.wav").write_bytes(file.read_bytes())
        options = {
            "reference": str(tmp_path / "clean"),
            "inputs": {"audio": str(tmp_path / "noisy")},
        }
        (run,) = load(
            tmp_path,
            datasets=[{"name": "corpus", "kind": "folder", "options": options}],
            conditions={"enrollment": "same_noisy"},
        ).runs()
        for sample in run.samples():
            assert sample.inputs["enrollment"] == sample.inputs["audio"] != sample.reference

    def test_same_enhanced_is_a_file_of_the_enhancer(self, tmp_path: Path) -> None:
        folder = tmp_path / "enhanced"
        make_enhanced(load(tmp_path).datasets[0], folder / "-10")
        (run,) = load(
            tmp_path,
            conditions={"enrollment": "same_enhanced"},
            enrollment={"snr_db": -10} | enhanced(folder, "{snr_db}/{id}"),
        ).runs()
        assert {name: clip.path for name, clip in enrolled(run).items()} == {
            s.id: str(folder / "-10" / f"{s.id}.wav") for s in run.dataset.samples
        }

    def test_the_axis_takes_the_place_of_what_the_data_set_gives(self, tmp_path: Path) -> None:
        (run,) = load(tmp_path).runs()
        for before, after in zip(run.dataset.samples, run.samples(), strict=True):
            assert before.inputs["enrollment"] != after.inputs["enrollment"]
            assert after.inputs["audio"] == before.inputs["audio"]
            assert after.reference == before.reference


def sample(name: str, group: str, *, reference: bool = True) -> Sample:
    return Sample(name, group, {}, Clip(f"{name}.wav") if reference else None)


class TestOthers:
    def test_do_not_depend_on_the_order(self) -> None:
        samples = [sample(f"{g}{n}", g) for g in "abc" for n in range(4)]
        shuffled = random.Random(1).sample(samples, len(samples))
        assert enrollment.others(samples) == enrollment.others(shuffled)

    def test_each_is_used_once_and_nobody_gets_itself(self) -> None:
        samples = [sample(f"{g}{n}", g) for g in "abc" for n in range(4)]
        found = enrollment.others(samples)
        assert sorted(clip.path for clip in found.values()) == sorted(
            s.reference.path for s in samples if s.reference
        )
        assert all(clip.path[0] == name[0] for name, clip in found.items())
        assert all(clip.path != f"{name}.wav" for name, clip in found.items())

    def test_one_without_a_reference_counts_as_not_there(self) -> None:
        samples = [sample("a1", "a"), sample("a2", "a", reference=False), sample("a3", "a")]
        found = enrollment.others(samples)
        assert {name: clip.path for name, clip in found.items()} == {"a1": "a3.wav", "a3": "a1.wav"}
        assert not enrollment.others(samples[:2])

    def test_a_limit_does_not_change_who_it_is(self, tmp_path: Path) -> None:
        axes = {"enrollment": "other_clean"}
        (whole,) = load(tmp_path, conditions=axes).runs()
        (part,) = load(tmp_path, conditions=axes, limit=1).runs()
        assert enrolled(part) == {"u000": enrolled(whole)["u000"]}


class TestMissing:
    """Seven samples in groups of three: the last one is alone."""

    def test_a_speaker_without_a_second_utterance_fails(self, tmp_path: Path, log: Log) -> None:
        found = load(
            tmp_path,
            count=7,
            systems=["tiny_voice", "noisy"],
            conditions={"enrollment": "other_clean"},
            metrics=["tiny_rms", "voice_gap"],
        )
        events: list[Any] = []
        voice, same = cases.run(found, tmp_path / "store", listeners=[events.append]).rows
        assert log.take()["voice"] == 6
        for row, metrics in ((voice, ("tiny_rms", "voice_gap")), (same, ("voice_gap",))):
            for name in metrics:
                estimate = row.cells[name].estimate
                assert (estimate.n, estimate.n_failed, estimate.n_unsupported) == (6, 1, 0)
                (lost,) = [s for s in row.cells[name].samples if s.status == "failed"]
                assert (lost.sample, lost.code) == ("u006", "missing_enrollment")
                assert "'u006'" in lost.error and "min_utterances: 2" in lost.error
        assert same.cells["tiny_rms"].estimate.n == 7
        told = [e.sample for e in events if getattr(e, "code", "") == "missing_enrollment"]
        assert told == ["u006", "u006"]

    def test_such_speakers_can_be_left_out(self, tmp_path: Path) -> None:
        datasets = [{"name": "tiny", "min_utterances": 2, "options": {}}]
        datasets[0]["options"] = {"folder": str(tmp_path / "clips"), "count": 7}
        found = load(tmp_path, datasets=datasets, conditions={"enrollment": "other_clean"})
        (board,) = cases.run(found, tmp_path / "store").rows
        assert (board.n_total, board.cells["tiny_rms"].estimate.n_failed) == (6, 0)
        assert found.datasets[0].revision == "tiny-7-0.1[min_utterances=2]"

    def test_the_filter_comes_before_the_limit(self, tmp_path: Path) -> None:
        options = {"folder": str(tmp_path / "clips"), "count": 7}
        datasets = [{"name": "tiny", "min_utterances": 3, "limit": 4, "options": options}]
        (kept,) = load(tmp_path, datasets=datasets).datasets
        assert [s.id for s in kept.samples] == ["u000", "u001", "u002", "u003"]
        assert kept.revision == "tiny-7-0.1[min_utterances=3][:4]"
        datasets[0] |= {"min_utterances": 4}
        with pytest.raises(DatasetError, match="no group has 4 samples"):
            load(tmp_path, datasets=datasets)

    def test_a_file_that_the_enhancer_did_not_make_is_named(self, tmp_path: Path) -> None:
        folder = tmp_path / "enhanced"
        make_enhanced(load(tmp_path).datasets[0], folder)
        (folder / "u004.wav").unlink()
        found = load(
            tmp_path, conditions={"enrollment": "same_enhanced"}, enrollment=enhanced(folder)
        )
        (row,) = cases.run(found, tmp_path / "store").rows
        ((name, code, text),) = row.generation_failures
        assert (name, code) == ("u004", "missing_enrollment")
        assert text.startswith("enrollment.enhanced: ") and str(folder / "u004") in text

    def test_a_recording_that_is_not_on_disk_is_named(self, tmp_path: Path) -> None:
        found = load(tmp_path, conditions={"enrollment": "other_clean"}, metrics=["voice_gap"])
        (tmp_path / "clips" / "001.wav").unlink()
        (row,) = cases.run(found, tmp_path / "store").rows
        ((name, code, text),) = row.generation_failures
        assert (name, code) == ("u000", "missing_enrollment")
        assert "001.wav" in text

    def test_a_sample_without_a_reference_has_no_clean_utterance(self, tmp_path: Path) -> None:
        (run,) = load(tmp_path).runs()
        bare = replace(run.dataset.samples[0], reference=None)
        assert run.sample(bare).missing["enrollment"].code == "missing_enrollment"
        assert "enrollment" not in run.sample(bare).inputs


class TestKeys:
    def test_all_that_decides_the_clip_is_in_the_key(self, tmp_path: Path) -> None:
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder in folders:
            make_enhanced(load(tmp_path).datasets[0], folder)
        variants: list[tuple[str, dict[str, Any]]] = [
            ("same_clean", {}),
            ("other_clean", {}),
            ("same_noisy", {"snr_db": -10}),
            ("same_noisy", {"snr_db": 5}),
            *[("same_enhanced", enhanced(folder)) for folder in folders],
        ]
        runs: list[RunSpec] = []
        for source, section in variants:
            stated = {"enrollment": section} if section else {}
            runs += load(tmp_path, conditions={"enrollment": source}, **stated).runs()
        assert len({run.key for run in runs}) == len(runs)
        first = [generate.key_of(run, next(iter(run.samples()))) for run in runs]
        assert None not in first
        assert first[4] == first[5]  # the same content in another folder
        assert len(set(first)) == len(runs) - 1

    def test_without_the_axis_the_keys_are_what_they_were(self, tmp_path: Path) -> None:
        (run,) = load(tmp_path, conditions={}).runs()
        assert "enrollment" not in run.described()

    def test_a_clip_is_made_once_for_each_enrollment_that_differs(
        self, tmp_path: Path, log: Log
    ) -> None:
        axes = {"snr_db": [5, 0, -5], "enrollment": ["same_clean", "other_clean", "same_noisy"]}
        found = load(tmp_path, conditions=axes, systems=["tiny_voice", "tiny_copy"], count=3)
        cases.run(found, tmp_path / "store")
        counts = log.take()
        assert counts["voice"] == 3 + 3 + 3 * 3  # a clean voice serves all SNRs
        assert counts["copy"] == 3 * 3  # does not hear the enrollment
        cases.run(found, tmp_path / "store")
        assert not log.take()


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"conditions": {"enrollment": "same_clear"}}, ["did you mean same_clean?"]),
            ({"conditions": {"enrollment": 3}}, ["no 3", "allowed: same_clean, other_clean"]),
            ({"conditions": {"enrollment": "same_enhanced"}}, ["enrollment.enhanced: is missing"]),
            ({"conditions": {"enrollment": "same_noisy"}}, ["needs an SNR", "snr_db: -10"]),
            ({"systems": ["noisy"]}, ["conditions.enrollment: no system takes it"]),
            ({"conditions": {}, "enrollment": {"snr_db": 0}}, ["without conditions.enrollment"]),
            (
                {
                    "conditions": {"enrollment": "same_noisy"},
                    "enrollment": {"snr_db": 0, "noise": "hmm"},
                },
                ["enrollment.noise: tiny has no noise 'hmm'", "it has hiss"],
            ),
            ({"enrollment": {"snr_db": float("inf")}}, ["enrollment.snr_db"]),
            ({"enrollment": {"snr_db": True}}, ["enrollment.snr_db"]),
            ({"enrollment": {"snr_db": "-10"}}, ["enrollment.snr_db"]),
            ({"enrollment": {"enhanced": {"plugin": "tiny_copy"}}}, ["makes clips"]),
            ({"enrollment": {"enhanced": {"plugin": "imported"}}}, ["params.folder: is missing"]),
            (
                {"enrollment": {"enhanced": {"plugin": "imported", "params": {"folders": "x"}}}},
                ["enrollment.enhanced.params.folders: unknown; did you mean folder?"],
            ),
        ],
    )
    def test_what_changes_nothing_or_cannot_be(
        self, tmp_path: Path, changes: dict[str, Any], words: list[str]
    ) -> None:
        with pytest.raises(SpecError) as error:
            load(tmp_path, **changes)
        assert all(word in str(error.value) for word in words), error.value

    def test_noisy_without_noise(self, tmp_path: Path) -> None:
        load(tmp_path)
        options = {
            "reference": str(tmp_path / "clips"),
            "inputs": {"audio": str(tmp_path / "clips")},
        }
        changes = {
            "datasets": [{"name": "d", "kind": "folder", "options": options}],
            "conditions": {"enrollment": "same_noisy"},
        }
        with pytest.raises(SpecError, match="neither noise to mix nor noisy audio"):
            load(tmp_path, **changes)
        with pytest.raises(SpecError, match="the data set has no noise to mix"):
            load(tmp_path, **changes, enrollment={"snr_db": 0})

    @pytest.mark.parametrize(
        "changes",
        [
            {"systems": ["tiny_voice"]},
            {"systems": ["noisy"], "metrics": ["voice_gap"]},
            {
                "systems": [
                    {
                        "name": "mine",
                        "plugin": "imported",
                        "params": {"folder": "x", "pattern": "{enrollment}/{id}"},
                    }
                ]
            },
        ],
        ids=["a system needs it", "a metric reads it", "a pattern names it"],
    )
    def test_what_changes_something_is_taken(self, tmp_path: Path, changes: Any) -> None:
        assert list(load(tmp_path, conditions={"enrollment": SOURCES[:2]}, **changes).runs())


def test_a_system_hears_sees_and_is_told_the_voice_at_every_snr(
    tmp_path: Path, shared_data: Path
) -> None:
    demo = shared_data / "lrs3_demo"
    options = {
        "reference": str(demo / "enhanced"),
        "inputs": {"audio": str(demo / "enhanced"), "video": str(demo / "orig")},
        "noise": {"street": str(shared_data / "noise" / "noise1.wav")},
    }
    found = load(
        tmp_path,
        datasets=[{"name": "lrs3_demo", "kind": "folder", "options": options}],
        systems=["everything"],
        conditions={"snr_db": [5, -10], "enrollment": ["same_clean", "same_noisy"]},
        limit=2,
    )
    store = tmp_path / "store"
    board = cases.run(found, store)
    assert [row.cells["tiny_rms"].estimate.n_failed for row in board.rows] == [0] * 4
    made = {}
    for run in found.runs():
        for before, after, clip in zip(
            run.dataset.samples,
            run.samples(),
            generate.generated(run, RunStore(store)),
            strict=True,
        ):
            assert isinstance(clip, Clip)
            parts = [before.reference, after.inputs["audio"], after.inputs["enrollment"]]
            clean, heard, voice = (
                media.read_audio(part, rate=16_000).samples for part in parts if part
            )
            frames = len(media.read_frames(after.inputs["video"], fps=25.0).pixels)
            marks = np.full(frames, 0.25, np.float32)
            sound = media.read_audio(clip, rate=16_000).samples
            np.testing.assert_array_equal(sound, np.concatenate([heard, marks, voice]))
            assert len(heard) == len(clean) and not np.array_equal(heard, clean)
            noisy = run.condition.get("enrollment") == "same_noisy"
            np.testing.assert_array_equal(voice, heard if noisy else clean)
            made[run.key, after.id] = clip.path
    assert len(set(made.values())) == 8
