"""Recognisers of transformers: the same door as real weights, held against upstream's own code."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asr_cases
import numpy as np
import pytest
from asr_cases import RATE, WHISPERS, WORDS, place, sound
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import media, scoring
from phonoscope.errors import NonfiniteOutput, TooLong, WeightsMismatch
from phonoscope.events import NetworkLoaded
from phonoscope.metrics import wer
from phonoscope.metrics.networks import asr
from phonoscope.types import Audio, Clip, Failure
from phonoscope.views import see

torch = pytest.importorskip("torch", reason="recognisers need the extra `asr`")
transformers = pytest.importorskip("transformers", reason="recognisers need the extra `asr`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A weights folder with small networks under the true names."""
    root = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHONOSCOPE_WEIGHTS", str(root))
        asr_cases.write_words(root)
        yield root


def loaded(name: str) -> Any:
    network = getattr(wer, name).make()
    network.load("cpu")
    return network


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whatever asks the network, names of hosts included."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a lookup in the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# CTC


@given(st.lists(st.integers(0, 3), max_size=30))
@settings(deadline=None)
def test_collapse_is_ctc(path: list[int]) -> None:
    kept = [b for a, b in zip([None, *path], path, strict=False) if b != a and b != 0]
    assert asr.collapse(path, 0) == kept


@pytest.mark.parametrize("name", WORDS)
def test_text_and_scores_are_those_of_transformers(name: str, folder: Path, offline: None) -> None:
    here = place(folder, name)
    ours = loaded(name)
    theirs = transformers.Wav2Vec2ForCTC.from_pretrained(here, local_files_only=True).eval()
    front = transformers.Wav2Vec2FeatureExtractor.from_pretrained(here, local_files_only=True)
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(here / "vocab.json"))
    texts = []
    for seed in range(4):
        clip = sound(seed, 0.7 + seed)
        given = front(clip.samples, sampling_rate=RATE, return_tensors="pt")
        assert ("attention_mask" in given) == WORDS[name]
        with torch.inference_mode():
            scores = theirs(**given).logits
        np.testing.assert_allclose(ours.scores(clip), scores[0].numpy(), rtol=1e-4, atol=1e-4)
        (expected,) = tokenizer.batch_decode(scores.argmax(-1))
        texts += ours([clip])
        assert texts[-1] == expected
    assert len(set(texts)) == 4
    assert len(set("".join(texts))) > 10


def test_a_text_does_not_depend_on_what_was_heard_before(folder: Path) -> None:
    used = loaded("wav2vec2")
    clips = [sound(seed, 0.5 + seed / 2) for seed in range(3)]
    together = used([*clips, *clips[::-1]])
    assert together == together[::-1]
    assert together[:3] == [loaded("wav2vec2")([clip])[0] for clip in clips]


