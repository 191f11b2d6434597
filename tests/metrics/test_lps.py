"""LPS: golden texts, the phoneme recogniser against transformers, and what an empty text is."""

# ruff: noqa: RUF001 - the letters of IPA are meant

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asr_cases
import numpy as np
import pytest
from asr_cases import PHONEMES, RATE, sound
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import media, scoring
from phonoscope.errors import EmptyReferencePhonemes, WeightsMismatch
from phonoscope.events import NetworkLoaded
from phonoscope.metrics.lps import lps, lps_tokens, phoneme_similarity, wav2vec2_phonemes
from phonoscope.metrics.networks.asr import Wav2Vec2Phonemes
from phonoscope.types import Audio, Failure, Record

# Golden texts


def test_the_golden_texts(parity: Any) -> None:
    cases = [case for case in parity("speech")["cases"] if case["metric"] == "lps"]
    assert len(cases) == 6
    for case in cases:
        assert (case["mode"], case["input"]["kind"]) == ("codepoints", "texts")
        found = lps(case["input"]["generated"], case["input"]["reference"])
        assert found.value == pytest.approx(case["value"], abs=case["abs_tol"]), case
        assert {name: found.info[name] for name in case["aux"]} == case["aux"]


@pytest.mark.parametrize(
    ("generated", "reference", "characters", "phonemes"),
    [
        ("tʃ iː z", "tʃ iː z", 1.0, 1.0),
        ("tʃ ɪ z", "tʃ iː z", 0.6, 1 - 1 / 3),
        ("t ʃ z", "tʃ z", 1.0, 1 - 2 / 2),
        ("", "oʊ", 0.0, 0.0),
        ("a b c d e", "aɪ", -1.0, -4.0),
    ],
)
def test_by_hand(generated: str, reference: str, characters: float, phonemes: float) -> None:
    assert lps(generated, reference).value == pytest.approx(characters)
    assert lps_tokens(generated, reference).value == pytest.approx(phonemes)


@pytest.mark.parametrize("metric", [lps, lps_tokens])
@pytest.mark.parametrize("generated", ["", "t iː"])
@pytest.mark.parametrize("reference", ["", " "])
def test_a_reference_without_phonemes_is_a_failure(
    metric: Any, generated: str, reference: str
) -> None:
    with pytest.raises(EmptyReferencePhonemes, match="no phoneme heard in the reference"):
        metric(generated, reference)
    assert EmptyReferencePhonemes.code == "empty_reference_phonemes"


TEXT = st.lists(st.sampled_from(PHONEMES), max_size=8).map(" ".join)


@given(TEXT, TEXT.filter(bool))
@settings(deadline=None)
def test_both_are_at_most_one_and_fall_with_what_is_too_much(said: str, true: str) -> None:
    for metric in (lps, lps_tokens):
        found = metric(said, true)
        assert isinstance(found.value, float)
        assert found.value <= 1
        assert (found.value == 1) == (
            said.split() == true.split()
            if metric is lps_tokens
            else said.replace(" ", "") == true.replace(" ", "")
        )
        assert (
            found.value
            >= 1 - max(found.info["gen_len"], found.info["ref_len"]) / (found.info["ref_len"])
        )
    assert phoneme_similarity(true, true).value == 1


def test_a_record_keeps_both_texts() -> None:
    found = lps("t iː", "d iː")
    assert found.info == {
        "edits": 1,
        "ref_len": 3,
        "gen_len": 3,
        "generated_phonemes": "t iː",
        "reference_phonemes": "d iː",
    }


# The recogniser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A weights folder with a small network under the true name; the network's own folder."""
    pytest.importorskip("torch", reason="LPS needs the extra `asr`")
    pytest.importorskip("transformers", reason="LPS needs the extra `asr`")
    root = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHONOSCOPE_WEIGHTS", str(root))
        yield asr_cases.write_phonemes(root)


@pytest.fixture(scope="module")
def network(folder: Path) -> Wav2Vec2Phonemes:
    found = Wav2Vec2Phonemes()
    with pytest.MonkeyPatch.context() as patch:
        refuse = pytest.fail
        patch.setattr(socket.socket, "connect", lambda *_: refuse("a lookup in the network"))
        patch.setattr(socket, "getaddrinfo", lambda *_: refuse("a lookup in the network"))
        found.load("cpu")
    return found


