"""The examples of README.md and CONTRIBUTING.md run as they are printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from phonoscope import Audio
from phonoscope.media import write_wav

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```python\n(.*?)```", re.DOTALL)
FENCED = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def examples() -> dict[str, str]:
    return dict(EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8")))


def blocks(language: str) -> list[str]:
    found = FENCED.findall((ROOT / "README.md").read_text("utf-8"))
    return [text for name, text in found if name == language]


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Two folders of three sounds, and noise."""
    rng = np.random.default_rng(0)
    for number in range(3):
        tone = np.sin(np.arange(24_000) * (0.05 + 0.02 * number)) * np.hanning(24_000)
        noise = rng.standard_normal(24_000) * 0.05
        for folder, sound in (("clean", tone), ("mymodel", tone + noise), ("noise", noise)):
            path = tmp_path / folder / f"s{number}.wav"
            path.parent.mkdir(exist_ok=True)
            write_wav(path, Audio(sound.astype(np.float32) * np.float32(0.5), 16_000))
    return tmp_path


def phonoscope(*words: str, folder: Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "phonoscope.cli", *words]
    environment = {"PATH": "/usr/bin:/bin", "SPEECH": str(folder), "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_contributing_has_three_examples():
    assert list(examples()) == ["clip_share.py", "loudest_band.py", "half_level.py"]


@pytest.mark.parametrize(
    ("file", "metric"),
    [("clip_share.py", "clip_share"), ("loudest_band.py", "band_difference")],
)
def test_example_metrics_measure(file: str, metric: str, speech: Path):
    (speech / file).write_text(examples()[file])
    words = ("--reference", "clean", "--metrics", metric, "--plugin", file, "--json")
    out = phonoscope("score", "mymodel", *words, "--engine", "serial", folder=speech)
    summary = json.loads(out)["metrics"][metric]
    assert summary["n"] == 3
    assert summary["n_failed"] == 0
    assert summary["value"] > 0 or metric == "clip_share"


def test_example_system_generates(speech: Path):
    (speech / "half_level.py").write_text(examples()["half_level.py"])
    (speech / "p.yaml").write_text(
        "{name: p, task: lip2speech, systems: [half_level], metrics: [si_sdr], datasets: "
        "[{name: d, kind: folder, options: {reference: ./clean, inputs: {audio: ./clean}}}]}"
    )
    phonoscope("run", "p.yaml", "--plugin", "half_level.py", "--engine", "serial", folder=speech)
    board = json.loads((speech / "runs/p/board/leaderboard.json").read_text())
    cell = board["rows"][0]["cells"]["si_sdr"]
    assert cell["estimate"]["n"] == 3
    assert cell["estimate"]["value"] == pytest.approx(100.0)


def test_readme_metric_and_protocol_run(speech: Path):
    metric = next(text for text in blocks("python") if text.startswith("# loudness.py"))
    (speech / "loudness.py").write_text(metric)
    words = ("--reference", "clean", "--metrics", "level_difference", "--plugin", "loudness.py")
    out = phonoscope("score", "mymodel", *words, folder=speech)
    assert "level_difference" in out
    protocol = next(text for text in blocks("yaml") if text.startswith("name: my_sweep"))
    (speech / "my_sweep.yaml").write_text(protocol)
    out = phonoscope("run", "my_sweep.yaml", "--dry-run", folder=speech)
    assert len(out.splitlines()) == 1 + 4 * 3
    assert "MyModel" in out


def test_readme_names_commands_that_exist():
    text = " ".join(blocks("sh"))
    named = set(re.findall(r"phonoscope (\w+)", text))
    helps = phonoscope("--help", folder=ROOT)
    assert named >= {"run", "score", "gate", "compare", "board", "status"}
    assert all(re.search(rf"\b{name}\b", helps) for name in named)


def test_pictures_of_the_readme_exist():
    text = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links
    assert all((ROOT / link).exists() for link in links)
