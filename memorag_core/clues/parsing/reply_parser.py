"""A reply into its lines: thoughts, turns, fences, JSON and tables are taken apart.

In: what a model wrote. Out: its lines, those that cannot be clues marked with the reason. Knows nothing of
what stands in a line; that is for ``strip_markup``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import regex

from memorag_core.clues.parsing import phrases
from memorag_core.clues.parsing.filters import DropReason
from memorag_core.clues.parsing.phrases import compiled
from memorag_core.types import ClueKind


@dataclass(slots=True)
class Line:
    """A line of a reply, or one of the clues in it.

    Attributes:
        written: As the model wrote it.
        reason: Why it is no clue; in a reply that was just taken apart, where its place alone tells.
        text: Without what surrounds the clue, once that is known.
    """

    written: str
    reason: DropReason | None = None
    text: str = ""


_THINK = "think|thinking|thought|thoughts|reasoning|reflection|analysis|scratchpad"
_THINKING = regex.compile(
    rf"<({_THINK})>.*?(?:</\1>|\Z)"
    r"|<\|channel\|>(?:analysis|commentary)\b.*?(?=<\|channel\|>final|<\|start\|>|\Z)"
    r"|◁think▷.*?(?:◁/think▷|\Z)",
    regex.S | regex.I,
)
_THOUGHT = regex.compile(rf"\A.*</(?:{_THINK})>", regex.S | regex.I)
_FINAL = regex.compile(
    r"(?:final answer|(?:so|therefore|thus),? the answer is|最终答案|答案是|最終的な答え|結論として、?答えは"
    r"|respuesta final|итоговый ответ|окончательный ответ|최종 답변|الإجابة النهائية)[ :：*]*",
    regex.I,
)

# Where a turn ends, the reply ends; what follows is another turn that the model made up.
_TURN_END = regex.compile(
    r"<\|(?:im_end|eot_id|endoftext|end_of_text|return|end)\|>|</s>|<end_of_turn>|<eos>"
)
_NEXT_TURN = regex.compile(
    r"^[ \t]*(?:(?:\#{2,3} ?)?(?:user|human|instruction|用户|ユーザー|usuario)[ \t]*[:：]"
    r"|\#{2,3} ?(?:instruction|input|user|human)\b|<\|im_start\|>(?:user|system)|\[INST\])",
    regex.M | regex.I,
)
_ROLE = regex.compile(
    r"<\|im_start\|>(?:assistant)?\n?|<\|start_header_id\|>\w*<\|end_header_id\|>|<\|start\|>(?:assistant)?"
    r"|<\|channel\|>(?:final|analysis|commentary)?(?:<\|message\|>)?|<start_of_turn>(?:model)?\n?"
)
_SPECIAL_TOKEN = regex.compile(
    r"<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|</?s>|\[/?INST\]|<end_of_turn>|<eos>|<pad>"
)
_NOTHING_YET = regex.compile(rf"(?:\s|{_SPECIAL_TOKEN.pattern})*+")
_TAG = regex.compile(
    r"</?(?:answer|spans?|clues?|output|result|response|passages?|quotes?|questions?|query|queries|steps?"
    r"|entity|entities|key_?points?|items?|text|final|ul|ol|p|b|i|em|strong|blockquote|code|pre)\s*/?>",
    regex.I,
)
_LINE_TAG = regex.compile(r"<(?:br|li|/li|tr|/tr)\s*/?>", regex.I)
_INVISIBLE = regex.compile(r"[\u200b\u2060\ufeff\u200e\u200f]")
# Patterns look for what follows white space from each sign of it: a million spaces would take hours.
_WIDE_SPACE = regex.compile(r"[^\S\n\r\v\f\x1c-\x1e\x85\u2028\u2029]{32,}+")
_FENCE = regex.compile(r"^[ \t>]*(?:```|~~~)[\w+-]*[ \t]*$", regex.M)
_BOXED = regex.compile(r"\$*\\boxed\{(?:\\text\{)?([^{}\n]*)\}?\}\$*")


def unwrap(text: str, kind: ClueKind) -> tuple[list[Line], bool]:
    """The lines of a reply, blank ones included, and whether its end is known to be whole."""
    lines: list[Line] = []

    def keep(thought: regex.Match[str]) -> str:
        lines.append(Line(thought[0].strip(), "thinking"))
        return ""

    text = _THOUGHT.sub(keep, _THINKING.sub(keep, _WIDE_SPACE.sub(" ", _INVISIBLE.sub("", text))))
    text, rest = _first_turn(_ROLE.sub("", text))
    text = _BOXED.sub(r"\1", _SPECIAL_TOKEN.sub("", text))
    text = _TAG.sub("", _LINE_TAG.sub("\n", text)).strip(" \t")
    whole = False
    for part in _FENCE.split(text):
        block, closed = _block(part, kind)
        lines += block
        whole = closed if part.strip() else whole
    if kind == "answer":
        _mark_thoughts(lines)
    if rest.strip():
        lines.append(Line(rest.strip(), "after the end"))
    return lines, whole or text.endswith("\n") or bool(rest)


def _first_turn(text: str) -> tuple[str, str]:
    """A reply up to the first end of a turn that something visible stands before, and what follows."""
    said = _NOTHING_YET.match(text).end() + 1  # type: ignore[union-attr]  # it matches the empty text, too
    ends = [found.start() for end in (_TURN_END, _NEXT_TURN) if (found := end.search(text, said))]
    if not ends:
        return text, ""
    before, rest = text[: min(ends)], _SPECIAL_TOKEN.sub("", text[min(ends) :])
    return (before, rest) if rest.strip() else (before + "\n", "")


def _mark_thoughts(lines: Sequence[Line]) -> None:
    """Mark what stands before the last "final answer"."""
    for place in range(len(lines) - 1, 0, -1):
        if lines[place].reason is None and _FINAL.match(lines[place].written.lstrip(" *#")):
            for thought in lines[:place]:
                thought.reason = thought.reason or "thinking"
            return


def _block(text: str, kind: ClueKind) -> tuple[list[Line], bool]:
    """The lines of a text between fences; and whether it is JSON that closes, or ends a line."""
    found = _json_lines(text, kind)
    if found is not None:
        return found, text.rstrip(" \t\n,")[-1:] in ("]", "}")
    inside = _json_inside(text, kind)
    if inside is not None:
        return inside, True
    lines: list[Line] = []
    rows: list[str] = []
    for line in text.splitlines():
        if kind != "answer" and line.lstrip().startswith("|") and line.count("|") > 1:
            rows.append(line)
            continue
        lines += _table(rows, kind)
        rows = []
        strings = _json_lines(line, kind)
        lines += [Line(line)] if strings is None else strings
    return [*lines, *_table(rows, kind)], text.endswith("\n")


# --- JSON ---------------------------------------------------------------------------------------------------

_KEY = r'"(?:[^"\\\n]|\\.){1,40}"\s*:'
_JSON_CUT = regex.compile(rf'(?:\[\s*(?:"|\{{\s*{_KEY})|\{{\s*{_KEY})')
_STRING = regex.compile(r'"((?:[^"\\]|\\.)*+)(?:"(\s*:)?|\Z)', regex.S)
_SIDE_KEY = (
    rf"(?:{phrases.ASIDES}|page|chapter|location|type|category|confidence|score|id|index|number|language|role"
    r"|position|line|description|类型|页码|章节|位置|类别|tipo|página|capítulo)"
)
_QUESTION_KEY = rf"(?:{phrases.ASKING}|q)\d*"
_ANSWER_KEY = r"(?:answers?|a|response|respuesta|答案|回答|答え|답변|ответ)\d*"


def _json_lines(text: str, kind: ClueKind) -> list[Line] | None:
    """The lines of the strings in a JSON list or object, even one cut off; None where the text is not one."""
    body = text.strip().rstrip(",")
    if body[:1] not in ("[", "{"):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        if body[-1] not in "]}" and _JSON_CUT.match(body):
            return list(_cut_strings(body, kind))
        quote = "'" if body[1:].lstrip()[:1] == "'" else '"'  # a list in Python's spelling
        pieces = regex.split(rf"(?<={quote}),\s*(?={quote})", body)
        return [Line(line) for piece in pieces for line in piece.splitlines()] if len(pieces) > 1 else None
    if not isinstance(found, list | dict):
        return None
    if isinstance(found, list) and all(isinstance(one, int | float) for one in found):
        return None  # a citation: [1]
    return list(_strings(found, kind))


def _json_inside(text: str, kind: ClueKind) -> list[Line] | None:
    """The lines of a text that has whole JSON of several lines somewhere in it, or None."""
    for start in regex.finditer(r"^[ \t]*[\[{][ \t]*$", text, regex.M):
        try:
            found, length = json.JSONDecoder().raw_decode(text[start.start() :].lstrip())
        except (ValueError, RecursionError):
            return None
        before, after = text[: start.start()], text[start.start() :].lstrip()[length:]
        return [*map(Line, before.splitlines()), *_strings(found, kind), *map(Line, after.splitlines())]
    return None


def _strings(value: object, kind: ClueKind, key: str = "") -> Iterator[Line]:
    if isinstance(value, str):
        yield from _under_key(value, key, kind)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _strings(inner, kind, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, kind, key)


def _cut_strings(body: str, kind: ClueKind) -> Iterator[Line]:
    key = ""
    for found in _STRING.finditer(body):
        try:
            string = json.loads(f'"{found[1]}"', strict=False)
        except ValueError:
            string = found[1]
        if found[2]:
            key = string
        else:
            yield from _under_key(string, key, kind)


def _under_key(string: str, key: str, kind: ClueKind) -> Iterator[Line]:
    """The lines of a string; no clue if its key says that it is about one, or is one of another kind."""
    other = {"query": _ANSWER_KEY, "answer": _QUESTION_KEY}.get(kind)
    aside = any(compiled(keys).fullmatch(key) for keys in (_SIDE_KEY, other) if keys is not None)
    for line in string.splitlines():
        yield Line(line, "chatter" if aside and line.strip() else None)


# --- tables -------------------------------------------------------------------------------------------------

_RULE = regex.compile(r"[\s|:=+-]+")
_HEADS = {
    "entity": rf"(?:{phrases.NAME_TYPES})",
    "step": rf"(?:{phrases.STEPS}|{phrases.SAYING})",
    "query": rf".*(?:{phrases.ASKING})",
}
_SAYING_HEAD = rf".*(?:{phrases.SAYING})"
_TYPE_HEAD = regex.compile(r"(?:type|kind|category|类型|类别|tipo|種類)", regex.I)


def _table(rows: Sequence[str], kind: ClueKind) -> Iterator[Line]:
    """The cells of a Markdown table: one column holds the clues, the others speak about them."""
    if not rows:
        return
    cells = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]
    headed = len(rows) > 1 and _RULE.fullmatch(rows[1]) is not None
    column = _clue_column(cells[0], kind) if headed else None
    for place, (row, written) in enumerate(zip(cells, rows, strict=True)):
        if _RULE.fullmatch(written):
            yield Line(written)
        elif headed and place == 0:
            yield Line(written, "announcement")
        else:
            worded = [number for number, cell in enumerate(row) if any(map(str.isalpha, cell))]
            own = column if column is not None and column < len(row) else next(iter(worded), 0)
            yield Line(row[own])
            if others := [row[number] for number in worded if number != own]:
                yield Line(" | ".join(others), "chatter")


def _clue_column(head: Iterable[str], kind: ClueKind) -> int | None:
    wanted = compiled(_HEADS.get(kind, _SAYING_HEAD))
    cells = (cell.strip("* ") for cell in head)
    return next(
        (n for n, cell in enumerate(cells) if wanted.match(cell) and not _TYPE_HEAD.fullmatch(cell)), None
    )
