"""Text into the lexical tokens that BM25 counts, the same for passages and for queries.

In: any text. Out: a list of tokens. Does not guess a language: each run of characters is treated by its
script, so texts that mix languages need no setting. Knows nothing of chunks or of the index.

Why pairs of characters and no Chinese segmenter (``benchmarks/tokenizing.py``): on the 1,000 questions of
CMRC 2018's trial set, over 606 chunks, characters and pairs put the answer first for 86.4 %, jieba's words
for 84.6 % (95 % interval of the difference -3.5 to -0.1), both together for 86.3 %. Japanese words in one
spelling do better than pairs (mean reciprocal rank .305 against .270, interval +.016 to +.055, for sentences
that look for the paragraph they were taken from, in 75 manual pages): hence the choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import pairwise, repeat
from typing import Any, Literal, TypeAlias, get_args

import regex
import Stemmer

from memorag_core.documents.words import LETTERS, UNSPACED, folded
from memorag_core.errors import InputError, MissingExtraError

Tokenization: TypeAlias = Literal["grams", "japanese"]
"""What becomes of a run of a script without spaces: its characters and their pairs, or Japanese words."""

_UNSPACED = (
    rf"{UNSPACED}\p{{Bopomofo}}\p{{Hangul}}"
    "\u30fc"  # the Katakana length mark belongs to no single script
)
"""Scripts written without spaces between words, and Hangul, whose particles cling to the word."""

_TOKEN = regex.compile(
    rf"(?P<run>[[{_UNSPACED}]&&[{LETTERS}]]+)"
    rf"|(?P<word>[[\p{{L}}\p{{N}}]--[{_UNSPACED}]][[{LETTERS}]--[{_UNSPACED}]]*+)"
    r"(?:'(?:s|t|d|m|re|ve|ll)\b)?",  # English clitics carry no content
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


_CONTENT = frozenset("名詞 代名詞 動詞 形容詞 形状詞 副詞 接頭辞 接尾辞".split())
"""Parts of speech, as UniDic names them, that say what a sentence is about."""

_MOST_CHARACTERS = 4096  # of a run at once; Sudachi takes 49,149 bytes


def lexical_tokens(text: str, *, tokenization: Tokenization = "grams") -> list[str]:
    """Split a text into tokens for lexical matching, in reading order, repeats kept.

    Words are folded as ``documents.words`` does, freed of English stop words and stemmed by English
    Snowball rules, which leave words of other alphabets as they are. A run of a script without spaces gives
    its single characters and its pairs of neighbours, so no segmenter is needed for Chinese, Japanese or
    Thai.

    Args:
        text: Anything; a text of stop words or punctuation alone gives no token.
        tokenization: ``"japanese"`` makes of runs of Han and kana words in the form that Sudachi's small
            dictionary normalises them to, particles and endings left out: for corpora in Japanese, not in
            Chinese. Other scripts stay as they are. Passages and queries must be tokenized alike.

    Returns:
        The tokens, never an empty string among them.

    Raises:
        InputError: An unknown tokenization.
        MissingExtraError: ``"japanese"``, and Sudachi or its dictionary is not installed.
    """
    return [token for token, telling in _read(text, tokenization) if telling]


def left_out_tokens(text: str, *, tokenization: Tokenization = "grams") -> list[str]:
    """What ``lexical_tokens`` leaves out: stop words, Japanese particles, and pairs of them side by side.

    A question that has no other words is searched by these. The pairs tell "who is it" from a text that has
    the three words apart.
    """
    words = list(_read(text, tokenization))
    tokens = [token for token, telling in words if not telling]
    pairs = pairwise(words)
    return tokens + [f"{one} {other}" for (one, tells), (other, too) in pairs if not tells and not too]


def _read(text: str, tokenization: Tokenization) -> Iterator[tuple[str, bool]]:
    """All tokens of a text, in reading order, and whether each says what the text is about."""
    if tokenization not in get_args(Tokenization):
        raise InputError(
            f"The tokenization is {tokenization!r}; expected one of {', '.join(get_args(Tokenization))}."
        )
    # One for each call: neither stemmers nor analysers may be shared by threads.
    stemmer = Stemmer.Stemmer(_ENGLISH)
    analyser = _sudachi().tokenizer() if tokenization == "japanese" else None
    for match in _TOKEN.finditer(folded(text)):
        word = match["word"]
        if word is None:
            run = match["run"]
            if analyser is not None and _JAPANESE.fullmatch(run):
                yield from _words(run, analyser)
            else:
                yield from zip(_grams(run), repeat(True), strict=False)
        elif word in STOP_WORDS:
            yield word, False
        else:
            yield stemmer.stemWord(word), True


_JAPANESE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{M}]+")


def _words(run: str, analyser: Any) -> Iterator[tuple[str, bool]]:
    """The words of a Japanese run, cut as finely as the dictionary knows, in one spelling."""
    for start in range(0, len(run), _MOST_CHARACTERS):
        for word in analyser.tokenize(run[start : start + _MOST_CHARACTERS], _sudachi_mode()):
            # A normal form may hold spaces or capitals: brought to the rules of all tokens.
            token = "".join(folded(word.normalized_form()).split()) or word.surface()
            yield token, word.part_of_speech()[0] in _CONTENT


def sudachi_is_installed() -> bool:
    """Whether ``"japanese"`` can be chosen."""
    return find_spec("sudachipy") is not None and find_spec("sudachidict_small") is not None


@cache
def _sudachi() -> Any:
    """The dictionary, loaded once (0.1 s) and shared."""
    try:
        import sudachidict_small  # noqa: F401  # Sudachi says what is missing less clearly
        from sudachipy import Dictionary
    except ImportError as error:
        raise MissingExtraError(
            "sudachipy and sudachidict_small", "ja", "Japanese tokenization", error
        ) from error
    return Dictionary(dict="small")


def _sudachi_mode() -> Any:
    from sudachipy import SplitMode

    return SplitMode.A


def _grams(run: str) -> list[str]:
    """The characters of a run, as a reader sees them, and then its pairs of neighbours."""
    characters: list[str] = _CLUSTER.findall(run)
    return characters + [left + right for left, right in pairwise(characters)]
