"""Text normalisers: how a transcript becomes words before they are counted.

The name of the normaliser belongs to every word error rate: the same two sentences give different
rates under different normalisers.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType

from phonoscope.errors import UnknownName

# The order matters: "won't" must be seen before "n't", and "let's" before "'s".
_CONTRACTIONS = (
    ("won't", "will not"),
    ("can't", "can not"),
    ("let's", "let us"),
    ("n't", " not"),
    ("'re", " are"),
    ("'s", " is"),
    ("'d", " would"),
    ("'ll", " will"),
    ("'t", " not"),
    ("'ve", " have"),
    ("'m", " am"),
    ("wanna", "want to"),
    ("gonna", "going to"),
)
_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u201b\u02bc"), "'")
_BLANKS = dict.fromkeys(map(ord, string.whitespace), " ")
_TAG = r"[<\[][^>\]]*[>\]]"


def raw(text: str) -> list[str]:
    """Split on whitespace and change nothing."""
    return text.split()


def charset28(text: str) -> list[str]:
    """Keep a-z, the apostrophe and the space. Digits vanish: for references without digits only.

    NFKD without combining marks; typographic apostrophes become ``'``; lower case; any other
    character becomes a space; apostrophes that do not stand between letters are removed.
    """
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    letters = re.sub(r"[^a-z' ]", " ", plain.translate(_APOSTROPHES).lower())
    return re.sub(r"(?<![a-z])'|'(?![a-z])", "", letters).split()


def words_v1(text: str) -> list[str]:
    """Spell numbers, drop tags in brackets, then as `charset28`. The default.

    ``[..]`` and ``<..>`` are removed; commas between thousands are removed; decimals become "int
    point digit digit"; runs of digits become cardinals; hyphens become spaces.
    """
    text = re.sub(_TAG, "", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(\d+)\.(\d+)", _decimal, text)
    return charset28(re.sub(r"\d+", lambda found: f" {_cardinal(found[0])} ", text))


def evalse_tfs(text: str) -> list[str]:
    """Do what sp-uhh/evalse@ad10c23 does, artefacts included: "21" becomes "twentyone".

    A space after each run of digits and dots; stand-alone integers in words; lower case; English
    contractions, "wanna" and "gonna" expanded; ``[..]`` and ``<..>`` removed; single spaces; all
    Unicode punctuation deleted.
    """
    text = re.sub(r"\d[.\d]*", lambda found: f"{found[0]} ", text)
    text = re.sub(r"\b\d+\b", lambda found: _cardinal(found[0]), text).lower()
    for short, long in _CONTRACTIONS:
        text = text.replace(short, long)
    text = re.sub(_TAG, "", text).translate(_BLANKS)
    text = re.sub(r"\s\s+", " ", text).strip()
    kept = "".join(c for c in text if not unicodedata.category(c).startswith("P"))
    return [word for word in kept.split(" ") if word]


def whisper_basic(text: str) -> list[str]:
    """Do what Whisper's `BasicTextNormalizer` does: for any language, numbers stay as they are.

    Lower case; ``[..]``, ``<..>`` and ``(..)`` removed; NFKC; marks, symbols and punctuation become
    spaces, so "don't" is two words.
    """
    text = re.sub(_TAG, "", text.lower())
    text = unicodedata.normalize("NFKC", re.sub(r"\([^)]+?\)", "", text))
    plain = "".join(" " if unicodedata.category(c)[0] in "MSP" else c for c in text)
    return plain.lower().split()


def _decimal(found: re.Match[str]) -> str:
    digits = " ".join(_cardinal(digit) for digit in found[2])
    return f" {_cardinal(found[1])} point {digits} "


def _cardinal(digits: str) -> str:
    from num2words import num2words

    return str(num2words(int(digits)))


NORMALISERS: Mapping[str, Callable[[str], list[str]]] = MappingProxyType(
    {each.__name__: each for each in (raw, charset28, words_v1, evalse_tfs, whisper_basic)}
)


def words(text: str, normaliser: str) -> list[str]:
    """Return the words of `text` under the normaliser of that name.

    Raises
    ------
    UnknownName
        With the names that exist.
    """
    if normaliser not in NORMALISERS:
        known = ", ".join(NORMALISERS)
        raise UnknownName(f"there is no text normaliser {normaliser!r}; there are {known}")
    return NORMALISERS[normaliser](text)
