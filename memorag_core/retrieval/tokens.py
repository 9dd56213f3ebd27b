"""Text into the lexical tokens that BM25 counts, the same for passages and for queries.

In: any text. Out: a list of tokens. Does not guess a language: each run of characters is treated by its
script, so texts that mix languages need no setting. Knows nothing of chunks or of the index.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import regex
import Stemmer

_UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    "\u30fc"  # the Katakana length mark belongs to no single script
)
"""Scripts written without spaces between words, and Hangul, whose particles cling to the word."""

_TOKEN = regex.compile(
    rf"(?P<run>[[{_UNSPACED}]&&[\p{{L}}\p{{M}}\p{{N}}]]+)"
    rf"|(?P<word>[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+)"
    r"(?:['\u2019](?:s|t|d|m|re|ve|ll)\b)?",  # English clitics carry no content
    flags=regex.VERSION1,
)
_CLUSTER = regex.compile(r"\X")
_ENGLISH = "english"

STOP_WORDS = frozenset(
    """
    a about am an and any are as at be been being but by can could did do does doing for from had has have
    having he her hers him his how i if in into is it its me my of on or our ours she should so such than
    that the their theirs them then there these they this those to us was we were what when where which
    who whom whose why will with would you your yours don doesn didn isn aren wasn weren
    """.split()
)
"""English words that say how a sentence is built rather than what it is about, question words included."""


def lexical_tokens(text: str) -> list[str]:
    """Split a text into tokens for lexical matching, in reading order, repeats kept.

    Words are compatibility-normalised (NFKC), casefolded, freed of English stop words and stemmed by English
    Snowball rules, which leave words of other alphabets as they are. A run of a script without spaces gives
    its single characters and its pairs of neighbours, so no segmenter is needed for Chinese, Japanese or
    Thai.

    Args:
        text: Anything; a text of stop words or punctuation alone gives no token.

    Returns:
        The tokens, never an empty string among them.
    """
    stemmer = Stemmer.Stemmer(_ENGLISH)  # one for each call: stemmers must not be shared by threads
    tokens: list[str] = []
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    for match in _TOKEN.finditer(folded):
        word = match["word"]
        if word is None:
            tokens.extend(_grams(match["run"]))
        elif word not in STOP_WORDS:
            tokens.append(stemmer.stemWord(word))
    return tokens


def _grams(run: str) -> list[str]:
    """The characters of a run, as a reader sees them, and then its pairs of neighbours."""
    characters: list[str] = _CLUSTER.findall(run)
    return characters + [left + right for left, right in pairwise(characters)]