def test_the_layout_of_older_files_is_read(folder: Path, tmp_path: Path) -> None:
    """`pytorch_model.bin`, weight norm under its old names, no mask embedding."""
    before = loaded("wav2vec2").scores(sound(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
        state = old_state(copied(folder, tmp_path))
        torch.save(state, place(tmp_path, "wav2vec2") / "pytorch_model.bin")
        assert any(name.endswith("weight_g") for name in state)
        assert np.array_equal(loaded("wav2vec2").scores(sound(0)), before)


def copied(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(place(folder, "wav2vec2"), place(tmp_path, "wav2vec2"))
    return place(tmp_path, "wav2vec2")


def old_state(here: Path) -> dict[str, Any]:
    """Take the values out of a folder, under their names of 2021."""
    net = transformers.Wav2Vec2ForCTC.from_pretrained(here, local_files_only=True)
    (here / "model.safetensors").unlink()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    state.pop("wav2vec2.masked_spec_embed")
    conv = "wav2vec2.encoder.pos_conv_embed.conv"
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        state[f"{conv}.{old}"] = state.pop(f"{conv}.parametrizations.weight.{new}")
    return state


def test_a_file_without_the_last_layer_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream would fill it at random and go on."""
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    here = copied(folder, tmp_path)
    state = old_state(here)
    del state["lm_head.weight"]
    torch.save(state, here / "pytorch_model.bin")
    with pytest.raises(WeightsMismatch, match=r"lm_head\.weight.*weights fetch wav2vec2/"):
        loaded("wav2vec2")


def test_a_bin_with_code_in_it_is_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    here = copied(folder, tmp_path)
    (here / "model.safetensors").unlink()

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path(tmp_path / "ran").write_text, ("x",)

    torch.save({"lm_head.weight": Trap()}, here / "pytorch_model.bin")
    with pytest.raises(WeightsMismatch, match="cannot be read as a Wav2Vec2ForCTC"):
        loaded("wav2vec2")
    assert not (tmp_path / "ran").exists()


def test_another_network_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More labels than the configuration says."""
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    file = copied(folder, tmp_path) / "config.json"
    asr_cases.write(file, json.loads(file.read_text()) | {"vocab_size": 7})
    with pytest.raises(WeightsMismatch, match="Wav2Vec2ForCTC"):
        loaded("wav2vec2")


def test_another_front_end_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    file = copied(folder, tmp_path) / "preprocessor_config.json"
    asr_cases.write(file, json.loads(file.read_text()) | {"do_normalize": False})
    with pytest.raises(WeightsMismatch, match=r"do_normalize = False, but .* with True"):
        loaded("wav2vec2")


def test_a_network_that_gives_nan_is_a_failure(folder: Path) -> None:
    network = loaded("wav2vec2")
    network._net.lm_head.bias.fill_(torch.nan)
    with pytest.raises(NonfiniteOutput, match="NaN"):
        network([sound(0)])


@pytest.mark.parametrize("name", [*WORDS, *WHISPERS])
def test_half_precision_files_are_worked_in_float32(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    shutil.copytree(place(folder, name), place(tmp_path, name))
    kind = "Wav2Vec2ForCTC" if name in WORDS else "WhisperForConditionalGeneration"
    net = getattr(transformers, kind).from_pretrained(place(folder, name), local_files_only=True)
    net.half().save_pretrained(place(tmp_path, name))
    found = {value.dtype for value in loaded(name)._net.state_dict().values()}
    assert found == {torch.float32}


# Whisper


def uncached(network: Any, features: Any) -> list[int]:
    """Decode without the memory of earlier steps, by the words of the definition."""
    rules, found = network._rules, list[int]()
    while len(network.prompt) + len(found) < rules["max_length"]:
        tokens = torch.tensor([[*network.prompt, *found]])
        scores = network._net(features, decoder_input_ids=tokens, use_cache=False).logits[0, -1]
        barred = {*rules["suppress_tokens"], *([] if found else rules["begin_suppress_tokens"])}
        best = max((i for i in range(len(scores)) if i not in barred), key=lambda i: scores[i])
        if best == rules["eos_token_id"]:
            break
        found.append(best)
    return found


@pytest.mark.parametrize("name", WHISPERS)
def test_tokens_are_those_of_the_definition(name: str, folder: Path, offline: None) -> None:
    network = loaded(name)
    with torch.inference_mode():
        features = [network.features(sound(seed)) for seed in range(3)]
        found = [network.labels(each) for each in features]
        assert found == [uncached(network, each) for each in features]
    assert len({tuple(labels) for labels in found}) == 3


@pytest.mark.parametrize("name", WHISPERS)
def test_tokens_are_those_of_transformers(name: str, folder: Path) -> None:
    """Its `generate` counts the prompt into the longest text, or not, with its version."""
    here = place(folder, name)
    net = transformers.WhisperForConditionalGeneration.from_pretrained(here, local_files_only=True)
    front = transformers.WhisperFeatureExtractor.from_pretrained(here, local_files_only=True)
    asked = {"language": "en", "task": "transcribe"} if WHISPERS[name] else {}
    network = loaded(name)
    for seed in range(3):
        clip = sound(seed)
        given = front(clip.samples, sampling_rate=RATE, return_tensors="pt").input_features
        with asr.quiet(), torch.inference_mode():
            theirs = net.eval().generate(given, do_sample=False, num_beams=1, **asked)[0].tolist()
            ours = network.labels(network.features(clip))
        end = network._rules["eos_token_id"]
        theirs = [label for label in theirs if label < end]
        assert len(ours) > 5
        assert ours == theirs[: len(ours)]
        assert len(theirs) - len(ours) <= len(network.prompt)


def test_the_prompt_asks_for_english(folder: Path) -> None:
    ids = json.loads((place(folder, "whisper_large_v3") / "tokenizer.json").read_text())
    known = {token["content"]: token["id"] for token in ids["added_tokens"]}
    english = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    assert loaded("whisper_large_v3").prompt == [known[name] for name in english]
    assert loaded("whisper_base_en").prompt == [known[name] for name in (english[0], english[3])]


def test_a_text_ends_where_the_network_ends_it(folder: Path) -> None:
    network = loaded("whisper_base_en")
    with torch.inference_mode():
        features = network.features(sound(0))
        whole = network.labels(features)
        network._rules = {**network._rules, "eos_token_id": whole[5]}
        assert network.labels(features) == whole[: whole.index(whole[5])]


def test_special_tokens_and_timestamps_are_no_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = loaded("whisper_base_en")
    said = network._tokenizer.encode(" hi you<|0.40|> and<|endoftext|><|en|>").ids
    monkeypatch.setattr(network, "labels", lambda features: said)
    assert network([sound(0)]) == ["hi you and"]


def test_whisper_hears_30_seconds(folder: Path) -> None:
    network = loaded("whisper_base_en")
    longest = Audio(np.tile(sound(0, 1.0).samples, 30), RATE)
    assert len(network([longest])) == 1
    with pytest.raises(TooLong, match=r"too_long: 30\.00 s, Whisper hears 30 s"):
        network([Audio(np.append(longest.samples, np.float32(0)), RATE)])


# As metrics


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    lines = []
    (root / "out").mkdir()
    for seed in range(3):
        media.write_wav(root / "out" / f"s{seed}.wav", sound(seed))
        lines.append(f"s{seed}\tdon't count 21 words\n")
    media.write_wav(root / "out" / "silent.wav", Audio(np.zeros(RATE, np.float32), RATE))
    (root / "texts.tsv").write_text("".join([*lines, "silent\tnothing\n"]))
    return root


def scored(clips: Path, *metrics: str, listeners: Any = ()) -> scoring.Scores:
    return scoring.scores(
        clips / "out",
        metrics=metrics,
        transcripts=clips / "texts.tsv",
        engine="serial",
        listeners=listeners,
    )


def test_all_metrics_of_a_recogniser_share_one_network(folder: Path, clips: Path) -> None:
    events: list[Any] = []
    stems = ("wer_whisper_base_en", "wer_whisper_base_en_whisper_basic", "wer_wav2vec2")
    names = (*stems, *(f"{stem}_corpus" for stem in stems))
    found = scored(clips, *names, listeners=[events.append])
    loads = [event.view for event in events if isinstance(event, NetworkLoaded)]
    assert sorted(loads) == ["wav2vec2", "whisper_base_en"]
    assert {name: (item.n, item.n_failed) for name, item in found.estimates.items()} == (
        dict.fromkeys(names, (3, 1))
    )
    outcomes = found.line.outcomes["wer_wav2vec2"]
    assert [item.code for item in outcomes if isinstance(item, Failure)] == ["silent_audio"]


def test_a_record_says_how_it_came_about(folder: Path, clips: Path) -> None:
    found = scored(clips, "wer_whisper_base_en", "wer_whisper_base_en_whisper_basic")
    records = {name: row[0] for name, row in found.line.outcomes.items()}
    one, other = (record.info for record in records.values())
    assert one["recognised"] == other["recognised"] != ""
    assert one["transcript_words"] == "don't count twenty one words"
    assert other["transcript_words"] == "don t count 21 words"
    assert (one["normaliser"], other["normaliser"]) == ("words_v1", "whisper_basic")
    assert (one["ref_words"], other["ref_words"]) == (5, 5)
    assert one["edits"] <= max(one["ref_words"], one["gen_words"])


def test_missing_weights_take_one_column_and_no_other(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path / "cache"))
    found = scored(clips, "dnsmos_p808", "wer_whisper_large_v3")
    assert (found.estimates["dnsmos_p808"].n, found.estimates["dnsmos_p808"].n_failed) == (3, 1)
    outcomes = found.line.outcomes["wer_whisper_large_v3"]
    assert {item.code for item in outcomes if isinstance(item, Failure)} == {"weights_missing"}
    assert len(outcomes) == 4
    assert "weights fetch whisper/whisper-large-v3" in str(outcomes[0])


@pytest.mark.parametrize("name", [*WORDS, *WHISPERS])
def test_another_rate_or_shape_is_a_programming_error(name: str, folder: Path) -> None:
    network, clip = loaded(name), sound(0)
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 8000"):
        network([Audio(clip.samples, 8_000)])
    with pytest.raises(ValueError, match="wrong_shape"):
        network([Audio(np.stack([clip.samples] * 2, 1), RATE)])


def test_a_clip_over_30_seconds_fails_alone(folder: Path, tmp_path: Path) -> None:
    paths = [
        media.write_wav(tmp_path / f"{name}.wav", sound(1, seconds))
        for name, seconds in (("long", 30.5), ("short", 1.0))
    ]
    long, short = see(wer.whisper_base_en, [Clip(str(path)) for path in paths])
    assert isinstance(long, Failure) and long.code == "too_long"
    assert isinstance(short, str)
