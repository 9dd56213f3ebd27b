"""What a model wrote into clues: numbered, quoted, fenced, labelled, echoed, repeated, in any language.

In: a reply and its question. Out: the lines that say something. Knows no memory and no corpus.

What stays is judged by the information it carries and never by counting words between spaces, which Chinese
and Japanese do not have.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import regex

from memorag_core.records import ClueKind


def parse_clues(text: str, *, kind: ClueKind, question: str = "", finished: bool = True) -> tuple[str, ...]:
    """Read the clues out of what a model wrote.

    Lines are freed of numbering, bullets, quotation marks, labels, fences, JSON and endless repetition. Lines
    go that echo the question, announce clues, refuse, say nothing but function words, or repeat another line
    in whole.

    Args:
        text: What the model wrote; anything is taken.
        kind: A draft answer is one text of one or more lines; all other kinds are one clue a line.
        question: The question that was asked, whose echo is no clue.
        finished: False when the token limit cut the text. The half word at its end goes; a half question or
            key point goes as a whole when there are others; a draft answer ends with its last whole sentence,
            if any.

    Returns:
        The clues in the order written, none of them contained in another; at most one for a draft answer.
    """
    lines, whole = _lines(text)
    if kind == "answer":
        lines = [_bare(line, question, listed=False) for line in _first_answer(lines)]
    else:
        lines = [_bare(item, question) for line in lines for item in _items(line, kind)]
    if lines and not (finished or whole):
        alone = not any(_informative(line, kind) for line in lines[:-1])
        lines[-1] = _without_cut_end(lines[-1], kind, alone=alone)
    asked = comparable(question)
    lines = [line for line in lines if _informative(line, kind) and not _echoes(line, asked, kind)]
    return _one_text(lines) if kind == "answer" else _distinct(lines)


# --- what surrounds a clue ----------------------------------------------------------------------------------

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts written without spaces between words."""

_THINKING = regex.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", regex.S | regex.I)
_THOUGHT = regex.compile(r"\A.*</think(?:ing)?>", regex.S | regex.I)
_SPECIAL_TOKEN = regex.compile(r"<\|[^|<>\n]{1,40}\|>|</s>|\[/?INST\]")
_FENCE = regex.compile(r"^[ \t>]*(?:```|~~~)[\w+-]*[ \t]*$", regex.M)
_INVISIBLE = regex.compile(r"[\u200b\u2060\ufeff\u200e\u200f]")
_BOLD = regex.compile(r"(?<!\w)\*\*(?=\S)([^*\n]+)(?<=\S)\*\*(?!\w)")

_BULLET = regex.compile(
    r"[•●○◦▪■□◆◇►▶‣※➤➢✓✔★·・][ \t]*|[-*+][ \t]+|[–—][ \t]*(?!\d)|>[ \t]*|\#{1,6}[ \t]+"
    r"|-(?=[\p{Han}\p{Hiragana}\p{Katakana}\"“「¿])"
)
_HAN_NUMBER = "[一二三四五六七八九十]{1,3}"
_NUMBER = regex.compile(
    r"(?:"
    rf"[(（][ \t]*(?:\d{{1,2}}|[a-h]|[ivx]{{1,4}}|{_HAN_NUMBER})[ \t]*[)）][ \t]*[.:：、]?"
    r"|[\[【][ \t]*\d{1,2}[ \t]*[\]】][ \t]*[.:：、]?"
    r"|\d{1,2}[ \t]*[.:](?![\p{Ll}\d])"  # not 1.5, 12:30 or 3.x
    r"|\d{1,2}[ \t]*[)、．）：]"
    r"|[a-h]\)"
    rf"|{_HAN_NUMBER}[、．）：]"
    r"|[①-⑳⑴-⒇❶-❿➀-➓][ \t]*[.:：、]?"
    r"|\d\ufe0f?\u20e3"
    r")(?=\s*\S)"  # a figure alone is an answer
)
_NUMBER_INSIDE = regex.compile(
    r"(?:(?<=[\s。；;！？!?:：])|^)[(（]?(\d{1,2})[ \t]*[.)、．）](?![\p{Ll}\d])|([①-⑳])"
)
_QUESTION_END = regex.compile(r"(?<=[?？][\"”」』]?)\s+(?=[\p{Lu}\p{Lo}¿\"“「])|(?<=？)(?=\p{Lo})")


def _any_of(words: str) -> str:
    return "|".join(map(regex.escape, sorted(words.split(), key=len, reverse=True)))


