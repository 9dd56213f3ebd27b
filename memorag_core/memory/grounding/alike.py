"""What a reader takes for the same line, though it is written otherwise.

In: a text. Out: the same folded, with the character that each sign of it comes from; parts of a line that may
stand elsewhere to the letter. Knows no index.

Folded are: capitals; forms of compatibility and of width; composed and decomposed letters; any run of white
space; invisible format characters and variation selectors; Arabic and Hebrew points; quotation marks of all
kinds; dashes and hyphens, with the white space around them; Markdown's marks of emphasis at the edges of
words. Punctuation at the two ends of a line is no part of it. Not folded are accents, Traditional and
Simplified Chinese, numbers in words and in figures, other spellings, and what an ellipsis within a line
leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from unicodedata import normalize

import regex

_QUOTES = "'\"`´‘’‚‛“”„‟′″‵‶‹›«»「」『』〝〞〟"
_DASHES = "\\-‐‑‒–—―−⁃﹘"
_DROPPED = regex.compile(
    r"[\p{Cf}\p{Variation_Selector}\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    r"\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]"
)
_JOINED = regex.compile(r"[\p{M}\u00ad\u200c\u200d]")
_QUOTE = regex.compile(f"[{_QUOTES}]")
_DASH = regex.compile(f"[{_DASHES}]")
_EMPHASIS = regex.compile(r"[*_~`]+")
_ENDS = regex.compile(rf"[\s\p{{P}}*~`|>{_QUOTES}--[%‰§&@#/]]+", regex.V1)
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_FRAGMENT = regex.compile(r"[\p{L}\p{M}\p{N}]+(?: [\p{L}\p{M}\p{N}]+)*")

_WIDE = {sign: sign + 0xFEE0 for sign in range(0x21, 0x7F)}

_FRAGMENTS, _WORDS = 4, 6  # the longest are looked for


@dataclass(frozen=True, slots=True)
class Folded:
    """A text as a reader takes it.

    Attributes:
        text: folded.
        characters: for each sign of it the character that it comes from.
        source: the text as it was.
    """

    text: str
    characters: tuple[int, ...]
    source: str

    def places(self, line: str) -> list[tuple[int, int]]:
        """Where a folded line stands, in whole characters: the first one, and the one after the last."""
        found: list[tuple[int, int]] = []
        at = self.text.find(line) if line else -1
        while at >= 0:
            first, last = self.characters[at], self.characters[at + len(line) - 1]
            begins = at == 0 or self.characters[at - 1] != first
            end = at + len(line)
            if begins and (end == len(self.text) or self.characters[end] != last):
                found.append((first, self._end(last)))
            at = self.text.find(line, at + 1)
        return found

    def _end(self, last: int) -> int:
        """Behind a character and what is folded away behind it within its word."""
        end = last + 1
        while end < len(self.source) and _JOINED.fullmatch(self.source[end]):
            end += 1
        return end


def folded(text: str) -> Folded:
    """Fold a text; white space at its ends is left out."""
    emphasis = {
        place
        for found in _EMPHASIS.finditer(text)
        if not (_inside(text, found.start() - 1) and _inside(text, found.end()))
        for place in range(found.start(), found.end())
    }
    signs: list[str] = []
    characters: list[int] = []
    for place, character in enumerate(text):
        if place in emphasis:
            continue
        for sign in _signs(character):
            last = signs[-1] if signs else " "
            if sign == " " and last in " -":
                continue
            if sign == "-":
                if last == "-":
                    continue
                if last == " " and signs:
                    signs.pop()
                    characters.pop()
            signs.append(sign)
            characters.append(place)
    while signs and signs[-1] == " ":
        signs.pop()
        characters.pop()
    return Folded("".join(signs), tuple(characters), text)


def bare(text: str) -> str:
    """A line without the punctuation and the white space at its two ends."""
    begin = _ENDS.match(text)
    text = text[begin.end() :] if begin else text
    last = len(text)
    while last and _ENDS.fullmatch(text[last - 1]):
        last -= 1
    return text[:last]


def anchors(line: str) -> list[str]:
    """Parts of a line that stand to the letter wherever it stands, but for capitals and composed letters.

    The longest come first: what stands between signs that are folded, then single words.
    """
    even = " ".join(line.split())
    fragments: list[str] = []
    for found in _FRAGMENT.finditer(even):
        whole = found[0]
        fragments += [whole, whole.partition(" ")[2]]  # the first word may have another capital
    fragments.sort(key=len, reverse=True)
    words = sorted(set(_WORD.findall(even)), key=lambda word: (-len(word), word))[:_WORDS]
    wanted = [form for one in fragments[:_FRAGMENTS] for form in (one, normalize("NFC", one))]
    for word in words:
        plain = normalize("NFKC", word)
        wanted += [word, plain, plain.lower(), plain.capitalize(), plain.upper(), plain.translate(_WIDE)]
    return [one for one in dict.fromkeys(wanted) if one]


def reach(line: str, anchor: str) -> int:
    """How many characters before and behind an anchor hold the line, with room for what is folded."""
    return 2 * max(len(line) - len(anchor), 0) + 40


def differences(one: str, other: str) -> int:
    """How differently two texts are written that fold to the same: the higher, the more."""
    return sum(left != right for left, right in zip(one, other, strict=False)) + abs(len(one) - len(other))


@lru_cache(maxsize=4096)
def _signs(character: str) -> str:
    if character.isspace():
        return " "
    if _DROPPED.fullmatch(character):
        return ""
    if _QUOTE.fullmatch(character):
        return "'"
    if _DASH.fullmatch(character):
        return "-"
    plain = normalize("NFKD", normalize("NFKD", character).casefold())
    return "".join(_signs(sign) if sign.isspace() or sign != character else sign for sign in plain)


def _inside(text: str, place: int) -> bool:
    return 0 <= place < len(text) and _WORD.fullmatch(text[place]) is not None
