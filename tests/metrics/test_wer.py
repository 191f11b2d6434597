"""Normalisers, word errors, and the GRID recogniser."""

from __future__ import annotations

import pickle
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import catalogue, media, plugins
from phonoscope.errors import EmptyReferenceText, SilentAudio, UnknownName
from phonoscope.measure import lacks
from phonoscope.metrics import wer
from phonoscope.metrics.lps import lps
from phonoscope.metrics.text import NORMALISERS, words
from phonoscope.metrics.wer import (
    GRID,
    grid_grammar,
    pcm16,
    pocketsphinx_grid,
    wer_pocketsphinx_grid,
    wer_pocketsphinx_grid_corpus,
    word_errors,
)
from phonoscope.plugins import METRICS
from phonoscope.registry import Registry
from phonoscope.stats import estimate
from phonoscope.types import Audio, Clip, Failure, Ratio, Record
from phonoscope.views import see

pytest.importorskip("pocketsphinx", reason="pocketsphinx comes with the extra `demo`")


def cases(parity: Any, metric: str, kind: str) -> list[dict[str, Any]]:
    found = [
        case
        for case in parity("speech")["cases"]
        if case["metric"] == metric and case.get("input", {}).get("kind") == kind
    ]
    assert found, f"no golden case of {metric} with {kind}"
    return found


def rate(record: Record) -> float:
    assert isinstance(record.value, Ratio)
    return record.value.numerator / record.value.denominator


# Normalisers


def test_normalisers_agree_with_the_golden_table(parity: Any) -> None:
    table = cases(parity, "text_normaliser", "text")
    wrong = [
        (case["mode"], case["input"]["text"], got)
        for case in table
        if (got := " ".join(words(case["input"]["text"], case["mode"]))) != case["value"]
    ]
    assert not wrong
    assert {case["mode"] for case in table} == set(NORMALISERS) - {"whisper_basic"}


_WORDS = "won't can't let's don't n't 's 'll I'm a b \u00e9 Z"
_SIGNS = ["[", "]", "<", ">", "'", "\u2019", "-", "\u2014", ".", "!", "?"]
_BLANKS = [" ", "\t", "\n", "\u00a0", "\u2003"]
PIECES = st.sampled_from([*_WORDS.split(), *_SIGNS, *_BLANKS])


@given(st.lists(PIECES, max_size=10).map("".join))
@settings(deadline=None)
def test_evalse_tfs_is_what_jiwer_makes_of_text_without_numbers(text: str) -> None:
    from jiwer import transforms

    chain = transforms.Compose(
        [
            transforms.ToLowerCase(),
            transforms.ExpandCommonEnglishContractions(),
            transforms.RemoveKaldiNonWords(),
            transforms.RemoveWhiteSpace(replace_by_space=True),
            transforms.RemoveMultipleSpaces(),
            transforms.Strip(),
            transforms.RemovePunctuation(),
            transforms.ReduceToListOfListOfWords(),
        ]
    )
    expected = chain(text)
    assert words(text, "evalse_tfs") == (expected[0] if expected else [])


SIGNS = st.sampled_from([*"()[]<>'-$+\u00e9\u0301\u00b2\ufb01\u0130", "(laughs)", "[x]", "1,000"])


@given(st.lists(st.one_of(PIECES, SIGNS, st.characters()), max_size=10).map("".join))
@settings(deadline=None, max_examples=300)
def test_whisper_basic_is_what_transformers_makes_of_a_text(text: str) -> None:
    pytest.importorskip("transformers", reason="the oracle comes with the extra `asr`")
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    assert words(text, "whisper_basic") == BasicTextNormalizer()(text).split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't (laughs) STOP, it's 21!", "don t stop it s 21"),
        ("[noise] caf\u00e9 \ufb01ne <unk> 3.5", "caf\u00e9 fine 3 5"),
        ("() (a", "a"),
    ],
)
def test_whisper_basic_by_hand(text: str, expected: str) -> None:
    assert " ".join(words(text, "whisper_basic")) == expected


