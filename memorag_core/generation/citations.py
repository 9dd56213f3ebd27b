"""Citations: the numbers in brackets by which an answer names the passages it rests on.

In: the text of an answer, whole or as it is written, and where its passages stand. Out: the same text, and
what it cites. Knows no LLM, no prompt and no evidence but its order and place.

Read as citations are numbers of up to three digits in square brackets, also of the wide kinds that stand in
Chinese and Japanese texts: [1], [2, 3], [1][2], [2-4], [^1], [passage 2], 【1】, 〔段落3〕, 【1†source】 and
the like. A year in brackets is none. What a passage says is not compared with what the answer says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

from memorag_core.types import Citation, Place, Unfounded

LONGEST_RANGE = 20
"""A range of more passages than this, such as [1-99], is taken for its two ends."""

_SPACE = r"[ \t\u00a0\u3000]{0,2}"
_TO = "-‐‑–—－~～〜"  # signs of a range; those of a list are in the pattern
_OPENING = "[［【〔〖"
_MARK = regex.compile(
    rf"""[\[［【〔〖]\^?{_SPACE}(?:(?i:passages?|段落){_SPACE})?
    (?P<number>\d{{1,3}})
    (?:{_SPACE}(?P<sign>[,;，；、،&/{regex.escape(_TO)}]){_SPACE}(?P<number>\d{{1,3}})){{0,30}}
    (?:†[^\[\]［］【】〔〕〖〗\n]{{0,80}})?
    {_SPACE}[\]］】〕〗]""",
    regex.VERBOSE,
)

_CITED = regex.compile(rf"[^\S\n]{{0,2}}(?:{_MARK.pattern})", regex.VERBOSE)
_PAIRS = {
    "[": "(",
    "［": "（",
    "【": "（",
    "〔": "（",
    "〖": "（",
    "﹝": "(",
    "⟦": "(",
    "❲": "(",
    "⁅": "(",
    "〚": "（",
    "〘": "（",
}
_ROUND = str.maketrans(
    _PAIRS
    | {
        "]": ")",
        "］": "）",
        "】": "）",
        "〕": "）",
        "〗": "）",
        "﹞": ")",
        "⟧": ")",
        "❳": ")",
        "⁆": ")",
        "〛": "）",
        "〙": "）",
    }
)
_BREAK = r"\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_FILL = rf"[^\p{{L}}\p{{N}}\[\]{_BREAK}]{{0,8}}"
_HAN = "〇零一二三四五六七八九十百"
_HEAD = regex.compile(
    rf"""(?<![^{_BREAK}])(?P<before>[^\p{{L}}\p{{N}}{_BREAK}]{{0,12}}?)
    (?P<mark>[\[［【〔〖﹝⟦❲⁅〚〘]{_FILL}(?:\p{{L}}{{1,12}}?{_FILL})?(?:\p{{N}}{{1,3}}(?!\p{{N}})|[{_HAN}]{{1,3}}){_FILL}[\]］】〕〗﹞⟧❳⁆〛〙])""",
    regex.VERBOSE,
)
"""What looks like the number of a passage at the beginning of a line, though it may be no citation."""


@dataclass(frozen=True, slots=True)
class CitedText:
    """A text, or a piece of one, and what it cites; places are counted from the beginning of the whole."""

    text: str
    citations: tuple[Citation, ...] = ()
    unfounded: tuple[Unfounded, ...] = ()


class CitationParser:
    """Finds citations in a text that comes in pieces, however it is cut.

    All text comes out as it went in, marks included, and a mark never in two pieces: from a bracket on, text
    is held back until it is known to be a mark or none, which takes a few characters.
    """

    def __init__(self, places: Sequence[Place | None]) -> None:
        """Begin a text.

        Args:
            places: Where each passage stands, in the order of their numbers; None where that is not known.
        """
        self._places = tuple(places)
        self._held = ""
        self._told = 0  # characters that have come out

    def feed(self, piece: str) -> CitedText:
        """Take the next piece.

        Returns:
            The text that can be shown by now, and what is cited in it.
        """
        return self._read(self._held + piece, ended=False)

    def close(self) -> CitedText:
        """End the text, and take the rest: a mark that was begun and not ended is text."""
        return self._read(self._held, ended=True)

    def _read(self, text: str, *, ended: bool) -> CitedText:
        citations: list[Citation] = []
        unfounded: list[Unfounded] = []
        at = 0
        while (at := _next_opening(text, at)) < len(text):
            mark = _MARK.match(text, at, partial=not ended)
            if mark is None:
                at += 1
            elif mark.partial:
                break
            else:
                at = mark.end()
                start, end = self._told + mark.start(), self._told + mark.end()
                for number in _numbers(mark):
                    if 1 <= number <= len(self._places):
                        place = self._places[number - 1]
                        citations.append(Citation(number, start, end, number - 1, place))
                    else:
                        unfounded.append(Unfounded(number, start, end))
        self._held = text[at:]
        self._told += at
        return CitedText(text[:at], tuple(citations), tuple(unfounded))


def find_citations(text: str, places: Sequence[Place | None]) -> CitedText:
    """What a whole text cites.

    Args:
        text: Of the answer.
        places: Where each passage stands, in the order of their numbers; None where that is not known.

    Returns:
        The same text, the citations in its order, and the numbers that no passage has.
    """
    parser = CitationParser(places)
    begun, rest = parser.feed(text), parser.close()
    return CitedText(text, begun.citations + rest.citations, begun.unfounded + rest.unfounded)


def without_citations(text: str) -> str:
    """A text that cites nothing: its citations are left out, with the white space before them."""
    return _CITED.sub("", text)


def without_marks(text: str) -> str:
    """A text in which nothing can be taken for a citation, nor a line for the beginning of a passage.

    Where something reads as a citation, and where a line begins with a number in brackets, the brackets are
    round. All else stays as it is.
    """
    made = _rounded(text)
    while (next_ := _rounded(made)) != made:
        made = next_  # what was inside of a mark may have kept one around it from being one
    return made


def _rounded(text: str) -> str:
    text = _HEAD.sub(lambda found: found["before"] + found["mark"].translate(_ROUND), text)
    return _MARK.sub(lambda found: found[0].translate(_ROUND), text)


def _next_opening(text: str, at: int) -> int:
    """The next place where a mark may begin; the end of the text where there is none."""
    return next((place for place in range(at, len(text)) if text[place] in _OPENING), len(text))


def _numbers(mark: regex.Match[str]) -> list[int]:
    """The numbers of a mark, each once, those inside of its ranges among them."""
    first, *others = map(int, mark.captures("number"))
    numbers = [first]
    for sign, number in zip(mark.captures("sign"), others, strict=True):
        before = numbers[-1]
        if sign in _TO and before < number <= before + LONGEST_RANGE:
            numbers.extend(range(before + 1, number))
        numbers.append(number)
    return list(dict.fromkeys(numbers))
