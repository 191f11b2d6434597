"""Readers of known corpora: true layouts, and one clear message for a copy that is not whole."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import corpora
import numpy as np
import pytest

from phonoscope import media, plugins, protocol
from phonoscope.errors import DatasetError, DatasetMismatch, MissingClip, SpecError, UnknownName
from phonoscope.types import Clip, Dataset


def read(kind: str, **options: Any) -> Dataset:
    plugins.discover()
    found: Dataset = plugins.DATASETS.get(kind)("corpus", **options)
    return found


def length(clip: Clip | None) -> int:
    assert clip is not None
    return len(media.read_audio(clip, rate=16_000).samples)


def relative(clip: Clip | None, root: Path) -> str:
    assert clip is not None
    return Path(clip.path).relative_to(root).as_posix()


def mismatch(kind: str, **options: Any) -> str:
    with pytest.raises(DatasetMismatch) as caught:
        read(kind, **options)
    assert caught.value.code == "dataset_mismatch"
    message = str(caught.value)
    assert "data set corpus: " in message
    assert "Expected: " in message
    assert "partial: true (of a packaged board PHONOSCOPE_PARTIAL=true, of " in message
    assert "\n" not in message
    return message


class TestLrs3:
    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        corpora.expect_lrs3(monkeypatch)
        return corpora.lrs3(tmp_path / "lrs3")

    def test_what_a_whole_copy_holds(self) -> None:
        module = importlib.import_module("phonoscope.datasets.lrs3")
        assert (module.CLIPS, module.VIDEOS) == (1321, 412)
        assert module.ids_sha256(["b/1", "a/2"]) == module.ids_sha256(["a/2", "b/1"])
        known = "ccaece605563af5151152538d3218fa050f1b8ac73b8a9e7a0ed0c5c4edc901c"
        assert known == module.IDS_SHA256

    def test_ids_speakers_and_transcripts(self, root: Path) -> None:
        found = read("lrs3", root=root)
        assert [s.id for s in found.samples] == sorted(corpora.LRS3_IDS)
        assert [s.group for s in found.samples] == ["0Fi8", "0Fi8", "a_Vx", "a_Vx", "zz-9", "zz-9"]
        assert found.samples[1].meta == {"transcript": "SO THIS IS NUMBER 4"}

    def test_own_sound_is_clean_by_default(self, root: Path) -> None:
        sample = read("lrs3", root=root).samples[0]
        assert sample.inputs["video"] == sample.inputs["audio"] == sample.reference
        assert relative(sample.reference, root) == "test/0Fi8/00002.mp4"
        assert length(sample.reference) > 9_000
        assert len(media.read_frames(sample.inputs["video"]).pixels) == 15

    @pytest.mark.parametrize(("suffix", "inside"), [(".wav", ""), (".mp4", ""), (".mp4", "test")])
    def test_enhanced_sound(self, root: Path, tmp_path: Path, suffix: str, inside: str) -> None:
        track = corpora.enhanced(tmp_path / "e" / inside, suffix=suffix)
        found = read("lrs3", root=root, enhanced=tmp_path / "e")
        assert found.samples[0].inputs["video"].path.startswith(str(root))
        assert found.samples[0].inputs["audio"] == found.samples[0].reference
        assert relative(found.samples[0].reference, track) == f"0Fi8/00002{suffix}"
        own = read("lrs3", root=root, enhanced=tmp_path / "e", clean_track="orig")
        assert own.samples[0].reference == own.samples[0].inputs["video"]
        assert own.revision != found.revision

    def test_enhanced_sound_that_nobody_gave(self, root: Path) -> None:
        with pytest.raises(SpecError, match="clean_track enhanced needs the folder"):
            read("lrs3", root=root, clean_track="enhanced")

    def test_an_empty_text_is_no_folder(self, root: Path) -> None:
        assert read("lrs3", root=root, enhanced="").samples == read("lrs3", root=root).samples
        with pytest.raises(SpecError, match="clean_track enhanced needs the folder"):
            read("lrs3", root=root, enhanced="", clean_track="enhanced")

    def test_half_unpacked(self, tmp_path: Path) -> None:
        corpora.lrs3(tmp_path, corpora.LRS3_IDS[:3])
        message = mismatch("lrs3", root=tmp_path)
        assert f"found 3 of 1321 clips (2 of 412 videos) in {tmp_path}/test" in message
        assert "ROOT/test/<video>/<utterance>.mp4 and .txt" in message
        partial = read("lrs3", root=tmp_path, partial=True)
        assert [s.id for s in partial.samples] == list(corpora.LRS3_IDS[:3])
        assert partial.revision.endswith("[partial: 3 of 1321 clips]")

    def test_the_wrong_folder(self, root: Path) -> None:
        assert "found 0 of 6 clips" in mismatch("lrs3", root=root / "test")
        assert "found 0 of 6 clips" in mismatch("lrs3", root=root / "test", partial=True)
        with pytest.raises(DatasetError, match="none: no such folder"):
            read("lrs3", root=root / "none")

    def test_other_clips(self, root: Path) -> None:
        (root / "test/0Fi8/00002.mp4").rename(root / "test/0Fi8/00003.mp4")
        (root / "test/0Fi8/00002.txt").rename(root / "test/0Fi8/00003.txt")
        assert "are not those of the test set (sha256 of their list" in mismatch("lrs3", root=root)
        assert read("lrs3", root=root, partial=True).samples[0].id == "0Fi8/00003"

    def test_gaps_are_counted_and_one_is_named(self, root: Path) -> None:
        (root / "test/a_Vx/00002.txt").unlink()
        (root / "test/zz-9/00004.mp4").write_bytes(b"")
        message = mismatch("lrs3", root=root)
        assert "1 clips have no text, such as a_Vx/00002.txt" in message
        assert "1 clips are empty files, such as zz-9/00004.mp4" in message
        found = read("lrs3", root=root, partial=True)
        assert len(found.samples) == 5
        assert [s.id for s in found.samples if not s.meta] == ["a_Vx/00002"]

    def test_half_an_enhanced_track(self, root: Path, tmp_path: Path) -> None:
        track = corpora.enhanced(tmp_path / "e", corpora.LRS3_IDS[:2])
        message = mismatch("lrs3", root=root, enhanced=track)
        assert "the enhanced sound of 2 of 6 clips" in message
        assert "not that of a_Vx/00002" in message
        assert len(read("lrs3", root=root, enhanced=track, partial=True).samples) == 2

    def test_a_text_file_of_another_kind(self, root: Path) -> None:
        corpora.text(root / "test/a_Vx/00002.txt", "hello\n")
        with pytest.raises(DatasetError, match=r"a_Vx/00002\.txt: the first line is 'hello'"):
            read("lrs3", root=root)

    def test_the_revision_is_of_the_list_of_files(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: str) -> str:
            raise AssertionError(f"{path} was read")

        monkeypatch.setattr(media, "_sha256", refuse)
        before = read("lrs3", root=root).revision
        moved = shutil.copytree(root, tmp_path / "moved")
        assert read("lrs3", root=moved).revision == before
        with (moved / "test/a_Vx/00002.mp4").open("ab") as file:
            file.write(b"\0")
        assert read("lrs3", root=moved).revision != before

    def test_in_a_protocol(self, root: Path, tmp_path: Path) -> None:
        noise = corpora.chime3(tmp_path / "chime")
        options = {
            "root": str(root),
            "noise": {"chime3": {"kind": "chime3_noise", "root": str(noise)}},
        }
        found = protocol.load(
            {
                "name": "p",
                "task": "lip2speech",
                "datasets": [{"name": "lrs3", "options": options}],
                "systems": ["noisy"],
                "conditions": {"snr_db": [-10]},
                "mixing": {"clip": "none", "short_noise": "error"},
                "metrics": ["si_sdr"],
            }
        )
        (run,) = found.runs()
        sample = next(run.samples())
        clean = media.read_audio(sample.reference, rate=16_000).samples.astype(float)
        added = media.read_audio(sample.inputs["audio"], rate=16_000).samples - clean
        assert 10 * np.log10(np.sum(clean**2) / np.sum(added**2)) == pytest.approx(-10, abs=0.01)


class TestChime3:
    def test_the_first_channel_sorted_by_path(self, tmp_path: Path) -> None:
        root = corpora.chime3(tmp_path)
        corpora.wav(tmp_path / "data/audio/16kHz/isolated/F01_BUS.CH1.wav")
        found = read("chime3_noise", root=root)
        names = [relative(clip, root) for clip in found.noises["corpus"]]
        assert names == sorted(names)
        assert len(names) == 8
        assert all("/backgrounds/BGD_" in name and name.endswith(".CH1.wav") for name in names)
        assert {s.meta["label"] for s in found.samples} == set(corpora.PLACES)

    def test_as_the_noise_of_a_folder(self, tmp_path: Path) -> None:
        root = corpora.chime3(tmp_path / "chime")
        clean = corpora.wav(tmp_path / "clean/s/a.wav").parents[1]
        whole = {"chime3": {"kind": "chime3_noise", "root": str(root)}}
        found = read("folder", reference=clean, noise=whole)
        assert len(found.noises["chime3"]) == 8

    @pytest.mark.parametrize(
        ("place", "error", "words"),
        [
            ({"root": "x"}, SpecError, "noise.n: says no kind"),
            ({"kind": "chime3_nois"}, UnknownName, "did you mean chime3_noise"),
            ({"kind": "chime3_noise", "rot": "x"}, SpecError, "noise.n.rot: unknown; did you mean"),
            ({"kind": "chime3_noise"}, SpecError, "noise.n.root: is missing"),
            (
                {"kind": "chime3_noise", "root": "x", "partial": "false"},
                SpecError,
                "noise.n.partial: .*boolean: true or false",
            ),
            ({"kind": "demo"}, None, ""),
        ],
    )
    def test_other_noise_sets(
        self, tmp_path: Path, cache: Path, place: Any, error: Any, words: str
    ) -> None:
        clean = corpora.wav(tmp_path / "clean/s/a.wav").parents[1]
        if error is None:
            pytest.importorskip("espeakng_loader", reason="the demo is spoken by espeak-ng")
            assert len(read("folder", reference=clean, noise={"n": place}).noises["n"]) == 2
            return
        with pytest.raises(error, match=words):
            read("folder", reference=clean, noise={"n": place})

    def test_lists_keep_their_order(self, tmp_path: Path) -> None:
        clean = corpora.wav(tmp_path / "clean/s/a.wav").parents[1]
        places = [corpora.wav(tmp_path / name) for name in ("b.wav", "a.wav")]
        folder = corpora.wav(tmp_path / "more" / "c.wav").parent
        found = read("folder", reference=clean, noise={"n": [*places, folder]}).noises["n"]
        assert [Path(clip.path).name for clip in found] == ["b.wav", "a.wav", "c.wav"]

    def test_a_set_without_noise(self, tmp_path: Path) -> None:
        clean = corpora.wav(tmp_path / "clean/s/a.wav").parents[1]
        place = {"kind": "folder", "reference": str(clean)}
        with pytest.raises(SpecError, match="of kind folder hold no noise"):
            read("folder", reference=clean, noise={"n": place})

    def test_half_unpacked(self, tmp_path: Path) -> None:
        root = corpora.chime3(tmp_path)
        folder = root / "data/audio/16kHz/backgrounds"
        for path in [*folder.glob("*_PED.*"), folder / "BGD_150203_010_BUS.CH1.wav"]:
            path.unlink()
        message = mismatch("chime3_noise", root=root)
        assert f"{root}: found 5 recordings, none of PED" in message
        assert "1 recordings lack the first channel, such as " in message
        assert "BGD_<date>_<n>_{BUS,CAF,PED,STR}.CH1.wav" in message
        found = read("chime3_noise", root=root, partial=True)
        assert len(found.noises["corpus"]) == 5
        assert "[partial: found 5 recordings, none of PED; 1 recordings lack" in found.revision

    def test_no_backgrounds_at_all(self, tmp_path: Path) -> None:
        assert "none of BUS, CAF, PED, STR" in mismatch("chime3_noise", root=tmp_path)
        with pytest.raises(DatasetError, match="no noise in"):
            read("chime3_noise", root=tmp_path, partial=True)

    @pytest.mark.parametrize("rate", [48_000, 8_000])
    def test_another_rate(self, tmp_path: Path, rate: int) -> None:
        root = corpora.chime3(tmp_path)
        path = root / "data/audio/16kHz/backgrounds/BGD_150203_010_BUS.CH1.wav"
        corpora.wav(path, rate=rate)
        with pytest.raises(DatasetError, match=rf"CH1\.wav: {rate} Hz and 1 channels"):
            read("chime3_noise", root=root)

    def test_no_sound_file(self, tmp_path: Path) -> None:
        root = corpora.chime3(tmp_path)
        corpora.text(root / "data/audio/16kHz/backgrounds/BGD_1_1_BUS.CH1.wav", "<html>")
        with pytest.raises(DatasetError, match="no sound file"):
            read("chime3_noise", root=root)


SPOKEN = ("sa1", "sa2", "sx30")


class TestTcdTimit:
    @pytest.fixture(autouse=True)
    def _tiny(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = importlib.import_module("phonoscope.datasets.tcd_timit")
        assert module.SPEAKERS["volunteers"] * module.SENTENCES["volunteers"] == 5782
        assert sum(module.SPEAKERS[part] * module.SENTENCES[part] for part in module.SPEAKERS) == (
            6913  # clips, says the paper
        )
        monkeypatch.setattr(module, "SENTENCES", {"volunteers": 3, "lipspeakers": 4})
        monkeypatch.setattr(module, "SPEAKERS", {"volunteers": 2, "lipspeakers": 1})

    def test_speakers_films_and_texts(self, tmp_path: Path) -> None:
        root = corpora.tcd(tmp_path, ("09F", "24M"), SPOKEN)
        found = read("tcd_timit", root=root)
        assert [s.id for s in found.samples] == [f"{s}/{u}" for s in ("09F", "24M") for u in SPOKEN]
        assert {s.group for s in found.samples} == {"09F", "24M"}
        assert found.samples[0].meta == {"transcript": "She had your"}
        assert found.samples[0].inputs["audio"] == found.samples[0].inputs["video"]
        assert "[" not in found.revision

    def test_sound_beside_the_film_goes_first(self, tmp_path: Path) -> None:
        root = corpora.tcd(tmp_path, ("09F", "24M"), SPOKEN)
        path = corpora.wav(root / "volunteers/09F/Clips/straightcam/sa1.wav")
        sample = read("tcd_timit", root=root).samples[0]
        assert sample.reference == sample.inputs["audio"] == Clip(str(path))

    def test_half_unpacked(self, tmp_path: Path) -> None:
        root = corpora.tcd(tmp_path, ("09F",), SPOKEN[:2])
        message = mismatch("tcd_timit", root=root)
        assert f"found 2 of 6 clips (1 of 2 speakers) in {root}/volunteers" in message
        assert "such as 09F with 2" in message
        assert "found 0 of 6 clips" in mismatch("tcd_timit", root=root / "volunteers", partial=True)
        found = read("tcd_timit", root=root, partial=True)
        assert len(found.samples) == 2
        assert found.revision.endswith("[partial: 2 of 6 clips]")

    def test_chosen_speakers(self, tmp_path: Path) -> None:
        root = corpora.tcd(tmp_path, ("09F", "24M"), SPOKEN)
        found = read("tcd_timit", root=root, speakers=["24M"])
        assert {s.group for s in found.samples} == {"24M"}
        message = mismatch("tcd_timit", root=root, speakers=["24M", "99X"])
        assert "found 3 of 6 clips (1 of 2 speakers)" in message
        assert "such as 99X with 0" in message


class TestNtcdTimit:
    @pytest.fixture(autouse=True)
    def _tiny(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = importlib.import_module("phonoscope.datasets.tcd_timit")
        monkeypatch.setattr(module, "SENTENCES", {"volunteers": 3, "lipspeakers": 4})

    @pytest.fixture
    def clean(self, tmp_path: Path) -> Path:
        return corpora.tcd(tmp_path / "tcd", ("09F", "24M"), SPOKEN)

    def test_mixtures_with_clean_sound_and_film(self, tmp_path: Path, clean: Path) -> None:
        snrs = ("-5", "0")
        root = corpora.ntcd(tmp_path / "n", ("09F", "24M"), SPOKEN, Babble=snrs, LR=snrs)
        options = {"root": root, "tcd_timit": clean, "speakers": ["09F", "24M"]}
        found = read("ntcd_timit", **options, noises=["Babble", "LR"])
        assert len(found.samples) == 12
        sample = found.samples[0]
        assert (sample.id, sample.group) == ("Babble/-5/09F/sa1", "09F")
        assert sample.meta == {"transcript": "She had your", "noise": "Babble", "snr_db": "-5"}
        assert relative(sample.inputs["audio"], root) == (
            "Babble/-5/volunteers/09F/straightcam/sa1.wav"
        )
        assert sample.reference == sample.inputs["video"]
        assert relative(sample.reference, clean) == "volunteers/09F/Clips/straightcam/sa1.mp4"
        assert not found.noises
        other = read("ntcd_timit", **options, noises=["LR"], snrs=[0])
        assert {s.id.rpartition("/")[0] for s in other.samples} == {"LR/0/09F", "LR/0/24M"}

    def test_the_nine_speakers_and_six_noises_by_default(self) -> None:
        module = importlib.import_module("phonoscope.datasets.tcd_timit")
        nine = ["09F", "24M", "26M", "27M", "33F", "40F", "47M", "49F", "56M"]
        assert list(module.TEST_SPEAKERS) == nine
        assert module.NOISES == ("Babble", "Cafe", "Car", "LR", "Street", "White")

    def test_its_own_clean_sound(self, tmp_path: Path) -> None:
        root = corpora.ntcd(tmp_path, ("09F",), SPOKEN, Car=("-5",))
        for utterance in SPOKEN:
            corpora.wav(root / f"Clean/volunteers/09F/straightcam/{utterance}.wav")
        found = read("ntcd_timit", root=root, speakers=["09F"], noises=["Car"])
        assert set(found.samples[0].inputs) == {"audio"}
        assert relative(found.samples[0].reference, root) == (
            "Clean/volunteers/09F/straightcam/sa1.wav"
        )

    def test_half_unpacked(self, tmp_path: Path, clean: Path) -> None:
        root = corpora.ntcd(tmp_path / "n", ("09F",), SPOKEN[:1], Babble=("-5",))
        corpora.wav(root / "Babble/-5/volunteers/24M/straightcam/si9.wav")
        options = {"root": root, "tcd_timit": clean, "speakers": ["09F", "24M"]}
        message = mismatch("ntcd_timit", **options, noises=["Babble"])
        assert f"found 2 of 6 mixtures in {root}, such as 1 of 3 in Babble/-5/09F" in message
        assert f"the clean version of 6 of 6 utterances in {clean}, not that of 24M/si9" in message
        found = read("ntcd_timit", **options, noises=["Babble"], partial=True)
        assert [s.id for s in found.samples] == ["Babble/-5/09F/sa1"]
        assert found.revision.endswith("[partial: 1 of 6 mixtures]")

    def test_no_clean_sound_anywhere(self, tmp_path: Path) -> None:
        root = corpora.ntcd(tmp_path, ("09F",), SPOKEN, Car=("-5",))
        options = {"root": root, "speakers": ["09F"], "noises": ["Car"]}
        message = mismatch("ntcd_timit", **options)
        assert f"the clean version of 0 of 3 utterances in {root}/Clean" in message
        assert "TCD_TIMIT/volunteers/<speaker>/Clips/straightcam/" in message

    def test_it_is_not_mixed_again(self, tmp_path: Path, clean: Path) -> None:
        root = corpora.ntcd(tmp_path / "n", ("09F",), SPOKEN, Car=("-5",))
        options = {"root": str(root), "tcd_timit": str(clean)}
        options |= {"speakers": ["09F"], "noises": ["Car"]}
        with pytest.raises(SpecError, match="has no noise to mix"):
            protocol.load(
                {
                    "name": "p",
                    "task": "lip2speech",
                    "datasets": [{"name": "ntcd_timit", "options": options}],
                    "systems": ["noisy"],
                    "conditions": {"snr_db": [-5]},
                    "metrics": ["si_sdr"],
                }
            )


class TestPairs:
    IDS = ("p232_001", "p232_002", "p257_434")

    def test_vctk_demand(self, tmp_path: Path) -> None:
        root = corpora.vctk(tmp_path, self.IDS)
        found = read("pairs", root=root, count=3)
        assert [(s.id, s.group) for s in found.samples] == [
            ("p232_001", "p232"),
            ("p232_002", "p232"),
            ("p257_434", "p257"),
        ]
        sample = found.samples[1]
        assert sample.meta == {"transcript": "Please call number 1."}
        assert relative(sample.inputs["audio"], root) == "noisy_testset_wav/p232_002.wav"
        assert relative(sample.reference, root) == "clean_testset_wav/p232_002.wav"
        assert not found.noises

    def test_824_pairs_are_expected_of_vctk_demand(self, tmp_path: Path) -> None:
        root = corpora.vctk(tmp_path, self.IDS)
        message = mismatch("pairs", root=root)
        assert f"found 3 of 824 recordings in {root}/noisy_testset_wav" in message
        assert read("pairs", root=root, partial=True).revision.endswith("[partial: 3 of 824 pairs]")

    def test_other_folders_and_texts(self, tmp_path: Path) -> None:
        for folder in ("in", "out"):
            corpora.wav(tmp_path / folder / "x" / "f1-a.flac.wav")
        texts = corpora.text(tmp_path / "t.tsv", "x/f1-a.flac\thello\n")
        options = {"clean": "out", "noisy": "in", "speaker": "f[0-9]", "transcripts": texts}
        found = read("pairs", root=tmp_path, **options)
        assert [(s.id, s.group, s.meta) for s in found.samples] == [
            ("x/f1-a.flac", "f1", {"transcript": "hello"})
        ]

    def test_recordings_without_a_partner(self, tmp_path: Path) -> None:
        root = corpora.vctk(tmp_path, self.IDS)
        (root / "clean_testset_wav/p232_002.wav").unlink()
        message = mismatch("pairs", root=root, count=3)
        assert "found 2 of 3 recordings in" in message
        assert "1 recordings of noisy_testset_wav are not in clean_testset_wav" in message
        assert "such as p232_002" in message

    def test_speaker_patterns(self, tmp_path: Path) -> None:
        root = corpora.vctk(tmp_path, self.IDS)
        with pytest.raises(DatasetError, match="does not match 'p232_001'"):
            read("pairs", root=root, count=3, speaker="^q")
        with pytest.raises(SpecError, match="is no regular expression"):
            read("pairs", root=root, count=3, speaker="(")


class TestGrid:
    def test_real_clips(self, shared_data: Path) -> None:
        lines = (shared_data / "grid/transcripts.tsv").read_text().splitlines()
        texts = dict(line.split("\t") for line in lines if line)
        found = read("grid", root=shared_data / "grid", count=8)
        assert {s.id: s.meta["transcript"] for s in found.samples} == texts
        for sample in found.samples:
            assert sample.group == sample.id
            assert 2.9 < length(sample.inputs["audio"]) / 16_000 < 3.1
        frames = media.read_frames(found.samples[0].inputs["video"])
        assert frames.fps == pytest.approx(25, abs=0.01)
        assert frames.pixels.shape[1:] == (288, 360, 3)

    def test_real_clips_are_measured(self, shared_data: Path, tmp_path: Path) -> None:
        noise = {"real": str(shared_data / "noise")}
        found = protocol.load(
            {
                "name": "grid",
                "task": "lip2speech",
                "datasets": [
                    {"name": "grid", "options": {"root": str(shared_data / "grid"), "noise": noise}}
                ],
                "systems": ["noisy"],
                "conditions": {"snr_db": [0]},
                "metrics": ["si_sdr"],
                "limit": 2,
            }
        )
        (run,) = found.runs()
        metric = plugins.METRICS.get("si_sdr")
        for sample in run.samples():
            sounds = (sample.inputs["audio"], sample.reference)
            generated, reference = (media.read_audio(clip, rate=16_000) for clip in sounds)
            assert metric(generated, reference).value == pytest.approx(0, abs=0.5)

    @pytest.mark.parametrize(
        ("path", "speaker"),
        [
            ("s1/bbaf2n", "s1"),
            ("s12/video/mpg_6000/bbaf2n", "s12"),
            ("s3.mpg_vcd/s3/bbaf2n", "s3"),
            ("videos/bbaf2n", "videos/bbaf2n"),
            ("s123/bbaf2n", "s123/bbaf2n"),
            ("bbaf2n", "bbaf2n"),
        ],
    )
    def test_the_folder_says_the_speaker(self, tmp_path: Path, path: str, speaker: str) -> None:
        corpora.text(tmp_path / f"{path}.mpg", "x")
        (sample,) = read("grid", root=tmp_path).samples
        assert (sample.id, sample.group) == (path, speaker)

    def test_names_that_are_no_code_have_no_transcript(self, tmp_path: Path) -> None:
        for name in ("bbaf2n", "bbaf2", "xbaf2n", "LWBSZA"):
            corpora.text(tmp_path / f"{name}.mpg", "x")
        said = {s.id: s.meta.get("transcript") for s in read("grid", root=tmp_path).samples}
        assert said == {
            "LWBSZA": "lay white by s zero again",
            "bbaf2": None,
            "bbaf2n": "bin blue at f two now",
            "xbaf2n": None,
        }
        texts = corpora.text(tmp_path / "t.tsv", "bbaf2\thello\n")
        found = read("grid", root=tmp_path, transcripts=texts)
        assert found.samples[1].meta == {"transcript": "hello"}

    def test_other_counts(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="found no clip in"):
            read("grid", root=tmp_path)
        corpora.text(tmp_path / "s1/bbaf2n.mpg", "x")
        assert "found 1 of 1000 clips" in mismatch("grid", root=tmp_path, count=1000)
        assert (
            "[partial: 1 of 1000 clips]"
            in read("grid", root=tmp_path, count=1000, partial=True).revision
        )


@pytest.mark.parametrize(
    "kind", ["lrs3", "chime3_noise", "tcd_timit", "ntcd_timit", "pairs", "grid"]
)
def test_a_folder_that_is_not_there(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DatasetError, match=r"data set corpus: .*/none: no such folder"):
        read(kind, root=tmp_path / "none")


def test_a_file_that_vanished_after_reading_fails_by_name(tmp_path: Path) -> None:
    corpora.vctk(tmp_path, ("p1_1",))
    (sample,) = read("pairs", root=tmp_path, count=1).samples
    Path(sample.inputs["audio"].path).unlink()
    with pytest.raises(MissingClip, match=r"noisy_testset_wav/p1_1\.wav"):
        media.digest(sample.inputs["audio"])