def test_scores_are_those_of_transformers(folder: Path, network: Wav2Vec2Phonemes) -> None:
    import torch
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    net = Wav2Vec2ForCTC.from_pretrained(folder, local_files_only=True).eval()
    front = Wav2Vec2FeatureExtractor.from_pretrained(folder, local_files_only=True)
    texts = set()
    for seed in range(4):
        clip = sound(seed, 0.5 + seed)
        asked = front(clip.samples, sampling_rate=RATE, return_tensors="pt", padding=True)
        with torch.inference_mode():
            scores = net(**asked).logits[0].numpy()
        np.testing.assert_allclose(network.scores(clip), scores, rtol=1e-4, atol=1e-4)
        assert np.array_equal(network.scores(clip).argmax(-1), scores.argmax(-1))
        texts |= set(network([clip]))
    assert len(texts) == 4
    assert len({phoneme for text in texts for phoneme in text.split()}) > 10


PATHS = st.lists(
    st.sampled_from([0, 0, 1, 2, 3, 4, 5, 6, *range(4, len(PHONEMES) + 4)]), min_size=1
)


@given(PATHS)
@settings(deadline=None, max_examples=200)
def test_decoding_is_that_of_the_tokenizer(
    folder: Path, network: Wav2Vec2Phonemes, path: list[int]
) -> None:
    """Special tokens stay in the text, as upstream leaves them."""
    assert " ".join(network.tokens(path)) == upstream(folder).decode(path)


def test_decoding_by_hand(network: Wav2Vec2Phonemes) -> None:
    n, s, t = 4, 5, 6
    assert network.tokens([0, n, n, 0, n, s, s, 0, 0, t, 0]) == ["n", "n", "s", "t"]
    assert network.tokens([]) == network.tokens([0, 0]) == []
    assert network.tokens([1_000]) == ["<unk>"]


_upstream: dict[Path, Any] = {}


def upstream(folder: Path) -> Any:
    """Transformers' tokenizer; older versions need phonemizer and espeak even to decode."""
    if folder not in _upstream:
        from transformers import Wav2Vec2PhonemeCTCTokenizer

        vocabulary = str(folder / "vocab.json")
        try:
            _upstream[folder] = Wav2Vec2PhonemeCTCTokenizer(vocabulary, do_phonemize=False)
        except ImportError as error:
            _upstream[folder] = error
    if isinstance(_upstream[folder], ImportError):
        pytest.skip(f"this transformers cannot decode without phonemizer: {_upstream[folder]}")
    return _upstream[folder]


@pytest.mark.parametrize(
    "change", [{"do_normalize": False}, {"return_attention_mask": False}, {"sampling_rate": 8_000}]
)
def test_another_front_end_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    here = tmp_path / folder.relative_to(folder.parents[1])
    here.mkdir(parents=True)
    for file in folder.iterdir():
        (here / file.name).write_bytes(file.read_bytes())
    settings_file = here / "preprocessor_config.json"
    asr_cases.write(settings_file, json.loads(settings_file.read_text()) | change)
    ((key, value),) = change.items()
    with pytest.raises(WeightsMismatch, match=f"{key} = {value}"):
        Wav2Vec2Phonemes().load("cpu")


# As metrics


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, one longer than its reference, one with a silent reference."""
    root = tmp_path_factory.mktemp("clips")
    for name in ("out", "clean"):
        (root / name).mkdir()
    silence = Audio(np.zeros(RATE, np.float32), RATE)
    written = {"out/same": sound(0), "clean/same": sound(0), "out/long": sound(1, 3.0)}
    written |= {"clean/long": sound(2, 1.0), "out/mute": sound(0), "clean/mute": silence}
    for name, clip in written.items():
        media.write_wav(root / f"{name}.wav", clip)
    return root


def test_both_metrics_share_one_network(folder: Path, clips: Path) -> None:
    events: list[Any] = []
    found = scoring.scores(
        clips / "out",
        clips / "clean",
        metrics=["lps", "lps_tokens"],
        engine="serial",
        listeners=[events.append],
    )
    assert [event.view for event in events if isinstance(event, NetworkLoaded)] == [
        wav2vec2_phonemes.name
    ]
    samples = [sample.id for sample in found.line.plan.samples]
    for name in ("lps", "lps_tokens"):
        outcomes = dict(zip(samples, found.line.outcomes[name], strict=True))
        assert isinstance(outcomes["same"], Record)
        assert outcomes["same"].value == 1
        assert isinstance(outcomes["long"], Record)
        assert outcomes["long"].value < 0
        assert isinstance(outcomes["mute"], Failure)
        assert outcomes["mute"].code == "silent_reference"


def test_missing_weights_take_one_column_and_no_other(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path / "cache"))
    found = scoring.scores(clips / "out", clips / "clean", metrics=["lps", "stoi"], engine="serial")
    codes = {item.code for item in found.line.outcomes["lps"] if isinstance(item, Failure)}
    assert codes == {"weights_missing"}
    assert any(isinstance(item, Record) for item in found.line.outcomes["stoi"])
