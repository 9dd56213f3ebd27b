"""A line of names into the names: "People: Ann, Bo" are two, "Paris, Texas" is one.

In: a bare line. Out: names without what is said about them. Does not know which names lead somewhere: that is
for ``filters``.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex

from memorag_core.clues.parsing import phrases
from memorag_core.clues.parsing.strip_markup import COUNT

_TYPE_LABEL = regex.compile(
    rf"(?:\p{{L}}+ )?(?:{phrases.NAME_TYPES})(?: names?)?(?:\s*[/&、和与]\s*(?:{phrases.NAME_TYPES}))*"
    rf"{COUNT}[:：]\s*(?=\S)",
    regex.I,
)
_BRACKET = regex.compile(r"\s*[(（\[][^()（）\[\]]*(?:[)）\]]|$)")
_STRONG_COMMA = regex.compile(r"\s*[;；、，،|]\s*")
_COMMA = regex.compile(r",\s+")
_EXPLAINED = regex.compile(r"(?<=\S)(?:\s+[-–—]+\s+|\s*[–—]{2}\s*|\s*：\s*|:\s+)(?=\S)")
# "March 3, 1865" and "Acme, Inc." are one name.
_YEAR = regex.compile(r"\d{3,4}(?: (?:BCE?|AD|CE))?\.?")
_DAY = regex.compile(r"\b\d{1,2}(?:st|nd|rd|th)?$")
_SUFFIX = regex.compile(r"(?:Jr|Sr|Inc|Ltd|LLC|Co|Corp|Esq|PhD|M\.?D|I{2,3}|IV)\.?", regex.I)
_ABBREVIATED = regex.compile(r"\b(?:\p{L}|Jr|Sr|Inc|Ltd|Co|Corp|Esq)\.$", regex.I)
_AND = regex.compile(r"(?:and|or|y|e|et|und|и|و) (?=\S)", regex.I)
_LIST_OF = 3  # "Paris, Texas" is one name, "Paris, Rome, Bonn" are three


def names(line: str) -> Iterator[str]:
    """The names in a line that is bare, without what is said about them.

    Marks that stand in no name part names always: semicolons, and the commas of Chinese, Japanese and
    Arabic. A comma parts names where a label stands before ("People: Ann, Bo") or where it makes three or
    more; "Paris, Texas" is one name, and so are "March 3, 1865" and "Acme, Inc.". What follows a name after a
    colon, a dash or in brackets speaks about it and goes.
    """
    labelled = _TYPE_LABEL.match(line)
    line = line[labelled.end() :] if labelled else line
    line = line if _ABBREVIATED.search(line) else line.rstrip(" .。")
    explained = list(_EXPLAINED.finditer(line))
    listed = bool(labelled)
    if len(explained) == 1:
        head, tail = line[: explained[0].start()], line[explained[0].end() :]
        if _STRONG_COMMA.search(head) or _COMMA.search(head):
            pass  # the explanation of one name in a list
        elif _lists_names(tail) and ":" in explained[0][0].replace("：", ":"):
            line, listed = tail, True  # "Her brothers: Ivo, Ada"
        else:
            line = head
    for piece in _split(_STRONG_COMMA, line):
        explanation = _EXPLAINED.search(piece)
        piece = piece[: explanation.start()] if explanation else piece
        parts = _joined(_split(_COMMA, piece))
        yield from parts if listed or len(parts) >= _LIST_OF else (_BRACKET.sub("", piece).strip() or piece,)


def _lists_names(text: str) -> bool:
    if "、" in text:
        return True
    parts = _split(_COMMA, text)
    return len(parts) > 1 and all(regex.match(r"(?:and |y )?[\p{Lu}\d]", part) for part in parts)


def _split(mark: regex.Pattern[str], text: str) -> list[str]:
    """The pieces of a text between marks that stand outside brackets."""
    pieces, start, depth = [], 0, 0
    openings = {found.start(): found.end() for found in mark.finditer(text)}
    for place, sign in enumerate(text):
        depth = max(0, depth + (sign in "(（[") - (sign in ")）]"))
        if place in openings and not depth and place >= start:
            pieces.append(text[start:place])
            start = openings[place]
    return [piece for piece in (*pieces, text[start:]) if piece.strip()]


def _joined(parts: list[str]) -> list[str]:
    """Parts with what belongs to the one before joined to it, without "and" and brackets."""
    joined: list[str] = []
    for part in parts:
        part = _AND.sub("", part.strip(), count=1) if joined and _AND.match(part.strip()) else part.strip()
        part = _BRACKET.sub("", part).strip() or part
        if joined and (_SUFFIX.fullmatch(part) or (_YEAR.fullmatch(part) and _DAY.search(joined[-1]))):
            joined[-1] = f"{joined[-1]}, {part}"
        else:
            joined.append(part)
    return joined