_ASKING = _any_of(
    "question questions query queries pregunta preguntas frage fragen domanda pergunta вопрос вопросы "
    "问题 问 問題 質問 질문"
)
_SAYING = _any_of(
    "answer answers response clue clues hint hints span spans passage passages excerpt excerpts quote quotes "
    "quotation text sentence sentences evidence summary output result assistant point points "
    "respuesta pista fragmento cita resumen réponse indice extrait citation résumé "
    "antwort hinweis zitat auszug textstelle zusammenfassung risposta resposta ответ цитата отрывок "
    "答案 回答 答 線索 线索 原文 片段 原文片段 摘录 引用 引文 句子 要点 关键点 总结 摘要 输出 结果 "
    "答え 手がかり 手掛かり 抜粋 要約 답변 답 단서"
)
_MANNER = (
    "draft final short possible relevant related surrogate text supporting key follow-up exact direct sub"
)
_COUNT = rf"[ \t]*(?:\d{{1,2}}|{_HAN_NUMBER}|[(（]\d{{1,2}}[)）])?[ \t]*"
_LABEL = regex.compile(
    rf"(?:(?:{_any_of(_MANNER)})[ -]?)*(?:{_ASKING}|{_SAYING}|Q|A){_COUNT}[:：]"
    r"|Q[ \t]?\d{1,2}\.|(?:the )?answer(?: to the question)? is ?:|答案是[:：]",
    regex.I,
)
_ASKED_AGAIN = regex.compile(rf"[\s*#]*(?:{_ASKING}|Q){_COUNT}[:：]", regex.I)
_EAGER = regex.compile(
    r"(?:sure|certainly|of course|absolutely|好的|当然|もちろん)[!！][ \t]*(?=\S)", regex.I
)
_JSON_START = regex.compile(r'"[^"\n]{1,30}"\s*:\s*(?=["\[])|[\[\]{}](?=\s*(?:["\']|$))')
_JSON_END = regex.compile(r"(?<=^[\"'].*[\"'])\s*[\]}]+$")

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

_SENTENCE_END = regex.compile(r"[.!?…][\"'”’)\]]*(?=\s|$)|[。！？][」』”’）]*")


def _lines(text: str) -> tuple[list[str], bool]:
    """The lines of a text, or the strings of the JSON in it; and whether its end is known to be whole."""
    text = _THOUGHT.sub("", _THINKING.sub("", text))
    text = _FENCE.sub("", _INVISIBLE.sub("", _SPECIAL_TOKEN.sub("", text))).strip(" \t")
    strings = _json_strings(text)
    if strings is not None:
        return strings, text.rstrip(" \t\n,")[-1:] in ("]", "}")
    lines: list[str] = []
    for line in text.splitlines():
        strings = _json_strings(line)
        lines.extend([line] if strings is None else strings)
    return lines, text.endswith("\n")


def _json_strings(text: str) -> list[str] | None:
    """The lines of the strings in a JSON list or object; None where the text is not one."""
    body = text.strip().rstrip(",")
    if body[:1] not in ("[", "{"):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        quote = "'" if body[1:].lstrip()[:1] == "'" else '"'  # a list in Python's spelling, or cut off
        pieces = regex.split(rf"(?<={quote}),\s*(?={quote})", body)
        return [line for piece in pieces for line in piece.splitlines()] if len(pieces) > 1 else None
    return [line for string in _strings(found) for line in string.splitlines()]


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _items(line: str, kind: ClueKind) -> Iterator[str]:
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


def _first_answer(lines: Iterable[str]) -> Iterator[str]:
    """The lines up to the next question, which a model without end goes on to ask itself."""
    answered = False
    for line in lines:
        if _ASKED_AGAIN.match(line) and answered:
            return
        answered = answered or (bool(line.strip()) and not _ASKED_AGAIN.match(line))
        yield line


def _bare(line: str, question: str, *, listed: bool = True) -> str:
    """A line without what surrounds the clue; ``listed`` False leaves bullets and numbers."""
    marks = (_BULLET, _NUMBER, _LABEL, _EAGER, _JSON_START) if listed else (_LABEL, _EAGER, _JSON_START)
    line = _BOLD.sub(r"\1", line)
    before = None
    while line != before:  # every step shortens the line, so this ends
        before = line
        line = _JSON_END.sub("", line.strip().rstrip(",，、;；"))
        line = _without_marks(line, *marks)
        line = _unquoted(line.removeprefix("...").removesuffix("...").strip("… \t"))
        line = _without_question(line, question)
    return _without_loop(line)


def _without_marks(line: str, *marks: regex.Pattern[str]) -> str:
    for mark in marks:
        if found := mark.match(line):
            line = line[found.end() :].lstrip()
    return line


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


def _without_cut_end(line: str, kind: ClueKind, *, alone: bool) -> str:
    ends = [match.end() for match in _SENTENCE_END.finditer(line)]
    if ends and ends[-1] == len(line):
        return line
    if kind == "answer" and ends:
        return line[: ends[-1]]
    if kind in ("query", "key_point") and not alone:
        return ""
    return line if not line or _SIGN.match(line[-1]) else regex.sub(r"\s+\S*$", "", line)


