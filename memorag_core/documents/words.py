"""What a word is, and which spellings of it a reader takes for the same: one rule for the whole package.

In: any text. Out: the same text as a reader sees it, or as words are compared. Knows no language: each sign
is treated by its script.

Signs that nobody sees (soft hyphens, joiners, byte order marks, marks of direction, selectors of variants)
part no word. Folded are case, width and other compatibility forms, the two ways to write an accent, forms of
the apostrophe, the digits of all scripts, the points of Arabic and Hebrew, the forms of alef, ya, kaf, ha and
hamza's seats, the accents of Greek, the stress marks of Cyrillic and the dots of ё, and the dots of the
Turkish i. Not folded are accents of Latin letters (é is not e: in most languages it is another letter),
Traditional and Simplified Chinese, Hiragana and Katakana, and the vowels of Indic scripts and of Thai.
"""

from __future__ import annotations

import re
import unicodedata

import regex

RULE = 2
"""The version of what ``folded`` gives. What was kept by another one is made anew or folded again."""

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts written without spaces between words, for a class of signs."""

LETTERS = r"\p{L}\p{M}\p{N}"
"""What words are of, for a class of signs; a word begins with no mark."""

INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
"""Signs that nobody sees, for a class of signs: format characters and all that is ignored by default, but not
the number signs of Arabic and the like, which are seen."""

APOSTROPHES = "'\u2018\u2019\u201b\u02bb\u02bc\u2032\u055a\uff07\u00b4"
"""What is written for an apostrophe inside a word, for a class of signs."""

# ``re`` where a class of signs will do: it passes over text several times as fast.
# First the hyphen of a word that goes on in the next line.
_JOINED = re.compile(rf"\u00ad[^\S\n]*\n[^\S\n]*(?=\w)|[{INVISIBLE}]+")
_SOME_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_WORD = regex.compile(
    rf"[[{UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*+|[[\p{{L}}\p{{N}}]--[{UNSPACED}]][[{LETTERS}]--[{UNSPACED}]]*+",
    regex.V1,
)

# Compatibility forms that would fall apart: into a space and a mark, or into a letter of its own.
_WHOLE = {"\u00b4": "'", **dict.fromkeys("\u06c0\u06c2\ufba4\ufba5", "\u0647")} | {
    chr(code): ""
    for code in (*range(0xFC5E, 0xFC64), *range(0xFE70, 0xFE80))  # points of Arabic without a letter
    if unicodedata.normalize("NFKD", chr(code))[0] == " "
}
_FALLING = re.compile(f"[{''.join(_WHOLE)}]")

_POINTS = (
    (0x0591, 0x05BD), (0x05BF, 0x05BF), (0x05C1, 0x05C2), (0x05C4, 0x05C5), (0x05C7, 0x05C7),
    (0x0610, 0x061A), (0x064B, 0x065F), (0x0670, 0x0670), (0x06D6, 0x06DC), (0x06DF, 0x06E4),
    (0x06E7, 0x06E8), (0x06EA, 0x06ED), (0x0898, 0x089F), (0x08CA, 0x08E1), (0x08E3, 0x08FF),
)  # fmt: skip

_SAME = {
    **{chr(code): "" for first, last in _POINTS for code in range(first, last + 1)},
    **dict.fromkeys(APOSTROPHES, "'"),
    "\u0640": "",  # tatweel
    **dict.fromkeys("\u0671\u0672\u0673", "\u0627"),  # alef; its other forms are alef and a point
    **dict.fromkeys("\u0649\u06cc", "\u064a"),  # ya
    **dict.fromkeys("\u06a9\u06aa", "\u0643"),  # kaf
    **dict.fromkeys("\u0629\u06c1\u06c3", "\u0647"),  # ha and ta marbuta
    "\u0131": "i",
    # Letters of Bengali and Malayalam that are also written with a joiner.
    "\u09ce": "\u09a4\u09cd",
    "\u0d7a": "\u0d23\u0d4d",
    "\u0d7b": "\u0d28\u0d4d",
    "\u0d7c": "\u0d30\u0d4d",
    "\u0d7d": "\u0d32\u0d4d",
    "\u0d7e": "\u0d33\u0d4d",
    "\u0d7f": "\u0d15\u0d4d",
}
_SAME |= {
    chr(code): str(unicodedata.decimal(chr(code)))
    for code in (*range(0x0660, 0xABFA), *range(0x10000, 0x20000))  # all digits but those of ASCII
    if unicodedata.decimal(chr(code), None) is not None
}
_SAME_BY_CODE = str.maketrans(_SAME)
_MARKS = re.compile("[\u0300-\u036f]+")
_CYRILLIC_VOWELS = "аеиоуыэюяіє"


def shown(text: str) -> str:
    """A text as a reader sees it: accents in one piece with their letters (NFC), nothing invisible.

    A word that a soft hyphen parts at the end of a line is joined again.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", _without_invisible(text))


def folded(text: str) -> str:
    """A text in which words that a reader takes for the same are the same; its length may be another one.

    Args:
        text: Anything. Spaces and punctuation stay, in their compatibility forms.
    """
    if text.isascii():
        return text.lower()
    text = _FALLING.sub(lambda found: _WHOLE[found[0]], _without_invisible(text))
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    text = _without_invisible(text).translate(_SAME_BY_CODE)  # again: half-width fillers have become fillers
    return unicodedata.normalize("NFC", _MARKS.sub(_marks, text))


def words_of(text: str) -> list[str]:
    """The words of a text, folded, in their order; signs of scripts without spaces one by one."""
    found: list[str] = _WORD.findall(folded(text))
    return found


def _without_invisible(text: str) -> str:
    return _JOINED.sub("", text) if _SOME_INVISIBLE.search(text) else text


def _marks(found: re.Match[str]) -> str:
    """The accents of a letter that make another letter of it."""
    letter, marks = found.string[found.start() - 1 : found.start()], found[0]
    if "\u0370" <= letter <= "\u03ff":
        return ""
    if letter == "i":
        return marks.replace("\u0307", "", 1)
    if letter and letter in _CYRILLIC_VOWELS:
        marks = marks.replace("\u0300", "").replace("\u0301", "")
        return marks.replace("\u0308", "", 1) if letter == "е" else marks
    return marks
