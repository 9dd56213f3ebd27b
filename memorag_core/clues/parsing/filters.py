"""Whether a bare line is a clue, and if not, why: judged by what it says, never by counting words.

In: a line and what was asked. Out: a reason to drop it, or None. Knows nothing of how lines were written.

Chinese and Japanese have no words between spaces to be counted; what counts is different letters, figures or
signs beside function words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import regex

from memorag_core.clues.parsing import phrases
from memorag_core.clues.parsing.phrases import compiled
from memorag_core.documents.words import UNSPACED, shown, words_of
from memorag_core.types import ClueKind

DropReason: TypeAlias = Literal[
    "thinking",
    "empty",
    "announcement",
    "chatter",
    "refusal",
    "echo of the question",
    "echo of the instruction",
    "no information",
    "repeated",
    "cut off",
    "after the end",
]
"""Why a line of a reply is no clue.

- thinking: thoughts before the reply, in tags or before a "final answer"
- empty: marks alone, such as a bullet, a fence or "---"
- announcement: says that clues follow, or heads them
- chatter: politeness, notes, explanations and other talk about the clues
- refusal: says that the memory has nothing to say
- echo of the question: gives back the question or, but for answers and names, a part of it
- echo of the instruction: gives back a part of the request
- no information: function words, or a name for nothing in particular ("the author")
- repeated: stands in another line
- cut off: the half line or sentence that the token limit left
- after the end: what a model that does not stop goes on to write, such as a next question
"""

SIGN = regex.compile(rf"[{UNSPACED}]")
_SPACE_INSIDE = regex.compile(rf"(?<=[{UNSPACED}]) (?=[{UNSPACED}])|(?<=\p{{Hangul}}) (?=\p{{Hangul}})")

_CLUE_WORDS = f"{phrases.ASKING}|{phrases.SAYING}|{phrases.STEPS}"
_HEADING_WORDS = (
    f"{_CLUE_WORDS}|{phrases.MANNER}|{phrases.NAME_TYPES}|{phrases.ASIDES}"
    r"|the|of|from|for|to|and|a|in|list|top|five|my|de|del|la|los|las|el|y|para|que|responder|most|as|is|are"
    r"|recalled|retrieved|useful|helpful|的|与|和|相|列表|清单|回忆|の|一覧|リスト|\d"
)
_HEADING = rf"(?:{_HEADING_WORDS})+"
_SPACED_HEADING = rf"(?:\b(?:{_HEADING_WORDS})\b\s*)+"
_ASIDE = rf"[\"'*_(（\[\s]*(?:{phrases.ASIDES})[\"'*_]*\s*[:：]"
_HEADED = regex.compile(r"\s*(?:\#{1,6}\s|\*\*[^*]+\*\*\s*$|__[^_]+__\s*$|【[^】]+】\s*$)")

_LONGEST_ANNOUNCEMENT = 200  # characters
_LONGEST_REFUSAL = 500
_SHORTEST_ECHO = 8  # signs of the request that no clue has by chance; a word of letters counts for 2


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
    def from_texts(cls, question: str = "", request: str = "") -> Asked:
        """The question and the rendered request that holds it."""
        around = request.replace(question, "\n") if question.strip() else request
        return cls(comparable(question), comparable(around))


def reason_to_drop(
    line: str, written: str, kind: ClueKind, asked: Asked, *, first: bool = True
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
    said = _SPACE_INSIDE.sub("", key).strip()
    if not said:
        given_back = asked.question.strip() and asked.question in comparable(written)
        return "echo of the question" if given_back else "empty"
    if echoes_request(line, asked):
        return "echo of the instruction"
    refused = compiled(phrases.REFUSAL).match(line, endpos=_LONGEST_REFUSAL)
    if refused or said in phrases.NOTHING or key.strip() in phrases.NOTHING:
        return "refusal"
    if compiled(phrases.CHATTER).match(line, endpos=_LONGEST_REFUSAL):
        return "chatter"
    if not first and compiled(_ASIDE).match(written.lstrip("-*• \t")):
        return "chatter"
    if len(line) <= _LONGEST_ANNOUNCEMENT and _announces(line, written, kind):
        return "announcement"
    if key == asked.question or (kind not in ("answer", "entity") and key in asked.question):
        return "echo of the question"
    if kind != "answer" and not _informative(said):  # "42" and "no" are answers
        return "no information"
    if kind == "entity" and phrases.ARTICLE.sub("", said) in phrases.GENERIC_NAMES:
        return "no information"
    return None


def echoes_request(line: str, asked: Asked) -> bool:
    """Whether a line is a part of the request, or worded as such requests are."""
    line = shown(line)
    key = comparable(line)
    weight = sum(1 if SIGN.match(word) else 2 for word in key.split())
    echoed = weight >= _SHORTEST_ECHO and key in asked.request
    return echoed or compiled(phrases.INSTRUCTION).match(line, endpos=_LONGEST_REFUSAL) is not None


def _announces(line: str, written: str, kind: ClueKind) -> bool:
    about = compiled(phrases.ABOUT_CLUES)
    if line[-1] in ":：" and about.search(line):
        return True
    opening = compiled(phrases.OPENING).match(line)
    if kind != "answer" and opening and line[-1] in ".。!！" and about.search(line, opening.end()):
        # Names clues as such and nothing else: no quotation, no figure.
        rest = line[opening.end() :]
        quotes = regex.search(r"[\"“「『«\d]", rest)
        return not quotes or regex.search(r"\b(?:question|text)\b|问题|文本|質問", rest) is not None
    headed = _HEADED.match(written) is not None
    return (headed or kind not in ("answer", "entity")) and _is_heading(line.rstrip(" :："), headed)


def _is_heading(line: str, headed: bool) -> bool:
    """Whether a line is made of words for clues: "Relevant passages from the text", "相关原文片段"."""
    words = regex.findall(r"\p{L}+", line)
    joined = " ".join(words)
    signs = SIGN.search(line)
    if not headed and not (compiled(_CLUE_WORDS).search(joined) and (len(words) > 1 or signs)):
        return False
    if signs:
        return len(joined) > 1 and compiled(_HEADING).fullmatch(joined.replace(" ", "")) is not None
    return compiled(_SPACED_HEADING).fullmatch(joined) is not None


def _informative(said: str) -> bool:
    """Whether enough different letters, figures or signs stand beside function words."""
    content = words_of(phrases.FUNCTION_SIGNS.sub(" ", said))
    signs = {sign for word in content if word not in phrases.FUNCTION_WORDS for sign in word}
    return len(signs) >= 2 or (bool(signs) and len(set(SIGN.findall(said))) >= 2)