# --- what carries no information ----------------------------------------------------------------------------

_WORD = regex.compile(
    rf"[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]"
    rf"|[[\p{{L}}\p{{N}}]--[{_UNSPACED}]][[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]*",
    regex.V1,
)
_SIGN = regex.compile(rf"[{_UNSPACED}]")
_SPACE_BETWEEN_SIGNS = regex.compile(rf"(?<=[{_UNSPACED}]) (?=[{_UNSPACED}])")

_FUNCTION_WORDS = frozenset(
    """
    a about also am an and any are as at be been being but by can could did do does doing done for from had
    has have he her hers him his how i if in into is it its me my no not of on or our she should so such than
    that the their them then there these they this those to us was we were what when where which who whom
    whose why will with would yes you your
    de el la los las un una y o en que es se del al lo por con su qué quién cómo cuál dónde cuándo
    le les des du et est ce il elle dans pour qui sur der die das und ist ein eine zu den dem wer wie wo
    и в на не что это он она кто как где
    """.split()
)
_FUNCTION_SIGNS = regex.compile(
    "什么|怎么|为什么|哪里|哪儿|这个|那个|谁|何|哪|的|了|是|吗|呢|吧|着|们|他|她|它|我|你|您|这|那|之"
    "|でしょうか|ですか|ますか|でした|です|ます|それ|これ|あれ|どれ|どこ|いつ|だれ|誰|なぜ"
    "|[はがをにでとのもへやか]"
)

_NOTHING = frozenset(
    """
    none|n a|na|null|nil|unknown|nothing|no answer|not applicable|no idea|not sure|unclear|unanswerable|
    no clue|no clues|i don t know|i do not know|don t know|i m not sure|i am not sure|i can t recall|
    i cannot recall|i don t recall|i don t remember|i do not remember|not mentioned|not specified|not stated|
    not found|no information|no relevant information|no relevant passages|cannot be determined|
    nothing relevant|no sé|no lo sé|ninguno|ninguna|nada|no se menciona|desconocido|sin información|
    je ne sais pas|aucun|aucune|inconnu|non lo so|nessuno|não sei|nenhum|desconhecido|
    keine|keiner|unbekannt|ich weiss nicht|ich weiss es nicht|nicht bekannt|keine angabe|
    нет|не знаю|неизвестно|모름|없음|모르겠습니다|알 수 없음|
    无|没有|不知道|我不知道|未知|不详|不清楚|未提及|没有提到|没有提及|文中未提及|文中没有提到|
    无法确定|无法回答|无相关信息|没有相关信息|暂无|空|
    なし|無し|ない|不明|わかりません|分かりません|わからない|知りません|該当なし|情報なし
    """.replace("\n    ", "")
    .strip()
    .split("|")
)
"""Whole lines that say there is nothing to say, as ``comparable`` gives them, unspaced scripts joined."""

