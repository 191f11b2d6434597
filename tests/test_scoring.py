"""`phonoscope score`: two folders, a table, and exit codes that say how it went."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner, Result

import phonoscope
from phonoscope import cli, media, scoring
from phonoscope.errors import DatasetError, SpecError, UnknownName
from phonoscope.types import Audio, Record

COLUMNS = ["sample", "metric", "value", "status", "error"]
SERIAL = ("--engine", "serial")


def speech(seed: int = 0, *, seconds: float = 2.0, rate: int = 16_000) -> Audio:
    """Return something like speech: a buzz of a gliding pitch in syllables."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * t + seed)) / rate
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 3 * t + seed), 0, 1)
    return Audio((0.1 * buzz * syllables + 0.002 * rng.standard_normal(len(t))).astype("f4"), rate)


def noisier(sound: Audio, level: float = 0.02) -> Audio:
    noise = np.random.default_rng(9).standard_normal(len(sound.samples)) * level
    return Audio((sound.samples + noise).astype(np.float32), sound.rate)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three pairs, of two speakers, in `out` and `clean`."""
    for number, name in enumerate(("s1/a", "s1/b", "s2/c")):
        for folder, sound in (("clean", speech(number)), ("out", noisier(speech(number)))):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            media.write_wav(tmp_path / folder / f"{name}.wav", sound)
    return tmp_path / "out", tmp_path / "clean"


Score = Callable[..., Result]


def score(*arguments: Any) -> Result:
    return CliRunner().invoke(cli.app, ["score", *map(str, arguments), *SERIAL])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == COLUMNS
        return list(reader)


def test_every_sample_measured_is_exit_code_0(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out, clean = folders
    done = score(out, "--reference", clean, "--metrics", "si_sdr,estoi", "--output", tmp_path / "s")
    assert done.exit_code == 0, done.output
    rows = table(tmp_path / "s")
    order = [(name, metric) for name in ("s1/a", "s1/b", "s2/c") for metric in ("si_sdr", "estoi")]
    assert [(row["sample"], row["metric"]) for row in rows] == order
    assert all(row["status"] == "ok" and row["error"] == "" for row in rows)
    assert all(0 < float(row["value"]) < 100 for row in rows)
    heads, *lines = csv.reader(io.StringIO(done.stdout), delimiter="\t")
    assert heads == list(scoring.HEADS)
    assert [line[0] for line in lines] == ["si_sdr", "estoi"]


def test_a_failure_is_exit_code_4_and_the_rest_is_there(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out, clean = folders
    (out / "s1/b.wav").unlink()
    done = score(out, "--reference", clean, "--metrics", "si_sdr", "--output", tmp_path / "s.csv")
    assert done.exit_code == 4
    rows = {row["sample"]: row for row in table(tmp_path / "s.csv")}
    assert [row["status"] for row in rows.values()] == ["ok", "failed", "ok"]
    assert rows["s1/b"]["value"] == ""
    assert rows["s1/b"]["error"].startswith("missing_clip: ")
    assert str(out / "s1/b") in rows["s1/b"]["error"]
    assert "error: s1/b: si_sdr: failed: missing_clip" in done.stderr


def test_json_is_the_summary_and_nothing_else(folders: tuple[Path, Path]) -> None:
    out, clean = folders
    (out / "s1/b.wav").write_bytes(b"")
    done = score(out, "--reference", clean, "--metrics", "si_sdr,onset_acc", "--json")
    assert done.exit_code == 4
    found = json.loads(done.stdout)["metrics"]
    assert list(found) == ["si_sdr", "onset_acc"]
    assert (found["si_sdr"]["n"], found["si_sdr"]["n_failed"]) == (2, 1)
    assert found["si_sdr"]["unit"] == "dB"
    assert found["si_sdr"]["low"] <= found["si_sdr"]["value"] <= found["si_sdr"]["high"]
    assert "s1/b: si_sdr: failed: decode_error" in done.stderr


def test_json_holds_no_nan(folders: tuple[Path, Path]) -> None:
    out, clean = folders
    for file in out.rglob("*.wav"):
        file.write_bytes(b"")
    done = score(out, "--reference", clean, "--metrics", "si_sdr", "--json")
    assert "NaN" not in done.stdout
    assert json.loads(done.stdout)["metrics"]["si_sdr"]["value"] is None


def test_the_numbers_are_those_of_the_functions(folders: tuple[Path, Path]) -> None:
    out, clean = folders
    frame = phonoscope.score(out, clean, metrics=["si_sdr"], engine="serial")
    from phonoscope.metrics.intrusive import si_sdr

    clips = [
        [
            media.read_audio(phonoscope.Clip(str(folder / f"{name}.wav")), rate=16_000)
            for folder in folders
        ]
        for name in frame["sample"]
    ]
    assert frame["value"].tolist() == [si_sdr(*pair).value for pair in clips]


def test_the_python_twin_gives_a_data_frame(folders: tuple[Path, Path]) -> None:
    out, clean = folders
    (out / "s1/a.wav").write_text("no sound")
    frame = phonoscope.score(
        str(out), clean, metrics=["si_sdr", "wer_pocketsphinx_grid"], engine="serial"
    )
    assert list(frame.columns) == COLUMNS
    assert frame["value"].dtype == float
    assert frame["status"].tolist()[::2] == ["failed", "ok", "ok"]
    assert set(frame["status"].tolist()[1::2]) == {"unsupported"}
    assert math.isnan(frame["value"][0])
    assert frame.attrs["extra"] == []


def test_metrics_without_reference_need_no_reference(folders: tuple[Path, Path]) -> None:
    pytest.importorskip("onnxruntime")
    out, _ = folders
    done = score(out, "--metrics", "dnsmos_p808", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["metrics"]["dnsmos_p808"]
    assert found["n"] == 3
    assert 1 < found["value"] < 5


def test_a_metric_that_lacks_its_reference_is_unsupported_not_failed(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out, _ = folders
    done = score(out, "--metrics", "si_sdr", "--output", tmp_path / "s.csv")
    assert done.exit_code == 0
    assert {row["status"] for row in table(tmp_path / "s.csv")} == {"unsupported"}
    assert "has no reference, which si_sdr needs" in done.stderr
    assert "note: give --reference FOLDER for si_sdr" in done.stderr


def test_files_without_a_reference_are_named_and_not_scored(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out, clean = folders
    for number in range(7):
        media.write_wav(out / f"x{number}.wav", speech())
    (out / "notes.txt").write_text("not a clip")
    done = score(out, "--reference", clean, "--metrics", "si_sdr", "--output", tmp_path / "s.csv")
    assert done.exit_code == 0
    assert len(table(tmp_path / "s.csv")) == 3
    assert "note: 7 generated files have no reference, not scored: x0.wav, x1.wav" in done.stderr
    assert "and 2 more" in done.stderr
    assert "notes.txt" not in done.stderr
    frame = phonoscope.score(out, clean, metrics=["si_sdr"], engine="serial")
    assert frame.attrs["extra"] == [f"x{number}.wav" for number in range(7)]


def test_files_of_the_wrong_name_get_the_nearest(folders: tuple[Path, Path]) -> None:
    out, clean = folders
    (out / "s2/c.wav").rename(out / "s2/c_.wav")
    done = score(out, "--reference", clean, "--metrics", "si_sdr")
    assert "near names: c_.wav" in done.stderr
    assert "not scored: s2/c_.wav" in done.stderr


def film(path: Path, sound: Audio) -> Path:
    """Write pictures and sound."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=25, width=32, height=32)
        pictures.pix_fmt = "yuv420p"
        track = container.add_stream("pcm_s16le", rate=sound.rate, layout="mono")
        for i in range(int(sound.seconds * 25)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), i, np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        whole = np.rint(sound.samples * 32_767).astype(np.int16)
        block = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
        block.sample_rate = sound.rate
        container.mux(track.encode(block))
        container.mux(pictures.encode())
        container.mux(track.encode())
    return path