@given(st.text(max_size=60))
@settings(deadline=None)
def test_words_v1_leaves_only_its_alphabet_and_is_stable(text: str) -> None:
    got = words(text, "words_v1")
    assert all(re.fullmatch("[a-z]+('[a-z]+)*", word) for word in got)
    assert words(" ".join(got), "words_v1") == got


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "1,234,067.50",
            "one million two hundred and thirty four thousand and sixty seven point five zero",
        ),
        ("in 1,2 or 12,34", "in one two or twelve thirty four"),
        ("dogs' \u2018bones\u2019", "dogs bones"),
        ("a''b rock 'n' roll", "ab rock n roll"),
        ("<b>x</b> [music]", "x"),
    ],
)
def test_words_v1_by_hand(text: str, expected: str) -> None:
    assert " ".join(words(text, "words_v1")) == expected


def test_an_unknown_normaliser_is_named() -> None:
    with pytest.raises(UnknownName, match=r"'words_v2'.*charset28.*words_v1"):
        words("a", "words_v2")


# Word errors


def test_word_errors_agree_with_the_golden_texts(parity: Any) -> None:
    for case in cases(parity, "wer_quartznet", "texts"):
        texts, aux = case["input"], case["aux"]
        record = word_errors(texts["generated"], texts["reference"], normaliser=case["mode"])
        assert rate(record) == pytest.approx(case["value"], abs=max(case["abs_tol"], 5e-7)), case
        assert {name: record.info[name] for name in aux} == aux


def test_utterance_mean_and_corpus_rate_differ_as_in_the_golden_pairs(parity: Any) -> None:
    for name, metric in (
        ("wer_quartznet", wer_pocketsphinx_grid),
        ("wer_quartznet_corpus", wer_pocketsphinx_grid_corpus),
    ):
        (case,) = cases(parity, name, "pairs")
        records = [
            word_errors(generated, reference, normaliser=case["mode"])
            for reference, generated in case["input"]["pairs"]
        ]
        found = estimate([r.value for r in records], ["a", "b"], aggregate=metric.aggregate)
        assert found.value == pytest.approx(case["value"], abs=5e-7)
        if "aux" in case:
            assert found.std == pytest.approx(case["aux"]["std_ddof0"], abs=5e-7)


def test_mean_and_std_of_the_golden_records(parity: Any) -> None:
    (case,) = cases(parity, "aggregate", "records")
    values, aux = case["input"]["values"], case["aux"]
    found = estimate(values, [str(i) for i in range(len(values))], n_failed=case["input"]["failed"])
    assert found.value == pytest.approx(case["value"], abs=case["abs_tol"])
    assert found.std == pytest.approx(aux["std"], abs=case["abs_tol"])
    assert (found.n, found.n_failed) == (aux["n"], aux["n_failed"])


def test_nothing_recognised_is_a_rate_of_one() -> None:
    record = wer_pocketsphinx_grid("", "bin blue at f two now")
    assert record.value == Ratio(6, 6)
    assert record.info["gen_words"] == 0


def test_the_rate_is_not_capped() -> None:
    assert rate(wer_pocketsphinx_grid("a b c d e", "now")) == 5


@pytest.mark.parametrize("metric", [wer_pocketsphinx_grid, wer_pocketsphinx_grid_corpus])
@pytest.mark.parametrize("text", ["", "  ", "[laughter]", "?!"])
def test_a_transcript_without_words_is_a_failure(metric: Any, text: str) -> None:
    with pytest.raises(EmptyReferenceText, match="words_v1 leaves no word of"):
        metric("bin blue", text)


@given(st.lists(st.sampled_from("ab cd ef".split()), max_size=6), st.data())
@settings(deadline=None)
def test_word_errors_are_a_distance(said: list[str], data: st.DataObject) -> None:
    said = ["x", *said]
    heard = data.draw(st.lists(st.sampled_from(["x", "ab", "cd"]), max_size=6))
    edits = word_errors(" ".join(heard), " ".join(said), normaliser="raw").value.numerator
    assert abs(len(said) - len(heard)) <= edits <= max(len(said), len(heard))
    assert (edits == 0) == (said == heard)