_SOURCE = r"(?:text|passage|article|context|document|story|book|chapter|excerpt|memory)s?"
_TELL = (
    "(?:mention|provide|specify|contain|say|state|give|include|discuss|indicate|name|explain|answer"
    "|tell|describe|address|offer|clarify)s?"
)
_TOLD = r"(?:mentioned|stated|specified|given|provided|found|discussed|described|included|named|answered)"
_KNOW = "(?:find|recall|remember|provide|answer|determine|have|see)"
_REFUSALS = (
    # "The passage does not say who he was", never "The captain did not say who he was", as in a novel.
    rf"(?:(?:based on|according to) [^,]*, )?(?:the|this) (?:\w+ )?{_SOURCE} (?:itself |only )?"
    rf"(?:{_TELL} no|(?:(?:does|did|do|could|can) ?(?:not|n['’]t)|never) (?:\w+ )?{_TELL})\b",
    rf".*\b(?:not|never|n['’]t) (?:\w+ ){{0,2}}{_TOLD} (?:\w+ ){{0,2}}"
    rf"(?:in|by) (?:the|this|my) (?:\w+ )?{_SOURCE}\b",
    r"i (?:do not|don['’]t|can['’]?t|cannot|could not|couldn['’]t|(?:am|was) (?:unable|not able) to) "
    rf"{_KNOW}\b.*\b(?:information|details?|question|{_SOURCE})\b",
    r"(?:(?:i['’]m |i am )?sorry|unfortunately|i apologi[sz]e)\b.*\b(?:not|no|unable|cannot|n['’]t)\b"
    rf".*\b(?:information|details?|questions?|answers?|{_SOURCE})\b",
    r"there (?:is|was|are|were) no (?:\w+ )?(?:mention|information|indication|details?|passages?|answer)\b",
    r"no (?:relevant |specific |direct |further )?(?:information|mention|passages?|spans?|details) \w+",
    r"(?:根据)?(?:文章|文中|文本|原文|上文|本文|文档|材料|提供的\w{0,4}?)\w{0,8}?[，,]?"
    r"(?:没有|并未|未|无法|不能)\w{0,4}?(?:提到|提及|说明|提供|给出|找到|回答|确定|得知|记载)",
    r"(?:抱歉|对不起|很遗憾).*(?:无法|没有|不).*(?:信息|文本|文章|原文|文中|答案|内容|问题|知道|回答|提到|记得)",
    r"(?:本文|文中|テキスト|文章|記事|この文章).*(?:記載|言及|述べ|書かれ|情報).*(?:ません|ない)",
    r"(?:申し訳|すみません).*(?:情報|本文|文中|文章|テキスト|記憶|質問|答え|わかりません|分かりません)",
    r"(?:en )?(?:el|este) (?:texto|pasaje|artículo|documento) no (?:se )?"
    r"(?:menciona|dice|proporciona|indica|especifica|contiene)",
    r"le (?:texte|passage|document) ne (?:mentionne|précise|dit|fournit|donne|contient)",
    r"(?:der|im) text\b.*\b(?:nicht|keine)\b.*(?:erwähnt|angegeben|angaben|informationen|genannt)",
)
_REFUSAL = regex.compile("|".join(_REFUSALS), regex.I)
_CHATTER = regex.compile(
    r"(?:sure|certainly|of course|okay|ok|absolutely|understood|claro|por supuesto|bien sûr|natürlich"
    r"|好的|当然(?:可以)?|はい|もちろんです|承知しました)[ .,!。，！]*$"
    r"|(?:i )?hope (?:this|that|these) (?:\w+ )?helps?|(?:please )?let me know if|feel free to"
    r"|希望(?:这|这些|以上\w{0,4})?(?:能)?(?:对[您你])?(?:有)?(?:所)?帮助",
    regex.I,
)
_ABOUT_CLUES = regex.compile(
    r"\b(?:here (?:is|are)|following|as follows|below|listed|spans?|passages?|excerpts?|quotes?|clues?"
    r"|questions?|key points?|answers?|sentences|a continuación|siguientes|voici|suivante?s?|folgende\w*"
    r"|следующ\w*)\b|以下|如下|下列|片段|原文|线索|要点|问题|答案|次の|抜粋|手がかり|質問|回答|다음",
    regex.I,
)


def comparable(text: str) -> str:
    """What texts that say the same have in common: words between single spaces, unspaced scripts by sign.

    The spaces at both ends make ``in`` ask for whole words.
    """
    return f" {' '.join(_WORD.findall(unicodedata.normalize('NFKC', text).casefold()))} "


def _informative(line: str, kind: ClueKind) -> bool:
    """Whether a line says something: enough different letters, figures or signs beside function words."""
    said = _SPACE_BETWEEN_SIGNS.sub("", comparable(line)).strip()
    if not said or said in _NOTHING or _CHATTER.match(line) or _REFUSAL.match(line):
        return False
    if line[-1] in ":：" and len(line) <= 200 and _ABOUT_CLUES.search(line):
        return False
    if kind == "answer":
        return True  # "42" and "no" are answers
    content = _WORD.findall(_FUNCTION_SIGNS.sub(" ", said))
    signs = {sign for word in content if word not in _FUNCTION_WORDS for sign in word}
    return len(signs) >= 2 or (bool(signs) and len(set(_SIGN.findall(said))) >= 2)


def _echoes(line: str, asked: str, kind: ClueKind) -> bool:
    """Whether a line gives back the question; a part may be the answer, though ("Is A or B larger?")."""
    key = comparable(line)
    return key == asked or (kind != "answer" and key in asked)


def _distinct(lines: Iterable[str]) -> tuple[str, ...]:
    """The lines that no other line contains, in order."""
    kept: dict[str, str] = {}
    for line in lines:
        key = comparable(line)
        if not any(key in other for other in kept):
            kept = {other: text for other, text in kept.items() if other not in key} | {key: line}
    return tuple(kept.values())


def _one_text(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines of a draft answer as one text, each once; a list keeps its marks unless it is one line."""
    kept: dict[str, str] = {}
    for line in lines:
        kept.setdefault(comparable(_without_marks(line, _BULLET, _NUMBER)), line)
    if len(kept) > 1:
        return ("\n".join(kept.values()),)
    bare = [_bare(_without_marks(line, _BULLET), "", listed=False) for line in kept.values()]
    return tuple(line for line in bare if _informative(line, "answer"))