def test_films_are_scored_against_sound(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "clean").mkdir()
    media.write_wav(tmp_path / "clean/a.wav", speech())
    film(tmp_path / "out/a.mkv", speech())
    found = scoring.scores(
        tmp_path / "out", tmp_path / "clean", metrics=["estoi", "psnr"], engine="serial"
    )
    heard, seen = found.rows
    assert heard["status"] == "ok"
    assert heard["value"] > 0.9
    assert (seen["status"], seen["error"].split(":")[0]) == ("failed", "no_video_stream")
    assert str(tmp_path / "clean/a.wav") in seen["error"]


def test_sound_is_scored_against_films(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "clean").mkdir()
    film(tmp_path / "clean/a.mkv", speech())
    media.write_wav(tmp_path / "out/a.wav", speech())
    frame = phonoscope.score(
        tmp_path / "out", tmp_path / "clean", metrics=["estoi"], engine="serial"
    )
    assert frame["value"][0] > 0.9


class TestTranscripts:
    def test_make_word_errors_possible(self, folders: tuple[Path, Path], tmp_path: Path) -> None:
        pytest.importorskip("pocketsphinx")
        out, clean = folders
        texts = tmp_path / "texts.tsv"
        texts.write_text("s1/a\tbin blue at f two now\ns1/b\tset red in a one now\n", "utf-8")
        done = score(
            *(out, "--reference", clean, "--metrics", "wer_pocketsphinx_grid"),
            *("--transcripts", texts, "--output", tmp_path / "s.csv"),
        )
        assert done.exit_code == 0, done.output
        rows = table(tmp_path / "s.csv")
        assert [row["status"] for row in rows] == ["ok", "ok", "unsupported"]
        assert "sample s2/c has no transcript" in rows[2]["error"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [("s1/a no tab\n", "no tab"), ("s9/z\tx\n", "none of its ids is a sample"), (None, "read")],
    )
    def test_are_checked(
        self, folders: tuple[Path, Path], tmp_path: Path, text: str | None, words: str
    ) -> None:
        out, clean = folders
        texts = tmp_path / "texts.tsv"
        if text is not None:
            texts.write_text(text)
        done = score(out, "--reference", clean, "--metrics", "si_sdr", "--transcripts", texts)
        assert done.exit_code == 2
        assert words in done.stderr
        assert str(texts) in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{out}", "--reference", "{clean}", "--metrics", "si_sdrr"], "did you mean si_sdr"),
        (["{out}", "--reference", "{clean}", "--metrics", ","], "at least one"),
        (["{out}", "--reference", "{clean}", "--metrics", "si_sdr,si_sdr"], "named twice"),
        (["{out}", "--reference", "{clean}", "--metrics", "si_sdr", "--task", "x"], "talking_face"),
        (["{out}x", "--reference", "{clean}", "--metrics", "si_sdr"], "no such folder"),
        (["{out}", "--reference", "{clean}x", "--metrics", "si_sdr"], "no such folder"),
        (["{out}/s1/a.wav", "--reference", "{clean}/s1/a.wav"], "no such folder"),
        (["{out}", "--reference", "{clean}", "--metrics", "si_sdr", "--plugin", "no.py"], "no.py"),
        (["{out}", "--reference", "{clean}", "--metrics", "si_sdr", "--wrkers", "2"], "--wrkers"),
        (
            ["{out}", "--reference", "{clean}", "--metrics", "si_sdr", "--workers", "0"],
            "equal to 1",
        ),
        ([], "Missing argument"),
    ],
)
def test_what_the_user_got_wrong_is_exit_code_2(
    folders: tuple[Path, Path], arguments: list[str], words: str
) -> None:
    out, clean = folders
    done = score(*(text.format(out=out, clean=clean) for text in arguments))
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_an_unknown_engine_is_named(folders: tuple[Path, Path]) -> None:
    out, clean = folders
    arguments = ["score", str(out), "--reference", str(clean), "--metrics", "si_sdr"]
    done = CliRunner().invoke(cli.app, [*arguments, "--engine", "threads"])
    assert done.exit_code == 2
    assert "engines are serial, processes, ray" in done.stderr


