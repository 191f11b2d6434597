"""Built sets: the samples that a condition mixes, whatever happens while they are written."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpora
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from phonoscope import building, engines, media, protocol, runner
from phonoscope.cli import app
from phonoscope.engines import Lost
from phonoscope.engines.serial import Serial
from phonoscope.errors import DatasetMismatch, SpecError, UserError
from phonoscope.events import Advanced, SampleFailed
from phonoscope.types import Audio, Clip

RATE = 16_000
SNRS = ("5", "0", "-5", "-10", "-15", "-20")


@pytest.fixture
def lrs3(tmp_path: Path) -> Path:
    return corpora.lrs3(tmp_path / "lrs3")


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    return corpora.chime3(tmp_path / "chime", channels=(1,))


def built(lrs3: Path, noise: Path, out: Path, **options: Any) -> building.Built:
    engine = options.pop("engine", None) or engines.make("serial")
    given = {"root": lrs3, "noise_root": noise, "partial": True, **options}
    try:
        return building.lrs3_chime3(out, engine=engine, **given)
    finally:
        engine.close()


def command(lrs3: Path, noise: Path, out: Path, *more: str) -> list[str]:
    places = ["--lrs3", str(lrs3), "--noise", str(noise), "--out", str(out)]
    return ["build", "lrs3-chime3", *places, "--partial", *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "mixtures.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def lazily(lrs3: Path, noise: Path, snrs: Sequence[float], **mixing: str) -> protocol.Protocol:
    options = {
        "root": str(lrs3),
        "noise": {"chime3": {"kind": "chime3_noise", "root": str(noise), "partial": True}},
        "partial": True,
    }
    return protocol.load(
        {
            "name": "lazy",
            "task": "lip2speech",
            "datasets": [{"name": "lrs3", "options": options}],
            "systems": ["noisy"],
            "conditions": {"snr_db": list(snrs)},
            "mixing": {"short_noise": "error", **mixing},
            "metrics": ["si_sdr"],
        }
    )


def from_files(found: building.Built) -> protocol.Protocol:
    return protocol.load(
        {
            "name": "built",
            "task": "lip2speech",
            "datasets": [
                {"name": f"{snr:g} dB", "kind": "manifest", "options": {"path": str(path)}}
                for snr, path in found.manifests.items()
            ],
            "systems": ["noisy"],
            "metrics": ["si_sdr"],
        }
    )


def measured(found: protocol.Protocol, store: Path) -> list[tuple[str, str, str]]:
    runner.run(found, runner.open_store(str(store), found), engine="serial", formats=("csv",))
    with (store / "board" / "samples.csv").open(encoding="utf-8", newline="") as file:
        return [(row["sample"], row["metric"], row["value"]) for row in csv.DictReader(file)]


class TestWhatIsWritten:
    def test_by_the_command(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        done = CliRunner().invoke(app, command(lrs3, noise, out, "--engine", "serial"))
        assert done.exit_code == 0, done.output
        assert "36 mixtures made, 0 kept: 6 samples at 6 SNRs" in done.output
        folders = {f"snr{snr}" for snr in SNRS}
        tables = {f"snr{snr}.csv" for snr in SNRS} | {"mixtures.csv", "recipe.json"}
        assert {path.name for path in out.iterdir()} == folders | tables
        files = {path.relative_to(out).as_posix() for path in out.rglob("*.wav")}
        assert files == {f"snr{snr}/{sample}.wav" for snr in SNRS for sample in corpora.LRS3_IDS}
        for path in out.rglob("*.wav"):
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "FLOAT")
        for snr in SNRS:
            assert f"path: {json.dumps(str(out / f'snr{snr}.csv'))}" in done.output

    def test_every_row_says_how_its_mixture_came_about(
        self, lrs3: Path, noise: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        built(lrs3, noise, out, seed=3)
        found = rows(out)
        assert [(row["id"], row["snr_db"]) for row in found] == [
            (sample, f"{snr}.0") for sample in corpora.LRS3_IDS for snr in SNRS
        ]
        scaled = 0
        for row in found:
            file = out / row["file"]
            assert media.file_digest(str(file)) == row["sha256"]
            assert media.file_digest(str(noise / row["noise"])) == row["noise_sha256"]
            assert (row["builder"], row["seed"], row["error"]) == ("lrs3-chime3/v1", "3", "")
            clean = Clip(str(lrs3 / "test" / f"{row['id']}.mp4"))
            speech = media.read_audio(clip=clean, rate=RATE).samples.astype(float)
            whole, _ = soundfile.read(noise / row["noise"])
            start = int(row["start"])
            added = float(row["noise_gain"]) * whole[start : start + len(speech)]
            reached = 10 * math.log10(np.sum(speech**2) / np.sum(added**2))
            assert reached == pytest.approx(float(row["snr_db"]), abs=1e-9)
            mixture = speech + added
            assert np.abs(mixture).max() == pytest.approx(float(row["peak"]), rel=1e-12)
            expected = (mixture * float(row["total_gain"])).astype(np.float32)
            samples, _ = soundfile.read(file, dtype="float32")
            np.testing.assert_array_equal(samples, expected)
            assert len(samples) == int(row["samples"])
            assert np.abs(samples).max() <= 1
            scaled += float(row["total_gain"]) < 1
        assert 0 < scaled < len(found)

    def test_all_snrs_of_a_sample_hear_the_same_noise(
        self, lrs3: Path, noise: Path, tmp_path: Path
    ) -> None:
        built(lrs3, noise, tmp_path / "same")
        built(lrs3, noise, tmp_path / "other", pairing="independent")
        places = {
            name: {(row["id"], row["noise"], row["start"]) for row in rows(tmp_path / name)}
            for name in ("same", "other")
        }
        assert len(places["same"]) == len(corpora.LRS3_IDS)
        assert len(places["other"]) > 4 * len(corpora.LRS3_IDS)

    def test_the_recipe(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        track = corpora.enhanced(tmp_path / "e")
        found = built(lrs3, noise, tmp_path / "out", enhanced=track, snrs=(0,), level="bs1770")
        recipe = json.loads(found.recipe.read_text())
        assert recipe["builder"] == "lrs3-chime3/v1"
        assert recipe["snr_db"] == [0.0]
        assert (recipe["clean_track"], recipe["seed"], recipe["level"]) == ("enhanced", 0, "bs1770")
        assert recipe["inputs"]["lrs3"]["clips"] == 6
        assert "[partial: 6 of 1321 clips]" in recipe["inputs"]["lrs3"]["revision"]
        assert recipe["inputs"]["noise"]["files"] == 8
        assert set(recipe["versions"]) == {"phonoscope", *building.PACKAGES}

    def test_sixteen_bits(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        built(lrs3, noise, tmp_path / "out", snrs=(0,), storage="pcm16")
        path = next((tmp_path / "out").rglob("*.wav"))
        assert soundfile.info(path).subtype == "PCM_16"

    def test_a_whole_corpus_is_asked_for(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        with pytest.raises(DatasetMismatch, match="found 6 of 1321 clips"):
            built(lrs3, noise, tmp_path / "out", partial=False)
        assert not (tmp_path / "out").exists()


class TestSameAsTheCondition:
    @pytest.mark.parametrize(
        "mixing",
        [
            {},
            {"pairing": "independent", "clip": "divide_peak099"},
            {"level": "nonsilent_power", "storage": "pcm16"},
            {"level": "bs1770", "clip": "raise_snr_1db"},
            {"level": "rms_peaknorm_-25dbfs", "clip": "pcm16_clip"},
            {"noise_choice": "sgmse_seed0", "clip": "none"},
        ],
    )
    def test_sample_by_sample(
        self, lrs3: Path, noise: Path, tmp_path: Path, mixing: dict[str, str]
    ) -> None:
        found = built(lrs3, noise, tmp_path / "out", snrs=(0, -20), **mixing)
        condition = list(lazily(lrs3, noise, (0, -20), **mixing).runs())
        files = list(from_files(found).runs())
        assert len(condition) == len(files) == 2
        for lazy, written in zip(condition, files, strict=True):
            pairs = list(zip(lazy.samples(), written.samples(), strict=True))
            assert len(pairs) == 6
            for one, other in pairs:
                assert (one.id, one.group, dict(one.meta)) == (
                    *(other.id, other.group),
                    dict(other.meta),
                )
                assert one.reference == other.reference
                assert one.inputs["video"] == other.inputs["video"]
                sounds = [media.read_audio(s.inputs["audio"], rate=RATE) for s in (one, other)]
                np.testing.assert_array_equal(sounds[0].samples, sounds[1].samples)

    def test_the_records(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        found = built(lrs3, noise, tmp_path / "out", snrs=(5, -10))
        lazy = measured(lazily(lrs3, noise, (5, -10)), tmp_path / "lazy")
        assert measured(from_files(found), tmp_path / "built") == lazy
        assert len(lazy) == 2 * 6
        assert all(value for *_, value in lazy)


class TestInterrupted:
    COUNT = 40

    def start(self, arguments: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "phonoscope.cli", *arguments, "--workers", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def killed(self, arguments: list[str], out: Path, wanted: int) -> bool:
        """Start a build, and kill it when so many files are there; whether that was in time."""
        process = self.start(arguments)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(list(out.rglob("*.wav"))) >= wanted:
                process.kill()
            time.sleep(0.002)
        process.communicate()
        return process.returncode == -signal.SIGKILL

    def test_killed_and_run_again(self, noise: Path, tmp_path: Path) -> None:
        ids = [f"v{i // 4:02d}/{i:05d}" for i in range(self.COUNT)]
        lrs3 = corpora.lrs3(tmp_path / "many", ids)
        whole, out = tmp_path / "whole", tmp_path / "out"
        built(lrs3, noise, whole)
        arguments = command(lrs3, noise, out)
        in_time = [self.killed(arguments, out, wanted) for wanted in (5, 60, 130)]
        assert in_time == [True] * 3
        assert (out / "recipe.json").is_file()
        assert not (out / "mixtures.csv").exists()
        half = {path.name for path in (out / building.UNFINISHED).iterdir()}
        assert half

        process = self.start(arguments)
        told, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        numbers = re.search(r"(\d+) mixtures made, (\d+) kept: 40 samples", told)
        assert numbers
        made, kept = map(int, numbers.groups())
        assert made + kept == 6 * self.COUNT
        assert made > 0
        assert kept >= 60
        assert contents(out) == contents(whole)

    def test_after_the_end_all_is_kept(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        first = built(lrs3, noise, tmp_path / "out")
        before = contents(tmp_path / "out")
        second = built(lrs3, noise, tmp_path / "out")
        assert (first.made, first.kept) == (36, 0)
        assert (second.made, second.kept) == (0, 36)
        assert contents(tmp_path / "out") == before

    @pytest.mark.parametrize("damage", ["cut", "changed", "gone", "unknown"])
    def test_what_is_not_whole_is_made_again(
        self, lrs3: Path, noise: Path, tmp_path: Path, damage: str
    ) -> None:
        out = tmp_path / "out"
        built(lrs3, noise, out)
        before = contents(out)
        path = out / "snr-10/a_Vx/00002.wav"
        content = path.read_bytes()
        if damage == "cut":
            path.write_bytes(content[:-400])
        elif damage == "changed":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif damage == "gone":
            path.unlink()
        else:
            (out / "mixtures.csv").write_text("id,snr_db\nx,y\n")
        again = built(lrs3, noise, out)
        assert again.made == (36 if damage == "unknown" else 1)
        assert contents(out) == before

    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_workers_decide_nothing(
        self, lrs3: Path, noise: Path, tmp_path: Path, workers: int
    ) -> None:
        built(lrs3, noise, tmp_path / "serial", snrs=(0, -10))
        engine = engines.make("processes", workers=workers)
        built(lrs3, noise, tmp_path / "out", snrs=(0, -10), engine=engine)
        assert contents(tmp_path / "out") == contents(tmp_path / "serial")


class TestFailures:
    @pytest.fixture
    def track(self, tmp_path: Path) -> Path:
        track = corpora.enhanced(tmp_path / "e")
        media.write_wav(track / "a_Vx/00004.wav", Audio(np.zeros(9000, np.float32), RATE))
        corpora.text(track / "zz-9/00002.wav", "no sound")
        return track

    def test_they_are_named_and_the_rest_is_made(
        self, lrs3: Path, noise: Path, track: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        arguments = ["--enhanced", str(track), "--snr", "0,-10", "--engine", "serial"]
        done = CliRunner().invoke(app, command(lrs3, noise, out, *arguments))
        assert done.exit_code == 4
        assert "8 mixtures made, 0 kept: 6 samples at 2 SNRs, 2 samples failed" in done.output
        assert "silent_reference" in done.output
        assert "a_Vx/00004" in done.output
        errors = {row["id"]: row["error"] for row in rows(out) if row["error"]}
        assert set(errors) == {"a_Vx/00004", "zz-9/00002"}
        assert re.match(r"silent_reference: .*a_Vx/00004\.wav: ", errors["a_Vx/00004"])
        assert errors["zz-9/00002"].startswith("decode_error: ")
        assert len(rows(out)) == 12
        assert len(list(out.rglob("*.wav"))) == 8

    def test_they_fail_when_they_are_measured(
        self, lrs3: Path, noise: Path, track: Path, tmp_path: Path
    ) -> None:
        found = built(lrs3, noise, tmp_path / "out", enhanced=track, snrs=(0,))
        assert set(found.failures) == {"a_Vx/00004", "zz-9/00002"}
        values = measured(from_files(found), tmp_path / "store")
        assert len(values) == 6
        assert sum(value == "" for *_, value in values) == 2

    def test_short_noise(self, lrs3: Path, tmp_path: Path) -> None:
        short = corpora.chime3(tmp_path / "short", seconds=0.2, channels=(1,))
        found = built(lrs3, short, tmp_path / "out", snrs=(0,))
        assert len(found.failures) == 6
        assert all("the noise has" in error for error in found.failures.values())
        wrapped = built(lrs3, short, tmp_path / "wrapped", snrs=(0,), short_noise="wrap")
        assert not wrapped.failures


class Losing(Serial):
    """An engine whose worker dies on the second sample."""

    def map(self, task: Any, items: Any) -> Any:
        for index, item in enumerate(items):
            result = task(item)
            yield index, Lost("the worker was killed") if index == 1 else result


def test_a_lost_worker_costs_one_sample_until_the_next_time(
    lrs3: Path, noise: Path, tmp_path: Path
) -> None:
    events: list[Any] = []
    out = tmp_path / "out"
    first = built(lrs3, noise, out, snrs=(0, -10), engine=Losing(), listeners=[events.append])
    assert first.failures == {corpora.LRS3_IDS[1]: "the worker was killed"}
    assert len(list(out.rglob("*.wav"))) == 10
    assert [(e.sample, e.code) for e in events if isinstance(e, SampleFailed)] == [
        (corpora.LRS3_IDS[1], "worker_died")
    ]
    assert sum(e.count for e in events if isinstance(e, Advanced)) == 6
    second = built(lrs3, noise, out, snrs=(0, -10))
    assert (second.made, second.kept, second.failures) == (2, 10, {})
    built(lrs3, noise, tmp_path / "whole", snrs=(0, -10))
    assert contents(out) == contents(tmp_path / "whole")


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"seed": 1}, "another seed: 0, asked for is 1"),
            ({"snrs": (0, 5)}, r"another snr_db: \[0.0\], asked for is \[0.0, 5.0\]"),
            ({"clip": "none"}, "another clip: 'rescale_peak095', asked for is 'none'"),
        ],
    )
    def test_another_recipe(
        self, lrs3: Path, noise: Path, tmp_path: Path, change: dict[str, Any], words: str
    ) -> None:
        built(lrs3, noise, tmp_path / "out", snrs=(0,))
        before = contents(tmp_path / "out")
        with pytest.raises(UserError, match=words):
            built(lrs3, noise, tmp_path / "out", **{"snrs": (0,), **change})
        assert contents(tmp_path / "out") == before

    def test_other_inputs(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        built(lrs3, noise, tmp_path / "out", snrs=(0,))
        corpora.film(lrs3 / "test/a_Vx/00002.mp4", seed=77)
        with pytest.raises(UserError, match=r"another inputs\.lrs3\."):
            built(lrs3, noise, tmp_path / "out", snrs=(0,))

    def test_other_versions(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        found = built(lrs3, noise, tmp_path / "out", snrs=(0,))
        text = found.recipe.read_text()
        found.recipe.write_text(re.sub(r'"soxr": "[^"]*"', '"soxr": "0.0.1"', text))
        with pytest.raises(UserError, match=r"another versions\.soxr: '0\.0\.1'"):
            built(lrs3, noise, tmp_path / "out", snrs=(0,))

    def test_two_builds_at_once(
        self, lrs3: Path, noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One may take away what the other works in; both can be run again."""
        built(lrs3, noise, tmp_path / "whole", snrs=(0,))
        finish = building._finish

        def late(folder: Path, *args: Any) -> Any:
            shutil.rmtree(folder / building.UNFINISHED)
            return finish(folder, *args)

        monkeypatch.setattr(building, "_finish", late)
        with pytest.raises(UserError, match=r"\.build: is gone; if another build writes there"):
            built(lrs3, noise, tmp_path / "out", snrs=(0,))
        monkeypatch.undo()
        built(lrs3, noise, tmp_path / "out", snrs=(0,))
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_a_folder_of_something_else(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="holds something else than a build"):
            built(lrs3, noise, tmp_path)
        corpora.text(tmp_path / "file", "x")
        with pytest.raises(UserError, match=r"file: .*name another folder"):
            built(lrs3, noise, tmp_path / "file")

    def test_a_recipe_that_is_none(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        corpora.text(tmp_path / "out" / "recipe.json", "{")
        with pytest.raises(UserError, match="another builder: None"):
            built(lrs3, noise, tmp_path / "out")

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"level": "bs1771"}, "level: no 'bs1771'; did you mean bs1770"),
            ({"clip": "soft"}, "clip: no 'soft'; allowed: rescale_peak095, none"),
            ({"colour": "red"}, "colour: no such option"),
            ({"noise_choice": "sgmse_seed0", "pairing": "independent"}, "hash_v1 only"),
            ({"clean_track": "noisy"}, "lrs3.clean_track: "),
            ({"snrs": ()}, "needs numbers of dB, each once"),
            ({"snrs": (0, -0.0)}, "needs numbers of dB, each once"),
            ({"snrs": (math.nan,)}, "snr_db is nan"),
        ],
    )
    def test_options(
        self, lrs3: Path, noise: Path, tmp_path: Path, options: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(SpecError, match=words):
            built(lrs3, noise, tmp_path / "out", **options)
        assert not list((tmp_path).glob("out/**/*.wav"))

    def test_numbers_on_the_command_line(self, lrs3: Path, noise: Path, tmp_path: Path) -> None:
        done = CliRunner().invoke(app, command(lrs3, noise, tmp_path / "out", "--snr", "5;0"))
        assert done.exit_code == 2
        assert "give numbers of dB with commas" in done.output

    def test_half_a_corpus_on_the_command_line(
        self, lrs3: Path, noise: Path, tmp_path: Path
    ) -> None:
        arguments = [word for word in command(lrs3, noise, tmp_path / "o") if word != "--partial"]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 2
        assert "found 6 of 1321 clips" in done.output.replace("\n", "")
