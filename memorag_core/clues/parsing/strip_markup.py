"""A line without what surrounds the clue in it: numbers, bullets, labels, quotation marks, loops, citations.

In: a line as a model wrote it. Out: the clue or clues in it; of a line of names, each name. Judges nothing:
that is for ``filters``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import regex

from memorag_core.clues.parsing import phrases
from memorag_core.clues.parsing.phrases import compiled
from memorag_core.types import ClueKind

_BOLD = regex.compile(r"(?<!\w)\*\*(?=\S)([^*\n]+)(?<=\S)\*\*(?!\w)")
_ITALIC = regex.compile(r"^(?|\*(?![\s*])([^*]+)(?<!\s)\*|(?:__?)(?![\s_])([^_]*\s[^_]*)(?<!\s)__?)$")

BULLET = regex.compile(
    r"[•●○◦▪■□◆◇►▶‣※➤➢✓✔★·・→⇒➜➔🔹🔸👉✅][ \t]*|[-*+][ \t]+(?:\[[ xX]\][ \t]+)?|[–—][ \t]*(?!\d)|>[ \t]*"
    r"|\#{1,6}[ \t]+|-(?=[\p{Han}\p{Hiragana}\p{Katakana}\"“「¿«])"
)
NUMBER = regex.compile(
    r"(?:"
    rf"[(（][ \t]*(?:\d{{1,2}}|[a-h]|[ivx]{{1,4}}|{phrases.HAN_NUMBER})[ \t]*[)）][ \t]*[.:：、]?"
    r"|[\[【][ \t]*\d{1,2}[ \t]*[\]】][ \t]*[.:：、]?"
    r"|\d{1,2}[ \t]*[.:](?![\p{Ll}\d])"  # not 1.5, 12:30 or 3.x
    r"|\d{1,2}[ \t]*[)、．）：]"
    r"|[a-h]\)"
    rf"|{phrases.HAN_NUMBER}(?:[、．）：]|\.(?=\s))"
    r"|[①-⑳⑴-⒇❶-❿➀-➓][ \t]*[.:：、]?"
    r"|\d\ufe0f?\u20e3"
    r")(?=\s*\S)"  # a figure alone is an answer
)
_NUMBER_INSIDE = regex.compile(
    r"(?:(?<=[\s。；;！？!?:：])|^)[(（]?(\d{1,2})[ \t]*[.)、．）](?![\p{Ll}\d])|([①-⑳])"
)
_QUESTION_END = regex.compile(r"(?<=[?？؟][\"”」』]?)\s+(?=[\p{Lu}\p{Lo}¿\"“「])|(?<=？)(?=\p{Lo})")

_COUNT = rf"[ \t]*(?:\#?\d{{1,2}}|{phrases.HAN_NUMBER}|[①-⑳]|[(（]\d{{1,2}}[)）])?[ \t]*"
_LABEL = (
    rf"(?:(?:{phrases.MANNER})[ -]?)*(?:{phrases.ASKING}|{phrases.SAYING}|Q|A)"
    rf"(?: (?:final|finale|definitiva|corta|relevantes?|clave))?{_COUNT}[:：]"
    r"|Q[ \t]?\d{1,2}\.|(?:the )?answer(?: to the question)? is ?:|答案是[:：]"
    rf"|[\[【](?:{phrases.MANNER})?(?:{phrases.ASKING}|{phrases.SAYING}){_COUNT}[\]】][:：]?"
)
_STEP_LABEL = rf"(?:第{phrases.HAN_NUMBER}步|(?:{phrases.STEPS}){_COUNT})[:：.、，,-](?!\d)"
_EAGER = regex.compile(
    r"(?:sure|certainly|of course|absolutely|好的|当然|もちろん(?:です)?|はい|¡?claro"
    r"|¡?por supuesto|конечно|물론입니다)"
    r"[!！。][ \t]*(?=\S)",
    regex.I,
)
_JSON_START = regex.compile(r'"[^"\n]{1,30}"\s*:\s*(?=["\[])|(?:[\[\]{}](?=\s*(?:["\'\[{]|$)))+')

# What points to where a clue was taken from, or gives it in another language, is no part of it.
_CITATION = regex.compile(
    r"\s*(?:\[\^?\d{1,3}(?:\s*[,–-]\s*\d{1,3})*\]|【\d{1,3}[†:：][^】]*】|\[\[\d{1,3}\]\])+(?:(?<=[.。][^.。]+)[.。]$|(?=[.。]?$))"
)
_REFERENCE = regex.compile(
    r"\s*(?:[-–—]{1,2}\s*)?[(（\[]\s*(?:from |see |in |source: ?|来源[:：]|出自|见|出典[:：]|fuente: ?)?"
    r"(?:(?:chapter|ch\.|page|pp?\.|line|paragraph|para\.|section|verse|capítulo|cap\.|página|pág\.|párrafo|глава|стр\.)"
    r"\s*[\divxlc]+[^()（）]{0,30}|第\s*[\d一二三四五六七八九十百零〇]+\s*[回章页頁节節段話][^()（）]{0,12})[)）\]](?=[.。]?$)",
    regex.I,
)
_TRANSLATED = regex.compile(
    r"\s*[(（\[]\s*(?:translation|english|in english|literally|lit\.|meaning|traducción|translated"
    r"|译文|译|翻译|意思是"
    r"|英語|訳|日本語訳|中文|번역|перевод|traduction)\b?\s*[:：]?\s[^()（）]*[)）\]]$"
    r"|\s*[（(](?:译|訳|翻译|译文)[:：][^()（）]*[)）]$",
    regex.I,
)
_BRACKET_AFTER_SENTENCE = regex.compile(r"(?<=[。！？!?.؟…][」』”\"»]?)\s*[(（]([^()（）]*)[)）]$")
_REMARK = regex.compile(r"(?<=[?？؟][\"”」』]?)\s*[*_]*[(（][^()（）]*[)）][*_]*$")

_LONGEST_SOURCE = 300  # characters
_DEEPEST = 50

_QUOTES = {
    '"': '"',
    "'": "'",
    "`": "`",
    "“": "”",
    "‘": "’",
    "«": "»",
    "‹": "›",
    "„": "“”",
    "「": "」",
    "『": "』",
    "＂": "＂",
    "〝": "〞〟",
}
"""An opening quotation mark and the marks that may close it."""

_PARTNERS = {
    mark: "".join(opening + closings for opening, closings in _QUOTES.items() if mark in opening + closings)
    for mark in "".join((*_QUOTES, *_QUOTES.values()))
    if mark not in "'‘’"  # which stand alone as apostrophes
}
"""A mark and all those that may stand at the other end; without one of them it is left over from a cut."""


def items(line: str, kind: ClueKind) -> Iterator[str]:
    """A line, or the items of a list or the questions that were written in one line."""
    starts: list[int] = []
    for number in _NUMBER_INSIDE.finditer(line):
        head = line[: number.start()].strip()
        value = unicodedata.numeric(number[2]) if number[2] else int(number[1])
        if value == len(starts) + 1 and (starts or not head or head[-1] in ":："):
            starts.append(number.start())
    starts = [0, *starts] if len(starts) > 1 else [0]
    for start, end in zip(starts, [*starts[1:], len(line)], strict=True):
        yield from _QUESTION_END.split(line[start:end]) if kind == "query" else (line[start:end],)


def bare(line: str, question: str, *, kind: ClueKind) -> str:
    """A line without what surrounds the clue; a draft answer keeps bullets and numbers, it may be a list."""
    marks = [compiled(_LABEL), _EAGER, _JSON_START]
    if kind != "answer":
        marks = [BULLET, NUMBER, *marks]
    if kind == "step":
        marks.append(compiled(_STEP_LABEL))
    for _ in range(_DEEPEST):  # what surrounds a clue is itself surrounded
        before = line
        line = _ITALIC.sub(r"\1", _BOLD.sub(r"\1", line).strip())
        line = _without_json_end(line.strip().rstrip(",，、;；"))
        line = without_marks(line, *marks)
        line = _unquoted(line.removeprefix("...").removesuffix("...").strip("… \t"))
        line = _without_question(_without_source(line, kind), question)
        if line == before:
            break
    return _without_loop(line)


def without_marks(line: str, *marks: regex.Pattern[str]) -> str:
    """A line without marks at its beginning, such as ``BULLET`` and ``NUMBER``, in their order."""
    for mark in marks:
        if found := mark.match(line):
            line = line[found.end() :].lstrip()
    return line


def _without_json_end(line: str) -> str:
    """A quoted line without the brackets behind its last quotation mark."""
    quoted = line.rstrip("]}").rstrip() if line[:1] in ('"', "'") and line[-1] in "]}" else line
    return quoted if len(quoted) > 1 and quoted[-1] in "\"'" else line


def _without_source(line: str, kind: ClueKind) -> str:
    """A line without citations, references and translations at its end, if anything is left then."""
    head, tail = line[:-_LONGEST_SOURCE], line[-_LONGEST_SOURCE:]  # long lines are searched at their end only
    for mark in (_CITATION, _REFERENCE, _TRANSLATED):
        shorter = mark.sub("", tail)
        if (head + shorter).strip(" .。"):
            tail = shorter
    bracket = _BRACKET_AFTER_SENTENCE.search(tail)
    if bracket and _foreign(bracket[1], tail[: bracket.start()]):
        tail = tail[: bracket.start()]
    return head + (_REMARK.sub("", tail) if kind == "query" else tail)


def _foreign(text: str, other: str) -> bool:
    """Whether one text is in Latin letters and the other has none, or the other way round."""
    latin = regex.search(r"\p{Latin}", text) is not None
    return (
        latin != (regex.search(r"\p{Latin}", other) is not None) and regex.search(r"\p{L}", text) is not None
    )


def _unquoted(line: str) -> str:
    closings = _QUOTES.get(line[:1], "")
    end = len(line) - (len(line) > 2 and line[-1] in ".。" and line[-2] in closings)
    if closings and end > 1 and _wraps(line[:end], closings):
        return line[1 : end - 1].strip()
    if line[:1] in _PARTNERS and not any(mark in line[1:] for mark in _PARTNERS[line[0]]):
        return line[1:].strip()
    if line[-1:] in _PARTNERS and not any(mark in line[:-1] for mark in _PARTNERS[line[-1]]):
        return line[:-1].strip()
    return line


def _wraps(line: str, closings: str) -> bool:
    """Whether the quotation that opens a line closes at its end and not before."""
    depth = 1
    for place, sign in enumerate(line[1:], start=1):
        if sign in "'’" and line[place - 1].isalpha() and line[place + 1 : place + 2].isalpha():
            continue  # an apostrophe
        if sign in closings:
            depth -= 1
        elif sign == line[0]:
            depth += 1
        if not depth:
            return place == len(line) - 1
    return False


def _without_question(line: str, question: str) -> str:
    """A line without the question that it begins with, if that is marked off as one."""
    plain = question.strip().rstrip(" ?？.。:：")
    if not plain or line[: len(plain)].casefold() != plain.casefold():
        return line
    rest = line[len(plain) :].lstrip()
    return rest.lstrip(' ?？:：-–—>"”」') if rest[:1] in tuple("?？:：") else line


def _without_loop(line: str) -> str:
    """A line without the repetitions it ends with, if they are three or more; 1,000,000,000 stays."""
    for period in range(4, min(len(line) // 3, 300) + 1):
        turn = line[-period:]
        if not line.endswith(turn * 3) or sum(map(str.isalpha, turn)) < 4 or len(set(turn)) < 3:
            continue
        start = len(line) - 3 * period
        while start > 0 and line[start - 1] == line[start - 1 + period]:
            start -= 1
        return line[: start + period].strip(" \t,，、;；")
    return line


# --- names --------------------------------------------------------------------------------------------------

_TYPE_LABEL = (
    rf"(?:\p{{L}}+ )?(?:{phrases.NAME_TYPES})(?: names?)?(?:\s*[/&、和与]\s*(?:{phrases.NAME_TYPES}))*"
    rf"{_COUNT}[:：]\s*(?=\S)"
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
    labelled = compiled(_TYPE_LABEL).match(line)
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
