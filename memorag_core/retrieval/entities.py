"""What a chunk speaks of: names and words by which chunks hang together, found without a model.

In: a text of any language. Out: its entities in one spelling, each once. Knows no corpus: which entities say
anything is for the graph to weigh, by how many chunks hold them.

Names are found by how scripts mark them: runs of capitalised words, quotation marks, Katakana. Single words
and, where words have no spaces, pairs of characters come from the lexical tokens, so a name that no rule
finds still joins two chunks by its rare words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import regex

from memorag_core.documents.words import APOSTROPHES, LETTERS, folded, shown
from memorag_core.retrieval.tokenization import lexical_tokens

EntityFinder: TypeAlias = Callable[[str], Sequence[str]]
"""Gives the entities of one chunk's text, in any spelling: ``find_entities``, or a user's own, such as one
that asks a language model."""

_LONGEST = 8
"""Words in a name: a longer run is a heading in capitals or a list."""

_CAPITAL = rf"\p{{Lu}}[{LETTERS}]*+(?:[{APOSTROPHES}\-][{LETTERS}]++)*+"
# A space, or the dot of "J. R." and "Dr. No"; behind longer words a dot ends a sentence.
_GAP = r"(?:[^\S\n]|(?<=\b\p{Lu}\p{Ll}?)\.[^\S\n]?)"
_LINK = r"(?:\p{Ll}{1,3}[^\S\n])?"  # "University of Vienna", "Ludwig van Beethoven"; no language is asked
_RUN = regex.compile(rf"(?<![{LETTERS}])(?P<word>{_CAPITAL})(?:{_GAP}{_LINK}(?P<word>{_CAPITAL}))++")
_WORD = regex.compile(r"[^\s.]+")

_QUOTED = regex.compile(
    r"「([^「」\n]{2,40})」|『([^『』\n]{2,40})』|《([^《》\n]{1,40})》|〈([^〈〉\n]{1,40})〉|【([^【】\n]{2,40})】"
    r"|“([^“”\n]{2,40})”|«([^«»\n]{2,40})»|„([^„“”\n]{2,40})[“”]"
)
_SPEECH = regex.compile(r"[.!?。！？…,，、;；]")  # quoted speech, not the name of something
_KATAKANA = regex.compile(r"\p{Katakana}[\p{Katakana}\u30fc・]{2,}")

_EDGES = regex.compile(rf"^[^{LETTERS}]++|(?<=[{LETTERS}])[^{LETTERS}]++$")
_POSSESSIVE = regex.compile(rf"'s?(?![{LETTERS}])")
_SPACES = regex.compile(r"[\s.・]+")  # "George W. Bush" is "George W Bush"

_UNSPACED_CHARACTER = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
)


def entity_key(entity: str) -> str:
    """The one spelling of an entity: folded, no possessive, no marks around it, single spaces.

    Args:
        entity: Anything; what holds no letter and no digit has the empty key, which is no entity.
    """
    spaced = _SPACES.sub(" ", _POSSESSIVE.sub("", folded(entity)))
    return _EDGES.sub("", spaced)


def find_entities(text: str) -> tuple[str, ...]:
    """The names and words of a text, as ``entity_key`` spells them, in the order of their rules, each once.

    A run of capitalised words is a name, with one short word between two of them ("University of Vienna");
    what stands on either side of the short word is a name of its own where it has several words, and so is a
    run without its first word, which may be capitalised for beginning a sentence.

    Args:
        text: Anything; an empty text has no entities.
    """
    found = dict.fromkeys(entity_key(name) for name in _names(unicodedata.normalize("NFKC", shown(text))))
    # One character of an unspaced script is in too many words to name anything.
    found.update(
        dict.fromkeys(token for token in lexical_tokens(text) if not _UNSPACED_CHARACTER.fullmatch(token))
    )
    found.pop("", None)
    return tuple(found)


def _names(text: str) -> Iterator[str]:
    for run in _RUN.finditer(text):
        words = _WORD.findall(run.group())
        if len(words) > _LONGEST:
            continue
        yield " ".join(words)
        if len(words) > 2:
            yield " ".join(_without_first(words))
            yield from (" ".join(part) for part in _parts(words) if 1 < len(part) < len(words))
    for quoted in _QUOTED.finditer(text):
        (inner,) = (group for group in quoted.groups() if group is not None)
        if not _SPEECH.search(inner):
            yield inner
    yield from (found.group() for found in _KATAKANA.finditer(text))


def _without_first(words: Sequence[str]) -> Sequence[str]:
    """The run after its first word, and after the short word that may follow it."""
    return words[2:] if words[1].islower() else words[1:]


def _parts(words: Sequence[str]) -> Iterator[list[str]]:
    """The stretches of capitalised words between the short ones."""
    part: list[str] = []
    for word in words:
        if word.islower():
            yield part
            part = []
        else:
            part.append(word)
    yield part
