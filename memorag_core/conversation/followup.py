"""A question that leaves words out, made to stand alone by the turns before it.

In: a question, the turns before it as roles and texts. Out: what it leaves out, the names that it may mean,
the question with them; or the request by which a language model writes it anew. Knows no memory. Names are
found by how scripts mark them (capitals, quotation marks, Katakana); pronouns are known of a few languages,
and elsewhere a question without a name of its own is taken to leave one out.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Literal, TypeAlias

import regex

from memorag_core.documents.language import detect_language
from memorag_core.errors import InputError, MemoRAGError
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.retrieval.tokenization import STOP_WORDS

Said: TypeAlias = tuple[str, str]
"""One turn: its role ("user", "assistant", ...) and its text."""

LeftOut: TypeAlias = Literal["nothing", "names", "question"]
"""What a question leaves out: nothing, whom or what it is about, or all but that ("And Anna?")."""

MOST_NAMES = 3
"""Names that a question is given: of more, most are not meant, and each finds turns of its own."""

_PRONOUNS = {
    "en": "he him his she her hers it its they them their theirs there then",
    "de": "er ihn ihm sein seine seiner seinen sie ihr ihre ihrer ihren ihnen dort da damals dessen deren",
    "fr": "il elle ils elles lui leur leurs son sa ses y en",
    "es": "él ella ellos ellas lo la le les su sus allí ahí entonces",
    "zh": "他 她 它 其 那里 那儿 那边 那时 那个 这个",
    "ja": "彼 それ そこ その あの",
}
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

_SHORT = 5
"""Signs of a Chinese or Japanese question that has no room for a name: names are not marked there."""

_LETTER = r"[\p{L}\p{M}\p{N}]"
_HAN_OR_KANA = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]")
_WORD = regex.compile(rf"{_LETTER}+(?:['’\-]{_LETTER}+)*")
_CAPITAL = rf"\p{{Lu}}{_LETTER}*(?:['’\-]\p{{Lu}}{_LETTER}*)*"
_NAME = regex.compile(
    rf"(?<!{_LETTER})(?<run>{_CAPITAL}(?:[^\S\n]{_CAPITAL})*)"
    r"|「(?<quoted>[^「」\n。、]{2,40})」|『(?<quoted>[^『』\n。、]{2,40})』|《(?<quoted>[^《》\n]{1,40})》"
    r"|“(?<quoted>[^“”\n.,!?。，]{2,40})”"
    r"|(?<quoted>\p{Katakana}[\p{Katakana}\u30fc・]+)"
)
_STARTS_SENTENCE = regex.compile(r"(?:^|[.!?。！？:：\n\"“„«(\-–—])\s*$")


def left_out(question: str, turns: Sequence[Said]) -> LeftOut:
    """What a question leaves out that the turns before it may hold.

    Args:
        question: As it was asked.
        turns: Before it, in their order; without any, nothing can be found out.
    """
    if not any(text.strip() for _, text in turns):
        return "nothing"
    language = detect_language("\n".join((question, *(text for _, text in turns))))
    pronouns, pattern = _PRONOUNS.get(language, "").split(), _UNSPACED_ELLIPSIS.get(language)
    if pattern is not None:
        return _left_out_unspaced(question, pronouns, pattern)
    own = names_in(question)
    words, named = _folded(question), {word for name in own for word in _folded(name)}
    fillers = _FILLERS.get(language, "").split()
    if own and all(word in named or word in fillers for word in words):
        return "question"
    if len(words) == 1 or (language == "en" and not own and STOP_WORDS.issuperset(words)):
        return "question"  # "When?", "And why did he?"
    return "names" if not own or any(word in pronouns for word in words) else "nothing"


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


def recent_names(turns: Sequence[Said], *, known: Container[str] = ()) -> tuple[str, ...]:
    """The names that a question after these turns may mean.

    They are those of the last turn of the user that has any, or of the last turn of anybody.

    Args:
        turns: Before the question, in their order.
        known: As for ``names_in``; names that stand within a sentence of the turns are known besides.
    """
    within = frozenset[str]().union(*(folded_names(text) for _, text in turns))
    ordered = [turn for turn in turns if turn[0] == "user"][::-1] + list(turns)[::-1]
    for _, text in ordered:
        found = names_in(text, known=_Either(known, within))
        if found:
            return found[:MOST_NAMES]
    return ()


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
    spoken = "\n".join(f"{role}: {text.strip()}" for role, text in turns)
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


def _left_out_unspaced(question: str, pronouns: Sequence[str], ellipsis: regex.Pattern[str]) -> LeftOut:
    if ellipsis.fullmatch(question.strip()):
        return "question"
    short = sum(len(word) for word in _WORD.findall(question)) <= _SHORT
    return "names" if short or any(pronoun in question for pronoun in pronouns) else "nothing"


def _folded(name: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(name)]


def _names(text: str, known: Container[str]) -> Iterator[str]:
    for found in _NAME.finditer(text):
        if found["run"] is None:
            yield found["quoted"]
            continue
        starts = _STARTS_SENTENCE.search(text[: found.start()]) is not None
        words: list[str] = []
        for word in (*found["run"].split(), ""):
            if word and word.casefold() not in _OPENERS:
                words.append(word)
                continue
            # "And Anna", "Where Anna", and "I" anywhere: what stands on either side is a name of its own.
            name = " ".join(words)
            if words and (len(words) > 1 or not starts or all(part in known for part in _folded(name))):
                yield name
            words, starts = [], False
