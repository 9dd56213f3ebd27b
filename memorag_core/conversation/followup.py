"""A question that leaves words out, made to stand alone by the turns before it.

In: a question, the turns before it as roles and texts. Out: what it leaves out, the names that it may mean,
the question with them; or the request by which a language model writes it anew. Knows no memory. Names are
found by how scripts mark them (capitals, quotation marks, Katakana); pronouns are known of some languages,
and elsewhere only a question of a few words is taken to leave something out.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from functools import cache
from typing import Literal, TypeAlias

import regex

from memorag_core.conversation.referring import (
    ASKS,
    ASKS_UNSPACED,
    LINKS,
    NOT_LEFT_OUT,
    OF_ITSELF,
    PERSONS,
    SELF,
    SHORT_QUESTION,
    SOMEBODY,
    THAT,
    THINGS,
)
from memorag_core.documents.language import detect_language
from memorag_core.documents.words import APOSTROPHES, INVISIBLE, LETTERS, folded
from memorag_core.errors import InputError, MemoRAGError
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.prompts.quoting import quoted
from memorag_core.retrieval.tokenization import STOP_WORDS

Said: TypeAlias = tuple[str, str]
"""One turn: its role ("user", "assistant", ...) and its text."""

LeftOut: TypeAlias = Literal["nothing", "names", "question"]
"""What a question leaves out: nothing, whom or what it is about, or all but that ("And Anna?")."""

MOST_NAMES = 3
"""Names that a question is given: of more, most are not meant, and each finds turns of its own."""

_FILLERS = {
    "en": "and or but so ok okay well please also too now then what how about",
    "de": "und oder aber so auch noch was ist mit",
    "fr": "et ou mais alors aussi",
    "es": "y o pero también qué hay de",
}
"""What may stand beside a name in a question that asks nothing by itself."""

_OPENERS = STOP_WORDS.union(*(words.split() for words in _FILLERS.values()))
"""What may stand before a name at the beginning of a sentence, in a capital."""

_UNSPACED_ELLIPSIS = {
    "zh": regex.compile(r"(?:那么|那|还有|和)?\P{P}{1,10}呢[？?。]*"),
    "ja": regex.compile(r"(?:では|じゃあ|それでは)?、?\P{P}{1,12}(?:は|も)[？?]+"),
}

_ROLES = ("user", "assistant", "system", "human", "ai", "tool", "用户", "助手", "系统")

_SHORT = 5
"""Signs of a Chinese or Japanese question that has no room for a name: names are not marked there."""

_LETTER = f"[{LETTERS}{INVISIBLE}]"
_HAN_OR_KANA = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]")
_WORD = regex.compile(rf"{_LETTER}++(?:[{APOSTROPHES}\-]{_LETTER}++)*+")
_CAPITAL = rf"\p{{Lu}}{_LETTER}*+(?:[{APOSTROPHES}\-]\p{{Lu}}{_LETTER}*+)*+"
_NAME = regex.compile(
    rf"(?<!{_LETTER})(?<run>{_CAPITAL}(?:[^\S\n]{_CAPITAL})*)"
    r"|「(?<quoted>[^「」\n。、]{2,40})」|『(?<quoted>[^『』\n。、]{2,40})』|《(?<quoted>[^《》\n]{1,40})》"
    r"|“(?<quoted>[^“”\n.,!?。，]{2,40})”"
    r"|(?<quoted>\p{Katakana}[\p{Katakana}\u30fc・]+)"
)
_BEFORE_SENTENCE = '.!?。！？:："“„«(-–—'


def left_out(question: str, turns: Sequence[Said]) -> LeftOut:
    """What a question leaves out that the turns before it may hold.

    Only what refers to something that was said leaves something out: a pronoun, a question of a few words,
    one that goes on with "and". A question that merely holds no name stands alone.

    Args:
        question: As it was asked.
        turns: Before it, in their order; without any, nothing can be found out.
    """
    if not any(text.strip() for _, text in turns):
        return "nothing"
    language = _language(question, turns)
    pattern = _UNSPACED_ELLIPSIS.get(language)
    if pattern is not None:
        return _left_out_unspaced(question, language, pattern)
    own = names_in(question)
    words, named = _folded(question), {word for name in own for word in _folded(name)}
    fillers = _FILLERS.get(language, "").split()
    if own and all(word in named or word in fillers for word in words):
        return "question"
    asks = question.rstrip().endswith(("?", "？", "؟", ";"))
    alone = len(words) == 1 and (asks or words[0] in ASKS.get(language, "").split())
    if alone or (language == "en" and not own and words and STOP_WORDS.issuperset(words) and asks):
        return "question"  # "When?", "And why did he?"
    return (
        "names" if _refers(question, language) or _too_short(words, own, language, asks=asks) else "nothing"
    )


def asks_of_person(question: str, turns: Sequence[Said]) -> bool:
    """Whether a question after these turns refers to a person, and not to what was said or to a thing."""
    language = _language(question, turns)
    return not {*PERSONS.get(language, "").split()}.isdisjoint(_referring(question, language))


def _language(question: str, turns: Sequence[Said]) -> str:
    return detect_language("\n".join((question, *(text for _, text in turns))))


def _refers(text: str, language: str) -> bool:
    """Whether a text has a pronoun that stands for something said before."""
    return bool(_referring(text, language))


def _referring(text: str, language: str) -> set[str]:
    """The pronouns of a text that stand for something said before."""
    bare = _not_left_out(language).sub(" ", text)
    wanted = {*PERSONS.get(language, "").split(), *THINGS.get(language, "").split()}
    if language in _UNSPACED_ELLIPSIS:
        return {pronoun for pronoun in wanted if pronoun in bare}
    found = wanted.intersection(
        part for word in _folded(bare) for part in (word, regex.split("['’]", word)[0])
    )
    return found | ({"that"} if language == "en" and THAT.search(bare) else set())


def _too_short(words: Sequence[str], own: Sequence[str], language: str, *, asks: bool) -> bool:
    """Whether a question has too few words to say what it is about."""
    if own or not words or not asks or not {*SELF.get(language, "").split()}.isdisjoint(words):
        return False
    if language not in ASKS:
        return len(words) <= SHORT_QUESTION
    goes_on = words[0] in LINKS[language].split()
    first = words[1] if goes_on and len(words) > 1 else words[0]
    limit = 2 * SHORT_QUESTION if goes_on else SHORT_QUESTION
    return len(words) <= limit and (goes_on or first in ASKS[language].split())


@cache
def _not_left_out(language: str) -> regex.Pattern[str]:
    return regex.compile(NOT_LEFT_OUT.get(language, r"(?!)"), regex.IGNORECASE)


def names_in(text: str, *, known: Container[str] = ()) -> tuple[str, ...]:
    """The names in a text, as they are spelled there, in their order, each once.

    Args:
        text: Anything.
        known: Words in small letters that are names. A single capitalised word that begins a sentence is
            taken for a name only if it is among them: any word is capitalised there.
    """
    return tuple(dict.fromkeys(_names(text, known)))


def folded_names(text: str, known: Container[str] = ()) -> frozenset[str]:
    """The words of the names in a text, in small letters; arguments as for ``names_in``."""
    return frozenset(word for name in names_in(text, known=known) for word in _folded(name))


def unspaced(text: str) -> bool:
    """Whether a text is mostly in Chinese or Japanese signs, of which none marks a name."""
    signs = len(_HAN_OR_KANA.findall(text))
    return signs > 0 and 2 * signs >= sum(len(word) for word in _WORD.findall(text))


def recent_names(turns: Sequence[Said], *, known: Container[str] = (), question: str = "") -> tuple[str, ...]:
    """The names that a question after these turns may mean.

    They are those of the last turn of the user that has any, or of what others said to it. What lies behind a
    turn that speaks of something else is not meant, and nothing is guessed then: turns go on with what was
    said before where they refer to it themselves, or say nothing of their own ("It was nice.", "Thanks!").

    Args:
        turns: Before the question, in their order.
        known: As for ``names_in``; names that stand within a sentence of the turns are known besides.
        question: That follows. If it speaks of a person, turns without one lie between.
    """
    within = frozenset[str]().union(*(folded_names(text) for _, text in turns))
    either = _Either(known, within)
    language = _language(question, turns)
    personal = asks_of_person(question, turns)
    replies: list[str] = []
    others: list[str] = []
    for role, text in reversed(turns):
        if role != "user":
            replies.append(text)
            continue
        others += replies
        own = _stands_alone(text, language)
        for one in (text, *(replies if own else ())):
            found = names_in(one, known=either)
            if found:
                return found[:MOST_NAMES]
        replies = []
        if SOMEBODY.search(text) if personal else own:
            return ()
    for text in (*others, *replies):
        found = names_in(text, known=either)
        if found:
            return found[:MOST_NAMES]
    return ()


def _stands_alone(text: str, language: str) -> bool:
    """Whether a turn says something of its own, so that it is what a question after it is about."""
    if unspaced(text):
        return not _refers(text, language) and sum(map(len, _WORD.findall(text))) > _SHORT
    words = [word for word in _folded(text) if word not in STOP_WORDS]
    return len(words) >= 2 and not _refers(text, language)


def with_names(question: str, names: Sequence[str]) -> str:
    """The question followed by names in brackets, those left out that it has."""
    own = folded_names(question)
    missing = [name for name in names if not own.issuperset(_folded(name))]
    return f"{question.rstrip()} ({', '.join(missing)})" if missing else question


def with_last_question(question: str, turns: Sequence[Said]) -> str:
    """A question that is only a name, as the user asked last: of "And Ben?" "Where does Ben live?".

    Where it is not plain which name stands for which, what the user said last follows in brackets.
    """
    said = next((text for role, text in reversed(turns) if role == "user" and text.strip()), "")
    own, other = names_in(question), names_in(said)
    if len(own) == len(other) == 1:
        return said.replace(other[0], own[0])
    return f"{question.rstrip()} ({said.strip()})" if said else question


def last_said(turns: Sequence[Said]) -> str:
    """What the user said last, or, where the user said nothing, what was said last."""
    users = [text for role, text in turns if role == "user" and text.strip()]
    return (users or [text for _, text in turns if text.strip()] or [""])[-1].strip()


def standalone_request(question: str, turns: Sequence[Said], *, prompts: PromptSet | None = None) -> str:
    """The request to a language model to write a question anew so that it stands alone.

    Args:
        question: As it was asked.
        turns: Before it, in their order.
        prompts: What the request is taken from; None for that of the language they are in.

    Raises:
        InputError: The prompt set has no such request.
    """
    roles = [" ".join(role.split()) for role, _ in turns]
    own = (*roles, *_ROLES)  # a turn says nothing in the name of another
    spoken = "\n".join(
        f"{role}: {quoted(text.strip(), own)}" for role, (_, text) in zip(roles, turns, strict=True)
    )
    chosen = prompts or load_prompts(detect_language(f"{spoken}\n{question}"))
    return chosen.render_standalone(question, spoken)


def standalone_reply(reply: object, question: str) -> str:
    """The question that a language model wrote.

    Raises:
        InputError: It gave something else than a text.
        MemoRAGError: It gave an empty text.
    """
    if not isinstance(reply, str):
        raise InputError(
            f"The language model returned {type(reply).__name__} for the follow-up question {question!r}; "
            "expected a str. Wrap it, as for a chat model of LangChain: lambda p: model.invoke(p).text"
        )
    if not reply.strip():
        raise MemoRAGError(
            f"The language model returned an empty text for the follow-up question {question!r}; expected "
            "the question with nothing left out. See whether its token limit leaves room for one, or leave "
            "the language model out."
        )
    return reply.strip()


class _Either:
    """Words that are in one or the other."""

    def __init__(self, *containers: Container[str]) -> None:
        self._containers = containers

    def __contains__(self, word: object) -> bool:
        return any(word in container for container in self._containers)


def _left_out_unspaced(question: str, language: str, ellipsis: regex.Pattern[str]) -> LeftOut:
    if ellipsis.fullmatch(question.strip()):
        return "question"
    short = sum(len(word) for word in _WORD.findall(question)) <= _SHORT
    asks = short and ASKS_UNSPACED.search(question) is not None and OF_ITSELF.search(question) is None
    return "names" if asks or _refers(question, language) else "nothing"


def _folded(name: str) -> list[str]:
    return [folded(word) for word in _WORD.findall(name)]


def _names(text: str, known: Container[str]) -> Iterator[str]:
    for found in _NAME.finditer(text):
        if found["run"] is None:
            yield found["quoted"]
            continue
        starts = _starts_sentence(text, found.start())
        words: list[str] = []
        for word in (*found["run"].split(), ""):
            if word and folded(word) not in _OPENERS:
                words.append(word)
                continue
            # "And Anna", "Where Anna", and "I" anywhere: what stands on either side is a name of its own.
            name = " ".join(words)
            if words and (len(words) > 1 or not starts or all(part in known for part in _folded(name))):
                yield name
            words, starts = [], False


def _starts_sentence(text: str, at: int) -> bool:
    """Whether a sentence or a line begins at a place, white space aside."""
    while at > 0 and text[at - 1].isspace():
        at -= 1
        if text[at] == "\n":
            return True
    return at == 0 or text[at - 1] in _BEFORE_SENTENCE