# All recognisers


def test_the_table_of_the_docstring_is_what_is_registered() -> None:
    rows = [line.split() for line in (wer.__doc__ or "").splitlines() if line.startswith("wer_")]
    table = {row[0]: [part for part in row[1:] if part in NORMALISERS] for row in rows}
    stems = {
        name if number == 0 else f"{name}_{normaliser}": normaliser
        for name, normalisers in table.items()
        for number, normaliser in enumerate(normalisers)
    }
    assert len(rows) >= 6
    assert set(stems) == {name for name in WERS if not name.endswith("_corpus")}
    for stem, normaliser in stems.items():
        for name in (stem, f"{stem}_corpus"):
            found = METRICS.get(name)("nothing", "nothing")
            assert found.info["normaliser"] == normaliser, name
            label = METRICS.get(name).label
            assert "GRID" in label or normaliser in label


WERS = sorted(name for name in METRICS if name.startswith("wer_"))


@pytest.mark.parametrize("name", WERS)
def test_edge_cases_of_every_word_error_rate(name: str) -> None:
    """Nothing heard, more heard than said, nothing said; the mean or all edits over all words."""
    metric = METRICS.get(name)
    assert metric("", "hello world").value == Ratio(2, 2)
    assert metric("x y z w v", "a b").value == Ratio(5, 2)
    assert metric("hello world", "hello world").value == Ratio(0, 2)
    for nothing in ("", " \n"):
        with pytest.raises(EmptyReferenceText):
            metric("hello", nothing)
    records = [metric("a b", "a b").value, metric("x y z w v", "a").value]
    found = estimate(records, ["a", "b"], aggregate=metric.aggregate)
    assert found.value == pytest.approx(5 / 3 if name.endswith("_corpus") else 5 / 2)


def test_metrics_of_one_recogniser_see_the_same_view() -> None:
    seen = {METRICS.get(name).views["generated"] for name in WERS if "quartznet" in name}
    assert seen == {wer.quartznet}
    assert len([name for name in WERS if "quartznet" in name]) == 8


def test_another_combination_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "METRICS", Registry("metric"))
    made = wer.word_error_rate(
        "wer_mine", pocketsphinx_grid, recogniser="mine", normaliser="raw", corpus=True
    )
    assert plugins.METRICS.get("wer_mine") is made
    assert made.label == "WER (mine, raw, corpus)"
    assert made("A b", "a b").value == Ratio(1, 2)
    import cloudpickle

    again = cloudpickle.loads(cloudpickle.dumps(made))
    assert again("A b", "a b").value == Ratio(1, 2)


@pytest.mark.parametrize("name", WERS)
def test_a_worker_finds_a_metric_by_its_name(name: str) -> None:
    sent = pickle.dumps(METRICS.get(name))
    assert len(sent) < 300
    assert pickle.loads(sent) is METRICS.get(name)