@pytest.mark.parametrize("place", ["clean", "clean/s1/a.wav/s.csv"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    folders: tuple[Path, Path], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, clean = folders
    monkeypatch.setattr(scoring, "scores", lambda *a, **k: pytest.fail("measured"))
    path = clean.parent / place
    done = score(out, "--reference", clean, "--metrics", "si_sdr", "--output", path)
    assert done.exit_code == 2
    assert str(clean) in done.stderr


def test_the_folder_of_the_table_is_made(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out, clean = folders
    path = tmp_path / "new/deep/s.csv"
    assert score(out, "--reference", clean, "--metrics", "si_sdr", "--output", path).exit_code == 0
    assert len(table(path)) == 3


def test_python_raises_what_the_command_line_prints(folders: tuple[Path, Path]) -> None:
    out, clean = folders
    with pytest.raises(UnknownName):
        phonoscope.score(out, clean, metrics=["nope"])
    with pytest.raises(DatasetError):
        phonoscope.score(out / "none", clean, metrics=["si_sdr"])
    with pytest.raises(SpecError):
        phonoscope.score(out, clean, metrics=[])


def test_a_store_resumes_and_none_is_left_behind(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, clean = folders
    monkeypatch.chdir(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    phonoscope.score(out, clean, metrics=["si_sdr"], engine="serial")
    assert {path.name for path in tmp_path.iterdir()} == before
    first = phonoscope.score(out, clean, metrics=["si_sdr"], engine="serial", store="kept")
    parts = list(Path("kept/records").iterdir())
    again = phonoscope.score(out, clean, metrics=["si_sdr"], engine="serial", store="kept")
    assert first.equals(again)
    assert list(Path("kept/records").iterdir()) == parts


def test_a_file_that_changed_is_scored_anew(folders: tuple[Path, Path]) -> None:
    out, clean = folders
    first = phonoscope.score(out, clean, metrics=["si_sdr"], engine="serial")
    media.write_wav(out / "s1/a.wav", noisier(speech(0), 0.1))
    again = phonoscope.score(out, clean, metrics=["si_sdr"], engine="serial")
    assert again["value"][0] < first["value"][0] - 5
    assert again["value"][1:].equals(first["value"][1:])


def test_a_csv_reads_back_what_was_measured(folders: tuple[Path, Path], tmp_path: Path) -> None:
    import pandas as pd

    out, clean = folders
    for name in ('s1/qu"ote, and comma.wav', "s1/漢字 \N{GRINNING FACE}.wav", "s1/=1+1.wav"):
        media.write_wav(clean / name, speech(5))
        (out / name).write_bytes(b"")
    found = scoring.scores(out, clean, metrics=["si_sdr"], engine="serial")
    (tmp_path / "s.csv").write_text(scoring.to_csv(found), "utf-8")
    back = pd.read_csv(tmp_path / "s.csv", keep_default_na=False)
    assert back["sample"].tolist() == [row["sample"] for row in found.rows]
    assert back["error"].tolist() == [row["error"] for row in found.rows]
    values = [float(text) if text else None for text in back["value"]]
    assert values == [row["value"] for row in found.rows]


def test_groups_are_folders(folders: tuple[Path, Path]) -> None:
    out, clean = folders
    found = scoring.scores(out, clean, metrics=["si_sdr"], engine="serial")
    assert [sample.group for sample in found.line.plan.samples] == ["s1", "s1", "s2"]
    assert all(isinstance(outcome, Record) for outcome in found.line.outcomes["si_sdr"])
