"""Small recognisers with seeded random weights, in folders of the official layout."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np

from phonoscope import plugins, weights
from phonoscope.types import Audio
from phonoscope.views import VIEWS

plugins.discover()
RATE = 16_000
LETTERS = "|ETAONIHSRDLUMWCFGYPBVK'XJQZ"
PHONEMES = "n s t ə l a i k d m ɛ ɾ e ɪ p o ɐ z ð f j v b ɹ iː tʃ aɪ oʊ dʒ eɪ".split()  # noqa: RUF001
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
WHISPER_SPECIAL = (
    "<|endoftext|> <|startoftranscript|> <|en|> <|de|> <|translate|> <|transcribe|> <|startoflm|> "
    "<|startofprev|> <|nospeech|> <|notimestamps|>"
).split()
WORDS = {"wav2vec2_base": False, "wav2vec2": True}  # whether the front end gives a mask
WHISPERS = {"whisper_base_en": False, "whisper_large_v3": True}  # whether it is multilingual


def place(root: Path, view: str) -> Path:
    """Where the weights of a recogniser's view lie."""
    (name,) = VIEWS.get(view).weights
    return root / weights.WEIGHTS.get(name).file


def write_words(root: Path) -> None:
    """Write a folder of every recogniser of words that transformers has."""
    for name, mask in WORDS.items():
        wav2vec2(place(root, name), LETTERS, mask=mask)
    for name, multilingual in WHISPERS.items():
        bands = 128 if multilingual else 80
        whisper(place(root, name), multilingual=multilingual, bands=bands)


def write_phonemes(root: Path) -> Path:
    """Write the folder of the recogniser of phonemes, and return it."""
    folder = place(root, "wav2vec2_phonemes")
    wav2vec2(folder, PHONEMES, mask=True, seed=1)
    return folder


def write(path: Path, what: Any) -> None:
    path.write_text(json.dumps(what, indent=2, ensure_ascii=False), encoding="utf-8")


def labelled(tokens: tuple[str, ...]) -> dict[str, int]:
    return {token: label for label, token in enumerate(tokens)}


def wav2vec2(folder: Path, tokens: str | list[str], *, mask: bool, seed: int = 0) -> Any:
    """Write a folder like `facebook/wav2vec2-*`; return the network that is in it."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    vocabulary = labelled((*SPECIAL, *tokens))
    torch.manual_seed(seed)
    config = Wav2Vec2Config(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer" if mask else "group",
        do_stable_layer_norm=mask,
        conv_bias=mask,
        initializer_range=0.5,
        pad_token_id=0,
    )
    net = Wav2Vec2ForCTC(config).eval()
    talkative(net)
    net.save_pretrained(folder)
    write(folder / "vocab.json", vocabulary)
    front_end = {"do_normalize": True, "feature_size": 1, "padding_side": "right"}
    front_end |= {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "padding_value": 0.0}
    front_end |= {"return_attention_mask": mask, "sampling_rate": 16_000}
    write(folder / "preprocessor_config.json", front_end)
    return net


def sound(seed: int, seconds: float = 1.5) -> Audio:
    """Noise whose colour and level change, so that a network hears different things."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(int(seconds * RATE))
    smooth = np.convolve(noise, np.hanning(9), "same")
    change = np.sin(np.linspace(0, 2 * np.pi * (seed + 1), len(noise)))
    return Audio((0.1 * (noise * change + smooth * (1 - change))).astype(np.float32), RATE)


def talkative(net: Any) -> None:
    """Make all labels about equally likely, so that different sounds get different texts."""
    import torch

    heard = [torch.from_numpy(sound(seed).samples)[None] for seed in range(3)]
    with torch.inference_mode():
        scores = torch.cat([net((clip - clip.mean()) / clip.std()).logits[0] for clip in heard])
    with torch.no_grad():
        net.lm_head.weight /= scores.std(0)[:, None]
        net.lm_head.bias.copy_(-scores.mean(0) / scores.std(0))


def whisper(folder: Path, *, multilingual: bool, bands: int = 80, seed: int = 0) -> Any:
    """Write a folder like `openai/whisper-*`; return the network that is in it."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    ids = whisper_tokenizer(folder)
    end = ids["<|endoftext|>"]
    common = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    common["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=len(ids),
        num_mel_bins=bands,
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=64,
        init_std=0.6,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **common,
    )
    net = WhisperForConditionalGeneration(config).eval()
    rules: dict[str, Any] = {"is_multilingual": multilingual, "max_length": 40, **common}
    rules["no_timestamps_token_id"] = ids["<|notimestamps|>"]
    rules["suppress_tokens"] = [label for label in ids.values() if label > end]
    rules["begin_suppress_tokens"] = [ids["Ġ"], end]
    if multilingual:
        rules["lang_to_id"] = {name: ids[name] for name in ("<|en|>", "<|de|>")}
        rules["task_to_id"] = {name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")}
    net.generation_config = GenerationConfig(**rules)
    net.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=bands).save_pretrained(folder)
    return net


def whisper_tokenizer(folder: Path) -> dict[str, int]:
    """Write `tokenizer.json`: bytes, a few words, special tokens, timestamps."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", letter) for letter in string.ascii_lowercase]
    vocabulary = labelled((*alphabet, *("".join(pair) for pair in merges)))
    found = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens(WHISPER_SPECIAL)
    stamps = [AddedToken(f"<|{i * 0.02:.2f}|>", special=False) for i in range(1501)]
    found.add_tokens(stamps)
    folder.mkdir(parents=True, exist_ok=True)
    found.save(str(folder / "tokenizer.json"))
    ids: dict[str, int] = found.get_vocab()
    return ids
