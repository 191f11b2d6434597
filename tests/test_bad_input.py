"""Bad input: a clear error that names sample, metric, file and remedy, and nothing else is lost."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import typer.main
import yaml
from test_scoring import noisier, speech
from typer.testing import CliRunner, Result

import phonoscope
from phonoscope import cli, media, plugins, runner, scoring, views
from phonoscope.errors import DatasetError, SpecError, StoreError
from phonoscope.leaderboard import Leaderboard
from phonoscope.types import Audio, Failure, Outcome, Record

RATE = 16_000
METRICS = ("si_sdr", "onset_acc", "psnr")


# Clips


def film(
    path: Path,
    sound: Audio | None,
    *,
    size: tuple[int, int] = (32, 32),
    frames: int = 60,
    times: Callable[[int], int] = lambda i: i * 40,
) -> Path:
    """Write an mp4 of still pictures at the given times in ms, with or without sound."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        track = container.add_stream("aac", rate=RATE, layout="mono") if sound else None
        for i in range(frames):
            pixels = np.full((size[1], size[0], 3), i % 250, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = times(i), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track and sound:
            block = av.AudioFrame.from_ndarray(sound.samples[None], format="fltp", layout="mono")
            block.sample_rate = RATE
            container.mux(track.encode(block))
            container.mux(track.encode())
    return path


def wav(path: Path, samples: Any, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, np.asarray(samples, np.float32), rate, subtype=subtype, format="WAV")
    return path


GOOD = speech(seconds=2.4)


def _spoiled(value: float) -> np.ndarray:
    samples = GOOD.samples.copy()
    samples[100] = value
    return samples


def _cut(path: Path) -> None:
    film(path, GOOD)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _long(path: Path) -> None:
    """Write 30 minutes without holding them."""
    second = (np.random.default_rng(0).standard_normal(RATE) * 0.1).astype(np.float32)
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16", format="WAV") as file:
        for _ in range(30 * 60):
            file.write(second)


MAKERS: dict[str, Callable[[Path], Any]] = {
    "empty.wav": lambda path: path.write_bytes(b""),
    "again_empty.wav": lambda path: path.write_bytes(b""),
    "text.wav": lambda path: path.write_text("This is a text.\n" * 30),
    "picture.wav": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200)),
    "cut.mp4": _cut,
    "mute.mp4": lambda path: film(path, None),
    "zero.wav": lambda path: wav(path, []),
    "one.wav": lambda path: wav(path, [0.5]),
    "silent.wav": lambda path: wav(path, np.zeros(RATE * 2)),
    "nan.wav": lambda path: wav(path, _spoiled(np.nan)),
    "inf.wav": lambda path: wav(path, _spoiled(np.inf)),
    "folder.wav": lambda path: path.mkdir(),
    "short.wav": lambda path: wav(path, GOOD.samples[: int(1.5 * RATE)]),
    "much_longer.wav": lambda path: wav(path, np.tile(GOOD.samples, 2)),
}
CODES = {
    "empty": "decode_error",
    "again_empty": "decode_error",
    "text": "decode_error",
    "picture": "decode_error",
    "cut": "decode_error",
    "mute": "no_audio_stream",
    "zero": "empty_audio",
    "one": "too_short",
    "silent": "silent_audio",
    "nan": "nonfinite_audio",
    "inf": "nonfinite_audio",
    "folder": "decode_error",
    "short": "length_mismatch",
    "much_longer": "length_mismatch",
    "absent": "missing_clip",
}
WORKS: dict[str, Callable[[Path], Any]] = {
    "fine.wav": lambda path: media.write_wav(path, noisier(GOOD)),
    "bits8.wav": lambda path: wav(path, GOOD.samples, subtype="PCM_U8"),
    "bits24.wav": lambda path: wav(path, GOOD.samples, subtype="PCM_24"),
    "bits64.wav": lambda path: wav(path, GOOD.samples, subtype="DOUBLE"),
    "fast.wav": lambda path: wav(path, media.resample(GOOD, 96_000).samples, 96_000),
    "seven.wav": lambda path: wav(path, np.stack([GOOD.samples] * 7, 1)),
    "film.mp4": lambda path: film(path, GOOD),
    "odd.mp4": lambda path: film(path, GOOD, size=(33, 27)),
    "wavering.mp4": lambda path: film(path, GOOD, times=lambda i: i * 40 + (i % 3) * 13),
    "shorter.wav": lambda path: wav(path, GOOD.samples[:-3000]),
    "longer.wav": lambda path: wav(path, np.concatenate([GOOD.samples, np.zeros(3000)])),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bad and odd clips in `out`, with a good reference for each in `clean`."""
    root = tmp_path_factory.mktemp("world")
    (root / "out").mkdir()
    (root / "clean").mkdir()
    for name, make in {**MAKERS, **WORKS}.items():
        make(root / "out" / name)
        media.write_wav(root / "clean" / f"{Path(name).stem}.wav", GOOD)
    media.write_wav(root / "clean/absent.wav", GOOD)
    media.write_wav(root / "out/no_reference.wav", GOOD)
    media.write_wav(root / "out/silent_reference.wav", GOOD)
    wav(root / "clean/silent_reference.wav", np.zeros(RATE * 2))
    for name in ("empty", "text", "nan"):
        media.write_wav(root / f"out/{name}_reference.wav", GOOD)
        shutil.copy(root / f"out/{name}.wav", root / f"clean/{name}_reference.wav")
    return root


@pytest.fixture(scope="module")
def found(world: Path) -> scoring.Scores:
    return scoring.scores(world / "out", world / "clean", metrics=METRICS, engine="serial")


@pytest.fixture(scope="module")
def cells(found: scoring.Scores) -> dict[tuple[str, str], Outcome]:
    return {
        (sample.id, metric): outcome
        for metric, row in found.line.outcomes.items()
        for sample, outcome in zip(found.line.plan.samples, row, strict=True)
        if outcome is not None
    }


Cells = Mapping[tuple[str, str], Outcome]


@pytest.mark.parametrize(("sample", "code"), CODES.items())
def test_a_bad_clip_is_a_failure_with_file_and_remedy(
    cells: Cells, world: Path, sample: str, code: str
) -> None:
    outcome = cells[sample, "si_sdr"]
    assert isinstance(outcome, Failure)
    assert outcome.code == code
    assert str(world / "out" / sample) in outcome.error
    assert ("; " in outcome.error) or (": generate it" in outcome.error), "says what to do"


@pytest.mark.parametrize(
    ("sample", "code"),
    [
        ("silent_reference", "silent_reference"),
        ("empty_reference", "decode_error"),
        ("text_reference", "decode_error"),
        ("nan_reference", "nonfinite_audio"),
    ],
)
def test_a_bad_reference_is_named_as_such(
    cells: Cells, world: Path, sample: str, code: str
) -> None:
    outcome = cells[sample, "si_sdr"]
    assert isinstance(outcome, Failure)
    assert outcome.code == code
    assert outcome.error.startswith(f"reference {world}/clean/{sample}.wav: ")


def test_files_of_the_same_bytes_are_each_named(cells: Cells) -> None:
    for sample in ("empty", "again_empty", "empty_reference"):
        outcome = cells[sample, "onset_acc"]
        assert isinstance(outcome, Failure)
        named = re.findall(r"/(\w*empty\w*)\.wav", outcome.error)
        assert set(named) == {sample}


# Films lose here by AAC, and by its delay, which is part of the file.
LEAST_DB = {"fine": 5, "bits8": 15, "fast": 30, "film": -30, "odd": -30, "wavering": -30}


@pytest.mark.parametrize("sample", [Path(name).stem for name in WORKS])
def test_odd_clips_just_work(cells: Cells, sample: str) -> None:
    outcome = cells[sample, "si_sdr"]
    assert isinstance(outcome, Record), outcome
    assert isinstance(outcome.value, float)
    assert outcome.value > LEAST_DB.get(sample, 80)


@pytest.mark.parametrize(("sample", "trimmed"), [("shorter", 3000), ("longer", 3000), ("fine", 0)])
def test_a_difference_in_length_is_recorded(cells: Cells, sample: str, trimmed: int) -> None:
    outcome = cells[sample, "si_sdr"]
    assert isinstance(outcome, Record)
    assert outcome.info["n_trimmed"] == trimmed


def test_onset_metrics_flag_a_difference_and_record_both_lengths(cells: Cells) -> None:
    outcome = cells["much_longer", "onset_acc"]
    assert isinstance(outcome, Record)
    assert "length_mismatch" in outcome.flags
    assert outcome.info["seconds_generated"] == pytest.approx(4.8)
    assert outcome.info["seconds_reference"] == pytest.approx(2.4)


def test_every_cell_is_accounted_for(found: scoring.Scores, world: Path) -> None:
    samples = len(list((world / "clean").iterdir()))
    assert len(found.rows) == samples * len(METRICS)
    for metric, estimate in found.estimates.items():
        assert estimate.n + estimate.n_failed + estimate.n_unsupported == samples, metric
    by_metric = [row for row in found.rows if row["metric"] == "si_sdr"]
    assert found.estimates["si_sdr"].n == len(WORKS)
    assert found.estimates["si_sdr"].n_failed == sum(r["status"] == "failed" for r in by_metric)
    assert found.extra == ("no_reference.wav",)


def test_every_message_is_one_line(found: scoring.Scores) -> None:
    assert not [row["error"] for row in found.rows if "\n" in row["error"]]
    assert not [row["error"] for row in found.rows if "Traceback" in row["error"]]


def test_all_engines_say_the_same(found: scoring.Scores, world: Path) -> None:
    again = scoring.scores(
        world / "out", world / "clean", metrics=METRICS, engine="processes", workers=2
    )
    assert again.rows == found.rows


def test_pictures_of_odd_size_and_wavering_rate_are_seen(world: Path) -> None:
    for name, shape in (("odd", (27, 33)), ("wavering", (32, 32))):
        seen = media.read_frames(phonoscope.Clip(str(world / f"out/{name}.mp4")))
        assert seen.pixels.shape[1:3] == shape
        frames = phonoscope.score(
            world / "out", world / "out", metrics=["psnr"], engine="serial"
        ).set_index("sample")
        assert frames.loc[name, "value"] == 100


def test_half_an_hour_is_measured_or_too_long(tmp_path: Path) -> None:
    for folder in ("out", "clean"):
        (tmp_path / folder).mkdir()
        _long(tmp_path / folder / "a.wav")
    code = (
        "from phonoscope import scoring\n"
        "found = scoring.scores('out', 'clean', metrics=['pesq_wb', 'si_sdr'],"
        " engine='serial')\n"
        "import json, resource\n"
        "print(json.dumps(found.rows))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    text, peak = done.stdout.splitlines()
    rows = {row["metric"]: row for row in json.loads(text)}
    assert rows["pesq_wb"]["error"].startswith("too_long: 1800.0 s, PESQ takes 60 s; cut the clip")
    assert rows["si_sdr"]["value"] == 100
    assert int(peak) < 2 << 20, "kB"


# A run over all of them


def over(world: Path) -> dict[str, Any]:
    """Return a protocol over the world, with a system whose folder is not there."""
    return {
        "name": "bad",
        "task": "lip2speech",
        "datasets": [
            {"name": "d", "kind": "folder", "options": {"reference": str(world / "clean")}}
        ],
        "systems": [
            {"name": "mine", "plugin": "imported", "params": {"folder": str(world / "out")}},
            {"name": "none", "plugin": "imported", "params": {"folder": str(world / "nowhere")}},
        ],
        "references": ["reference"],
        "metrics": list(METRICS),
    }


@pytest.fixture(scope="module")
def board(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Leaderboard, Path]:
    store = tmp_path_factory.mktemp("store")
    return runner.run(over(world), store, engine="serial"), store


def test_the_board_counts_failures(board: tuple[Leaderboard, Path], found: scoring.Scores) -> None:
    reference, mine, none = board[0].rows
    for metric in METRICS:
        ours = mine.cells[metric].estimate
        assert ours is not None
        assert (ours.n, ours.n_failed, ours.n_unsupported) == (
            found.estimates[metric].n,
            found.estimates[metric].n_failed,
            found.estimates[metric].n_unsupported,
        )
        lost = none.cells[metric].estimate
        assert lost is not None
        assert (lost.n, lost.n_failed) == (0, none.n_total)
    assert "incomplete" in mine.marks
    assert "not_ranked" in mine.marks
    assert reference.cells["si_sdr"].estimate.n_failed == 4  # type: ignore[union-attr]


def test_the_board_lists_failures_with_their_errors(board: tuple[Leaderboard, Path]) -> None:
    _, store = board
    page = html.unescape((store / "board/leaderboard.html").read_text("utf-8"))
    for sample, code in CODES.items():
        assert sample in page
        assert code in page
    with (store / "board/samples.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    failed = {row["sample"]: row for row in rows if row["system"] == "mine" and row["code"]}
    assert failed["cut"]["error"].count("/out/cut.mp4") == 1
    recorded = [row["info"] for row in rows if row["sample"] == "shorter" and row["info"]]
    assert any(json.loads(info).get("n_trimmed") == 3000 for info in recorded)


def test_a_second_run_says_the_same(board: tuple[Leaderboard, Path], world: Path) -> None:
    _, store = board
    before = (store / "board/samples.csv").read_bytes()
    shutil.rmtree(store / "board")
    runner.run(over(world), store, engine="serial")
    assert (store / "board/samples.csv").read_bytes() == before


def test_listeners_hear_of_every_failure(world: Path) -> None:
    heard: list[Any] = []
    scoring.scores(
        world / "out",
        world / "clean",
        metrics=["si_sdr"],
        engine="serial",
        listeners=[heard.append],
    )
    failed = {event.sample: event for event in heard if type(event).__name__ == "SampleFailed"}
    told = {name: code for name, code in CODES.items() if name != "empty"}  # as `again_empty`
    assert {name: failed[name].code for name in told} == told
    assert all(str(world / "out" / name) in failed[name].error for name in told)


# Names


STRANGE = {
    "up": "../../up",
    "absolute": "/etc/passwd",
    "space": " two  spaces ",
    "quotes": 'it\'s "so" `and` $HOME',
    "unicode": "\u6f22\u5b57 e\u0301 \u202e \N{GRINNING FACE}",
    "long": "x" * 300,
    "lines": "a\nb\tc",
    "markup": "<script>alert('id')</script> & {id} %s \\input{x} $x_1^2$ ~#",
    "pattern": "{id}{stem}",
    "dash": "--help",
}
NASTY = "<img src=x onerror=alert(1)> & 50% of $x_1$ \\input{/etc/passwd} {a}~^ | `c` #"
PLUGIN = '''
from pathlib import Path
import numpy as np
from phonoscope import Audio, audio, metric, system
from phonoscope.media import read_audio, write_wav

@system(needs=("audio",))
def halved(sample, out, *, seed, note=""):
    """Write half the level."""
    sound = read_audio(sample.inputs["audio"], rate=16_000)
    return write_wav(out / "generated.wav", Audio(sound.samples / 2, 16_000))

@system(needs=("audio",))
def by_id(sample, out, *, seed):
    """Name the file after the sample, which no system should do."""
    return write_wav(out / f"{sample.id}.wav", read_audio(sample.inputs["audio"], rate=16_000))

@metric(unit="-", better="higher", generated=audio(16_000))
def broken(generated: Audio, prompt: str) -> float:
    """Raise on every sample, with the prompt in the message."""
    raise KeyError(prompt)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    """A plugin file, whose plugins are gone after the test."""
    plugins.discover()
    registries = (plugins.METRICS, plugins.SYSTEMS, plugins.DATASETS, views.VIEWS)
    before = [dict(registry._items) for registry in registries]
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    yield path
    for registry, items in zip(registries, before, strict=True):
        registry._items = items


@pytest.fixture
def strange(tmp_path: Path, plugin: Path) -> dict[str, Any]:
    """A protocol whose sample ids, system names and prompts are as bad as can be."""
    (tmp_path / "data").mkdir()
    rows = []
    for number, (name, sample) in enumerate(STRANGE.items()):
        media.write_wav(tmp_path / f"data/{name}.wav", speech(number))
        file = f"data/{name}.wav"
        rows.append(
            {"id": sample, "group": sample, "audio": file, "reference": file, "prompt": NASTY}
        )
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "table.jsonl").write_text(text, "utf-8")
    return {
        "name": "strange",
        "title": NASTY,
        "description": NASTY,
        "task": "lip2speech",
        "datasets": [
            {"name": NASTY, "kind": "manifest", "options": {"path": str(tmp_path / "table.jsonl")}}
        ],
        "systems": [{"name": NASTY, "plugin": "halved", "params": {"note": NASTY}}, "by_id"],
        "metrics": ["si_sdr", "broken"],
    }


def everything(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if "store" not in path.relative_to(root).parts}


def test_strange_ids_never_become_file_names(
    strange: dict[str, Any], plugin: Path, tmp_path: Path
) -> None:
    before = everything(tmp_path)
    made = runner.run(strange, tmp_path / "store", engine="serial", plugin_files=[plugin])
    assert everything(tmp_path) - before <= {
        path for path in everything(tmp_path) if "__pycache__" in str(path)
    }
    halved, _ = made.rows
    estimate = halved.cells["si_sdr"].estimate
    assert estimate is not None
    assert (estimate.n, estimate.n_failed) == (len(STRANGE), 0)
    names = {path.name for path in (tmp_path / "store/media").rglob("*.wav")}
    assert "generated.wav" in names
    assert all(len(part) < 80 for path in (tmp_path / "store").rglob("*") for part in path.parts)


def test_a_system_that_leaves_its_folder_costs_its_samples_only(
    strange: dict[str, Any], plugin: Path, tmp_path: Path
) -> None:
    made = runner.run(strange, tmp_path / "store", engine="serial", plugin_files=[plugin])
    failures = {sample: (code, error) for sample, code, error in made.rows[1].generation_failures}
    code, error = failures[STRANGE["long"]]
    assert code == "metric_error"
    assert error.startswith("OSError: ")
    assert "report it" in error
    good = made.rows[1].cells["si_sdr"].estimate
    assert good is not None
    assert good.n + good.n_failed == len(STRANGE)
    assert good.n >= 5


def test_the_board_escapes_every_name(
    strange: dict[str, Any], plugin: Path, tmp_path: Path
) -> None:
    runner.run(strange, tmp_path / "store", engine="serial", plugin_files=[plugin])
    folder = tmp_path / "store/board"
    page = (folder / "leaderboard.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert html.escape("<img src=x onerror=alert(1)> & 50%", quote=False)[:30] in page
    assert len(re.findall(r"<script", page)) <= 3
    latex = (folder / "leaderboard.tex").read_text("utf-8")
    assert "\\input{/etc" not in latex
    assert NASTY not in latex
    assert r"50\%" in latex
    assert r"x\_1" in latex
    with (folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        assert NASTY in {row["system"] for row in csv.DictReader(file)}
    made = json.loads((folder / "leaderboard.json").read_text("utf-8"))
    assert made["rows"][0]["system"] == NASTY
    table = (folder / "leaderboard.md").read_text("utf-8")
    assert "<img" not in table.replace("\\<img", "").replace("&lt;img", "")


def test_failures_of_a_metric_hold_prompt_and_sample_as_text(
    strange: dict[str, Any], plugin: Path, tmp_path: Path
) -> None:
    runner.run(strange, tmp_path / "store", engine="serial", plugin_files=[plugin])
    with (tmp_path / "store/board/samples.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "broken"]
    mine = [row for row in rows if row["system"] == NASTY]
    assert [row["sample"] for row in mine] == list(STRANGE.values())
    for row in mine:
        assert row["code"] == "metric_error"
        assert "KeyError: " in row["error"]
        assert "onerror" in row["error"]
        assert "generated.wav" in row["error"], "names the file"


def test_strange_ids_are_scored_where_they_are_files(tmp_path: Path) -> None:
    for folder in ("out", "clean"):
        (tmp_path / folder).mkdir()
        for name in ("space", "quotes", "unicode", "lines", "dash"):
            media.write_wav(tmp_path / folder / f"{STRANGE[name]}.wav", GOOD)
        media.write_wav(tmp_path / folder / f"{'y' * 240}.wav", GOOD)
    frame = phonoscope.score(
        tmp_path / "out", tmp_path / "clean", metrics=["si_sdr"], engine="serial"
    )
    assert frame["status"].tolist() == ["ok"] * 6


@pytest.mark.parametrize("name", ["up", "absolute"])
def test_imported_clips_never_come_from_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "a/out").mkdir(parents=True)
    media.write_wav(tmp_path / "a/b.wav", GOOD)
    text = json.dumps({"id": STRANGE[name], "group": "g", "reference": "b.wav"})
    (tmp_path / "a/t.jsonl").write_text(text)
    protocol = {
        "name": "x",
        "task": "lip2speech",
        "datasets": [
            {"name": "d", "kind": "manifest", "options": {"path": str(tmp_path / "a/t.jsonl")}}
        ],
        "systems": [{"name": "imported", "params": {"folder": str(tmp_path / "a/out")}}],
        "metrics": ["si_sdr"],
    }
    (row,) = runner.run(protocol, tmp_path / "store", engine="serial").rows
    ((sample, code, error),) = row.generation_failures
    assert (sample, code) == (STRANGE[name], "missing_clip")
    assert "lies outside" in error


# Tables


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,reference\na,x.wav\n", ["line 1: the column group is missing; allowed: id, group"]),
        ("id,group,refrence\na,g,x\n", ["unknown column 'refrence'; did you mean reference?"]),
        ("id,group,mood\na,g,x\n", ["unknown column 'mood'", "allowed: id, group, reference"]),
        ("id,group\na,g\na,g\n", ["line 3: the id 'a' is that of", "line 2 already"]),
        ("id,group\na,g,h\n", ["line 2: 3 cells under 2 columns"]),
        ("id,group\n", ["the table has no rows"]),
    ],
)
def test_a_wrong_manifest_is_exit_code_2(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "table.csv").write_text(text)
    options = {"path": "./table.csv"}
    done = run_protocol(tmp_path, datasets=[{"name": "d", "kind": "manifest", "options": options}])
    assert done.exit_code == 2
    assert all(word in done.stderr for word in [*words, "table.csv", "protocol.yaml"]), done.stderr


def test_a_manifest_of_the_wrong_type_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "table.jsonl").write_text('{"id": 5, "group": "g"}\n')
    options = {"path": "./table.jsonl"}
    done = run_protocol(tmp_path, datasets=[{"name": "d", "kind": "manifest", "options": options}])
    assert done.exit_code == 2
    assert "line 1: id is 5 (int); it has to be text" in done.stderr


def test_two_files_of_one_id_are_named(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    media.write_wav(tmp_path / "clean/a.wav", GOOD)
    shutil.copy(tmp_path / "clean/a.wav", tmp_path / "clean/a.flac")
    with pytest.raises(DatasetError, match=r"two files have the id 'a'.*a\.flac.*a\.wav"):
        phonoscope.score(tmp_path / "clean", tmp_path / "clean", metrics=["si_sdr"])


def test_two_generated_files_of_one_id_cost_that_sample(tmp_path: Path) -> None:
    for name in ("out/a.wav", "out/a.flac", "out/b.wav", "clean/a.wav", "clean/b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, GOOD.samples, RATE)
    frame = phonoscope.score(
        tmp_path / "out", tmp_path / "clean", metrics=["si_sdr"], engine="serial"
    )
    assert frame["status"].tolist() == ["failed", "ok"]
    assert "more than one file fits" in frame["error"][0]
    assert "a.flac, a.wav" in frame["error"][0]


# The command line


def run_protocol(folder: Path, *arguments: str, **changes: Any) -> Result:
    """Write a protocol and run it by the command line, with its store in `folder`."""
    (folder / "clean").mkdir(exist_ok=True)
    media.write_wav(folder / "clean/a.wav", GOOD)
    options = {"reference": "./clean", "inputs": {"audio": "./clean"}}
    protocol = {
        "name": "p",
        "task": "lip2speech",
        "datasets": [{"name": "d", "kind": "folder", "options": options}],
        "systems": ["noisy"],
        "metrics": ["si_sdr"],
        **changes,
    }
    path = folder / "protocol.yaml"
    path.write_text(yaml.safe_dump(protocol, sort_keys=False), "utf-8")
    given = ["run", str(path), "--engine", "serial", "--tracking", "none", *arguments]
    if "--store" not in arguments:
        given += ["--store", str(folder / "store")]
    return CliRunner().invoke(cli.app, given)


def test_a_good_protocol_is_exit_code_0(tmp_path: Path) -> None:
    done = run_protocol(tmp_path)
    assert done.exit_code == 0, done.output
    assert "leaderboard.html" in done.stdout


def test_more_failures_than_allowed_is_exit_code_4(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean/b.wav").write_bytes(b"")
    assert run_protocol(tmp_path).exit_code == 4
    assert run_protocol(tmp_path, max_failed=1).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": ["si_sdrr"]}, "did you mean si_sdr"),
        ({"systems": ["noizy"]}, "did you mean noisy?"),
        ({"metrix": ["si_sdr"]}, "line 13: metrix: unknown key; did you mean metrics?"),
        ({"task": "lips"}, "'lip2speech', 'video2audio' or 'talking_face'"),
    ],
)
def test_a_wrong_protocol_is_exit_code_2(tmp_path: Path, changes: Any, words: str) -> None:
    done = run_protocol(tmp_path, **changes)
    assert done.exit_code == 2
    assert re.search(re.escape(words).replace(r"line\ 13", r"line\ \d+"), done.stderr)
    assert "protocol.yaml" in done.stderr
    assert not (tmp_path / "store").exists()


def test_a_store_of_a_newer_version_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/store.json").write_text('{"format": 99}')
    done = run_protocol(tmp_path)
    assert done.exit_code == 2
    assert "newer phonoscope" in done.stderr
    assert "upgrade" in done.stderr
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["store.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "x"}', "\xff"])
def test_what_is_no_store_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/store.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(StoreError, match="not a phonoscope store"):
        runner.RunStore(tmp_path / "store")


def test_a_store_whose_note_is_broken_is_named(tmp_path: Path) -> None:
    assert run_protocol(tmp_path).exit_code == 0
    (tmp_path / "store/source.json").write_text("{")
    done = CliRunner().invoke(cli.app, ["status", str(tmp_path / "store")])
    assert done.exit_code == 2
    assert "source.json: cannot be read; name the protocol instead" in done.stderr


def test_a_store_below_a_file_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = run_protocol(tmp_path, "--store", str(tmp_path / "file/store"))
    assert done.exit_code == 2
    assert str(tmp_path / "file/store") in done.stderr
    assert "--store" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    done = run_protocol(tmp_path, "--store", str(tmp_path / "locked/store"))
    assert done.exit_code == 2
    assert "not writable" in done.stderr


def test_a_board_that_cannot_be_written_is_exit_code_2(tmp_path: Path) -> None:
    assert run_protocol(tmp_path).exit_code == 0
    (tmp_path / "file").write_text("x")
    store = str(tmp_path / "store")
    for options, words in (
        (["--output", str(tmp_path / "file/board")], "file/board: cannot be written"),
        (["--formats", "pdf"], "there is no format 'pdf'; formats are html, md, tex, csv, json"),
    ):
        done = CliRunner().invoke(cli.app, ["board", store, *options])
        assert done.exit_code == 2
        assert words in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["describe", "nothing_of_that_name"],
        ["list", "metrix"],
        ["run", "nowhere.yaml"],
        ["status", "nowhere"],
        ["board", "nowhere"],
        ["compare", "nowhere", "elsewhere"],
        ["gate", "nowhere", "--baseline", "none.json"],
        ["sync", "nowhere"],
        ["weights", "fetch", "no/such"],
        ["weights", "accept", "nosuch"],
        ["score", "nowhere", "--metrics", "si_sdr"],
        ["frobnicate"],
        ["run"],
        ["run", "quickstart", "--limit", "x"],
        ["run", "quickstart", "--plugin", "none.py", "--dry-run"],
    ],
    ids=" ".join,
)
def test_no_wrong_command_shows_a_traceback(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, arguments)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2
    assert done.stderr.strip()
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named"),
        ("def (", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("from phonoscope import metric\n@metric(unit='-', better='higher')\ndef x(y): ...", "'y'"),
    ],
)
def test_a_broken_plugin_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    done = CliRunner().invoke(cli.app, ["list", "metrics", "--plugin", str(tmp_path / "mine.py")])
    assert done.exit_code == 2
    assert words in done.stderr
    assert str(tmp_path / "mine.py") in done.stderr


def commands(command: Any, names: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [names]
    return [found for name, item in inner.items() for found in commands(item, (*names, name))]


@pytest.mark.parametrize("names", commands(typer.main.get_command(cli.app)), ids=" ".join)
def test_every_command_has_help_with_an_example(names: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli.app, [*names, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "Example" in done.stdout
    assert f"phonoscope {' '.join(names)}" in done.stdout


def test_every_command_of_the_issue_is_there() -> None:
    names = {found[0] for found in commands(typer.main.get_command(cli.app))}
    wanted = "list describe run score status board compare gate weights doctor sync"
    assert set(wanted.split()) <= names


# Whole processes


def phonoscope_process(*arguments: str, cwd: Path, code: str = "") -> Any:
    """Run the command line in a process of its own."""
    program = (
        f"{code}\nimport sys\nfrom phonoscope import cli\nsys.argv[0] = 'phonoscope'\ncli.main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_user_s_error_is_one_line_and_a_traceback_only_for_debug(tmp_path: Path) -> None:
    plain = phonoscope_process("describe", "nothing", cwd=tmp_path)
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr
    assert plain.stderr.startswith("error: ")
    assert len(plain.stderr.splitlines()) == 1
    debug = phonoscope_process("--debug", "describe", "nothing", cwd=tmp_path)
    assert debug.returncode == 2
    assert "Traceback" in debug.stderr
    assert plain.stderr.strip() in debug.stderr


def test_a_bug_is_exit_code_70_never_1(tmp_path: Path) -> None:
    code = "from phonoscope import catalogue\ncatalogue.card = lambda name: 1 / 0"
    plain = phonoscope_process("describe", "si_sdr", cwd=tmp_path, code=code)
    assert plain.returncode == 70
    assert "Traceback" not in plain.stderr
    assert "internal error: ZeroDivisionError: division by zero" in plain.stderr
    assert "--debug" in plain.stderr
    debug = phonoscope_process("--debug", "describe", "si_sdr", cwd=tmp_path, code=code)
    assert debug.returncode == 70
    assert "Traceback" in debug.stderr
    assert "ZeroDivisionError" in debug.stderr


def test_the_module_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "phonoscope.cli", "score", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: no such folder")
    assert "Traceback" not in done.stderr


SLOW = '''
import pathlib, time
from phonoscope import Audio, audio, metric

@metric(unit="-", better="higher", generated=audio(16_000))
def slow(generated: Audio) -> float:
    """Take very long."""
    pathlib.Path("begun").touch()
    time.sleep(120)
    return 1.0
'''


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_an_interrupt_is_exit_code_130_and_says_that_it_resumes(
    tmp_path: Path, engine: str
) -> None:
    (tmp_path / "out").mkdir()
    media.write_wav(tmp_path / "out/a.wav", GOOD)
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "phonoscope.cli", "score", "out", "--metrics", "slow"]
    options = ["--plugin", "slow.py", "--engine", engine, "--store", "kept", "--quiet"]
    process = subprocess.Popen(
        [*command, *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error: stopped; run the same command again, it resumes" in told
    assert "Traceback" not in told


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m phonoscope.cli list metrics | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_errors_of_python_are_named_ones() -> None:
    with pytest.raises(SpecError):
        phonoscope.run("no such protocol")


def test_a_long_system_name_hides_no_column_and_can_be_compared(tmp_path: Path) -> None:
    long = "y" * 300
    done = run_protocol(tmp_path, systems=[{"name": long, "plugin": "noisy"}, "reference"])
    assert done.exit_code == 0, done.output
    assert "si_sdr" in done.stdout.splitlines()[0]
    assert any(line.startswith("yyy") and "100.00" in line for line in done.stdout.splitlines())
    arguments = ["compare", long, "reference", "--store", str(tmp_path / "store")]
    compared = CliRunner().invoke(cli.app, arguments)
    assert compared.exit_code == 0, compared.output
    assert "si_sdr" in compared.stdout
