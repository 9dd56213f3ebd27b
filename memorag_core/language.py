"""The language of a text, told at sight.

In: any text. Out: a two-letter code. Knows no prompts and no model.
"""

from __future__ import annotations

import regex

_SCRIPTS = {
    "zh": regex.compile(r"\p{Han}"),
    "ja": regex.compile(r"[\p{Hiragana}\p{Katakana}]"),
    "ko": regex.compile(r"\p{Hangul}"),
    "ru": regex.compile(r"\p{Cyrillic}"),
    "ar": regex.compile(r"\p{Arabic}"),
    "he": regex.compile(r"\p{Hebrew}"),
    "el": regex.compile(r"\p{Greek}"),
    "hi": regex.compile(r"\p{Devanagari}"),
    "bn": regex.compile(r"\p{Bengali}"),
    "ta": regex.compile(r"\p{Tamil}"),
    "th": regex.compile(r"\p{Thai}"),
    "ka": regex.compile(r"\p{Georgian}"),
    "hy": regex.compile(r"\p{Armenian}"),
    "en": regex.compile(r"\p{Latin}"),
}
"""A script's most common language. Languages that share a script are told apart below, or not at all."""

_LETTERS_A_SYLLABLE = 3  # a Han character says about as much as three letters, so it counts for three here
_SYLLABIC = ("zh", "ja", "ko")

# Frequent words that the other languages written in Latin letters do not have.
_LATIN_WORDS = {
    "en": "the of and to is was that it for with his her he she you this they who which how did does".split(),
    "es": "el los las del y una por con su que es quién qué cómo cuál cuándo dónde está también".split(),
    "fr": "le les des du et est une dans pour qui sur il elle au aux avec ce cette où quel était".split(),
    "de": "der die das und ist nicht ein eine mit von den dem zu im auf sich wer wie wo welche wurde".split(),
    "it": "il gli della di che è una per con nel del sono chi cosa dove quando perché anche".split(),
    "pt": "o os as da do dos uma não com em para que é quem onde quando como está também são".split(),
    "nl": "het een van en is niet met zijn voor op dat wie waar wat hoe werd naar".split(),
}
_WORD = regex.compile(r"\p{Latin}+")

_SAMPLES, _SAMPLE_SIZE = 20, 1000


def detect_language(text: str) -> str:
    """The language of a text by its script, and by frequent words where the script is Latin.

    Long texts are sampled throughout, so that a foreign title or preface does not decide.

    Args:
        text: Any text, a question as well as a book.

    Returns:
        A two-letter code such as "zh", "ja", "ko", "ru", "ar" or "es"; "en" where nothing speaks for another.
    """
    sample = _sample(text)
    found = {code: len(script.findall(sample)) for code, script in _SCRIPTS.items()}
    for code in _SYLLABIC:
        found[code] *= _LETTERS_A_SYLLABLE
    # Japanese is written in both; one kana in ten characters is more than a quotation in a Chinese text.
    if found["ja"] * 9 >= found["zh"] > 0:
        found["ja"] += found.pop("zh")
    code = max(found, key=lambda code: (found[code], code == "en"))
    return _latin_language(sample) if code == "en" else code


def _latin_language(sample: str) -> str:
    words = _WORD.findall(sample.casefold())
    hits = {code: sum(map(words.count, known)) for code, known in _LATIN_WORDS.items()}
    return max(hits, key=lambda code: (hits[code], code == "en"))


def _sample(text: str) -> str:
    if len(text) <= _SAMPLES * _SAMPLE_SIZE:
        return text
    stride = len(text) // _SAMPLES
    return "\n".join(text[start : start + _SAMPLE_SIZE] for start in range(0, stride * _SAMPLES, stride))