def test_a_recogniser_whose_package_is_absent_takes_its_column_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And says which command installs it."""
    absent = {"nemo", "transformers"}
    monkeypatch.setattr(
        "phonoscope.measure.missing_packages", lambda names: [n for n in names if n in absent]
    )
    for name, package, extra in (
        ("wer_quartznet", "nemo", "nemo"),
        ("wer_whisper_large_v3", "transformers", "asr"),
        (lps.name, "transformers", "asr"),
    ):
        reason = lacks(METRICS.get(name))
        assert reason is not None
        assert (reason.code, package in reason.error) == ("dependency_missing", True)
        assert catalogue.install([package]) == f"pip install 'phonoscope[{extra}]'"
    assert lacks(METRICS.get("wer_pocketsphinx_grid")) is None


# Recogniser


def test_the_grammar_holds_the_sentences_of_grid() -> None:
    assert [len(options.split()) for options in GRID.values()] == [4, 4, 4, 25, 10, 4]
    assert "w" not in GRID["letter"].split()
    assert grid_grammar().startswith(
        "#JSGF V1.0;\ngrammar grid;\n<command> = bin | lay | place | set;"
    )


def test_pcm16_saturates_and_keeps_16_bit_sound() -> None:
    whole = np.arange(-32_768, 32_768, dtype=np.int16)
    floats = whole.astype(np.float32) / np.float32(32_768)
    assert (np.frombuffer(pcm16(floats), "<i2") == whole).all()
    assert list(np.frombuffer(pcm16(np.array([2.0, -2.0, 1.0])), "<i2")) == [
        32_767,
        -32_768,
        32_767,
    ]


def grid_clips(shared_data: Path) -> dict[str, tuple[Clip, str]]:
    lines = (shared_data / "grid" / "transcripts.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line]
    return {name: (Clip(str(shared_data / "grid" / f"{name}.mpg")), text) for name, text in rows}


@pytest.fixture(scope="module")
def heard(shared_data: Path) -> dict[str, tuple[str, str]]:
    clips = grid_clips(shared_data)
    texts = see(pocketsphinx_grid, [clip for clip, _ in clips.values()])
    return {
        name: (text, said) for (name, (_, said)), text in zip(clips.items(), texts, strict=True)
    }


def test_real_grid_clips_are_mostly_understood(heard: dict[str, tuple[str, str]]) -> None:
    """Six clips are heard without a mistake or with one wrong letter; chance is near 0.79."""
    records = [wer_pocketsphinx_grid(text, said) for text, said in heard.values()]
    assert len(records) == 8
    assert np.mean([rate(record) for record in records]) <= 0.2
    assert all(
        set(text.split()) <= set(" ".join(GRID.values()).split()) for text, _ in heard.values()
    )


def test_what_is_heard_depends_on_no_clip_before_it(
    shared_data: Path, heard: dict[str, tuple[str, str]]
) -> None:
    clips = grid_clips(shared_data)
    sounds = {name: media.read_audio(clip, rate=16_000) for name, (clip, _) in clips.items()}
    order = list(sounds)
    random.Random(3).shuffle(order)
    used = pocketsphinx_grid.make()
    used.load("cpu")
    batch = used([sounds[name] for name in order + order])
    for name, text in zip(order + order, batch, strict=True):
        assert text == heard[name][0]
    for name in order[:3]:
        fresh = pocketsphinx_grid.make()
        fresh.load("cpu")
        assert fresh([sounds[name]]) == [heard[name][0]]


def test_the_decoders_scores_do_not_depend_on_what_came_before(shared_data: Path) -> None:
    """Texts may agree by luck; scores are finer."""
    clips = grid_clips(shared_data)
    sounds = [media.read_audio(clip, rate=16_000) for clip, _ in clips.values()][:4]

    def scores(network: Any, several: list[Audio]) -> list[float]:
        return [(network([sound]), network.decoder.hyp().score)[1] for sound in several]

    used, fresh = pocketsphinx_grid.make(), pocketsphinx_grid.make()
    used.load("cpu")
    fresh.load("cpu")
    assert scores(used, sounds + sounds)[4:] == scores(fresh, sounds)


def test_a_silent_clip_is_refused_before_the_recogniser_sees_it(tmp_path: Path) -> None:
    path = media.write_wav(tmp_path / "silent.wav", Audio(np.zeros(16_000, np.float32), 16_000))
    (outcome,) = see(pocketsphinx_grid, [Clip(str(path))])
    assert isinstance(outcome, Failure)
    assert outcome.code == SilentAudio.code


def test_another_rate_is_a_programming_error() -> None:
    network = pocketsphinx_grid.make()
    network.load("cpu")
    with pytest.raises(ValueError, match="wrong_rate: expected 16000, got 8000"):
        network([Audio(np.zeros(8_000, np.float32), 8_000)])


def test_noise_without_words_gives_a_text_and_no_error() -> None:
    network = pocketsphinx_grid.make()
    network.load("cpu")
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    (text,) = network([Audio(noise, 16_000)])
    assert isinstance(text, str)
