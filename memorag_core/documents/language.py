"""The language of a text, told at sight: by its script, and by py3langid where languages share the script.

In: any text. Out: a two-letter code. Knows no prompts and no model.

Most scripts have one language that nearly all of their texts are in, so a question of three words in Hangul
or Thai is told safely by looking. Latin, Cyrillic, Arabic and Devanagari letters are shared by many: there
py3langid (a naive Bayes classifier over bytes; Lui and Baldwin 2012, retrained) decides. Its word is taken
where it is clear, because names and figures alone belong to every language: for them stands the script's
most common language.
"""

from __future__ import annotations

from typing import Any

import regex

from memorag_core.documents.words import shown
from memorag_core.system.locking import Lock
from memorag_core.system.logs import quiet

quiet("py3langid.langid")

_SCRIPTS = {
    "zh": "Han",
    "ja": "Hiragana Katakana",
    "ko": "Hangul",
    "el": "Greek",
    "he": "Hebrew",
    "bn": "Bengali",
    "ta": "Tamil",
    "te": "Telugu",
    "kn": "Kannada",
    "ml": "Malayalam",
    "gu": "Gujarati",
    "pa": "Gurmukhi",
    "or": "Oriya",
    "si": "Sinhala",
    "th": "Thai",
    "lo": "Lao",
    "km": "Khmer",
    "my": "Myanmar",
    "am": "Ethiopic",
    "ka": "Georgian",
    "hy": "Armenian",
    "ru": "Cyrillic",
    "ar": "Arabic",
    "hi": "Devanagari",
    "en": "Latin",
}
"""The most common language of a script, and the script's letters."""

_SHARED = ("en", "ru", "ar", "hi")
"""Those whose script says too little."""

_UNSPACED = ("zh", "ja", "th", "lo", "km", "my")


def _letters(names: str) -> str:
    return "".join(rf"\p{{{name}}}" for name in names.split())


_UNITS = {
    code: regex.compile(f"[{_letters(names)}]" + ("" if code in _UNSPACED else "+"))
    for code, names in _SCRIPTS.items()
}
"""What is counted: words, or signs where words have no spaces. Two foreign names of thirty letters in a
Chinese question of six signs are two against six."""

_OTHER_LETTERS = {
    code: regex.compile(rf"[\p{{L}}--[{_letters(_SCRIPTS[code])}\p{{Inherited}}]]", regex.V1)
    for code in _SHARED
}

# Names and scraps come out below the first ("Mara Venn" is 4 % Breton), short questions well above it. The
# second leaves the common language where a sister is hardly likelier (Russian questions are 32 % Bulgarian).
_LEAST_PROBABILITY, _LEAST_RATIO = 0.2, 3

_SAMPLES, _SAMPLE_SIZE = 20, 1000


def detect_language(text: str) -> str:
    """The language of a text by its script, and by its letters where several languages share the script.

    Long texts are sampled throughout, so that a foreign title or preface does not decide. The same text has
    always the same language. Any number of threads may ask; the first that has to waits about half a second
    for the classifier to load.

    Args:
        text: Any text, a question as well as a book.

    Returns:
        A two-letter code (ISO 639-1) such as "zh", "ja", "ko", "ru", "ar" or "es"; where nothing speaks for
        another, the script's most common one, and "en" where there are no letters.
    """
    sample = shown(_sample(text))  # accents and soft hyphens make no more words of one
    found = {code: len(units.findall(sample)) for code, units in _UNITS.items()}
    # Japanese is written in both; one kana in ten characters is more than a quotation in a Chinese text.
    if found["ja"] * 9 >= found["zh"] > 0:
        found["ja"] += found.pop("zh")
    common = max(found, key=lambda code: found[code])  # the earlier in the table where two are as many
    if not found[common]:
        return "en"
    if common not in _SHARED:
        return common
    return _clear_language(_OTHER_LETTERS[common].sub(" ", sample), common)


def _clear_language(text: str, common: str) -> str:
    """The likeliest language of a text in one script, if it is clear; else the script's common one."""
    likely: dict[str, float] = dict(_identifier().rank(text))
    best = max(likely, key=lambda code: (likely[code], code))
    clear = likely[best] >= max(_LEAST_PROBABILITY, _LEAST_RATIO * likely[common])
    return best if clear else common


_loading = Lock()
_loaded: list[Any] = []


def _identifier() -> Any:
    """py3langid's classifier over all languages with a two-letter code; loaded once, then only read."""
    if not _loaded:
        with _loading:
            if not _loaded:
                from py3langid.langid import MODEL_FILE, LanguageIdentifier

                identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
                identifier.set_languages([code for code in identifier.labels if len(code) == 2])
                _loaded.append(identifier)
    return _loaded[0]


def _sample(text: str) -> str:
    if len(text) <= _SAMPLES * _SAMPLE_SIZE:
        return text
    stride = len(text) // _SAMPLES
    return "\n".join(text[start : start + _SAMPLE_SIZE] for start in range(0, stride * _SAMPLES, stride))
