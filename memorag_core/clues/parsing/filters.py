"""Whether a bare line is a clue, and if not, why: judged by what it says, never by counting words.

In: a line and what was asked. Out: a reason to drop it, or None. Knows nothing of how lines were written.

Chinese and Japanese have no words between spaces to be counted; what counts is different letters, figures or
signs beside function words.
"""

from __future__ import annotations

from dataclasses import dataclass

import regex

from memorag_core.clues.parsing import phrases
from memorag_core.clues.parsing.lines import DropReason
from memorag_core.documents.words import UNSPACED, shown, words_of
from memorag_core.types import ClueKind

_SIGN = regex.compile(rf"[{UNSPACED}]")
_SPACE_BETWEEN_SIGNS = regex.compile(rf"(?<=[{UNSPACED}]) (?=[{UNSPACED}])")
_KOREAN_SPACE = regex.compile(r"(?<=\p{Hangul}) (?=\p{Hangul})")

_CLUE_WORDS = f"{phrases.ASKING}|{phrases.SAYING}|{phrases.STEPS}"
_HEADING_WORDS = (
    f"{_CLUE_WORDS}|{phrases.MANNER}|{phrases.NAME_TYPES}|{phrases.ASIDES}"
    r"|the|of|from|for|to|and|a|in|list|top|five|my|de|del|la|los|las|el|y|para|que|responder|most|as|is|are"
    r"|recalled|retrieved|useful|helpful|的|与|和|相|列表|清单|回忆|の|一覧|リスト|\d"
)
_HEADING = regex.compile(rf"(?:{_HEADING_WORDS})+", regex.I)
_SPACED_HEADING = regex.compile(rf"(?:\b(?:{_HEADING_WORDS})\b\s*)+", regex.I)
_NAMES_CLUES = regex.compile(_CLUE_WORDS, regex.I)
_ASIDE = regex.compile(rf"[\"'*_(（\[\s]*(?:{phrases.ASIDES})[\"'*_]*\s*[:：]", regex.I)
_HEADED = regex.compile(r"\s*(?:\#{1,6}\s|\*\*[^*]+\*\*\s*$|__[^_]+__\s*$|【[^】]+】\s*$)")

_LONGEST_ANNOUNCEMENT = 200  # characters
_LONGEST_REFUSAL = 500
_SHORTEST_ECHO = (
    8  # signs of a part of the request that no clue has by chance; a word of letters counts for 2
)


def comparable(text: str) -> str:
    """What texts that say the same have in common: words between single spaces, unspaced scripts by sign.

    The spaces at both ends make ``in`` ask for whole words.
    """
    return f" {' '.join(words_of(text))} "


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, ready to be compared: the question, and the request around it."""

    question: str
    request: str

    @classmethod
    def from_texts(cls, question: str, request: str) -> Asked:
        """The question and the rendered request that holds it."""
        around = request.replace(question, "\n") if question.strip() else request
        return cls(comparable(question), comparable(around))


def reason_to_drop(
    line: str, written: str, kind: ClueKind, asked: Asked, *, first: bool
) -> DropReason | None:
    """Why a line is no clue; None where it is one.

    Args:
        line: The line without what surrounds the clue.
        written: The line as it was written.
        kind: The kind of clue that was asked for.
        asked: The question and the request.
        first: Whether no clue stands before it. What is said about a clue comes after one.
    """
    line, written = shown(line), shown(written)
    key = comparable(line)
    said = _KOREAN_SPACE.sub("", _SPACE_BETWEEN_SIGNS.sub("", key)).strip()
    if not said:
        given_back = asked.question.strip() and asked.question in comparable(written)
        return "echo of the question" if given_back else "empty"
    if echoes_request(line, asked):
        return "echo of the instruction"
    if _is_nothing(key, said, line):
        return "refusal"
    if phrases.CHATTER.match(line, endpos=_LONGEST_REFUSAL) or (
        not first and _ASIDE.match(written.lstrip("-*• \t"))
    ):
        return "chatter"
    if _announces(line, written, kind):
        return "announcement"
    if key == asked.question or (kind not in ("answer", "entity") and key in asked.question):
        return "echo of the question"
    if kind != "answer" and not _informative(said):  # "42" and "no" are answers
        return "no information"
    if kind == "entity" and _generic(said):
        return "no information"
    return None


def _is_nothing(key: str, said: str, line: str) -> bool:
    return (
        said in phrases.NOTHING
        or key.strip() in phrases.NOTHING
        or bool(phrases.REFUSAL.match(line, endpos=_LONGEST_REFUSAL))
    )


def _announces(line: str, written: str, kind: ClueKind) -> bool:
    if len(line) > _LONGEST_ANNOUNCEMENT:
        return False
    about = phrases.ABOUT_CLUES.search(line) is not None
    if line[-1] in ":：" and about:
        return True
    opening = phrases.OPENING.match(line)
    if (
        opening
        and line[-1] in ".。!！"
        and phrases.ABOUT_CLUES.search(line, opening.end())
        and kind != "answer"
    ):
        return _speaks_of_clues(line[opening.end() :])
    if kind == "answer" and not _HEADED.match(written):
        return False
    plain = line.rstrip(" :：")
    return (kind != "entity" or _HEADED.match(written) is not None) and _is_heading(plain, written)


def _speaks_of_clues(line: str) -> bool:
    """Whether an opening line names clues as such and nothing else: no quotation, no figure."""
    return (
        not regex.search(r"[\"“「『«\d]", line)
        or regex.search(r"\b(?:question|text)\b|问题|文本|質問", line) is not None
    )


def _is_heading(line: str, written: str) -> bool:
    """Whether a line is made of words for clues: "Relevant passages from the text", "相关原文片段"."""
    words = regex.findall(r"\p{L}+", line)
    marked = _HEADED.match(written) is not None
    joined = " ".join(words)
    if not marked and (not _NAMES_CLUES.search(joined) or (len(words) < 2 and not _SIGN.search(line))):
        return False
    if _SIGN.search(joined):
        return len(joined) > 1 and _HEADING.fullmatch(joined.replace(" ", "")) is not None
    return _SPACED_HEADING.fullmatch(joined) is not None


def echoes_request(line: str, asked: Asked) -> bool:
    """Whether a line is a part of the request, or worded as such requests are."""
    line = shown(line)
    key = comparable(line)
    weight = sum(1 if _SIGN.match(word) else 2 for word in key.split())
    echoed = weight >= _SHORTEST_ECHO and key in asked.request
    return echoed or phrases.INSTRUCTION.match(line, endpos=_LONGEST_REFUSAL) is not None


def _informative(said: str) -> bool:
    """Whether enough different letters, figures or signs stand beside function words."""
    content = words_of(phrases.FUNCTION_SIGNS.sub(" ", said))
    signs = {sign for word in content if word not in phrases.FUNCTION_WORDS for sign in word}
    return len(signs) >= 2 or (bool(signs) and len(set(_SIGN.findall(said))) >= 2)


def _generic(said: str) -> bool:
    return phrases.ARTICLE.sub("", said) in phrases.GENERIC_NAMES
