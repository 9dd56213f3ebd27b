"""What is said to the models, as data: one prompt set for a language or for a checkpoint's own chat format.

In: a language, or a mapping of templates. Out: a frozen ``PromptSet`` whose placeholders are checked. Knows
no model and no tokenizer: special tokens and chat templates are for the model to apply.

Texts go into templates by plain replacement in one pass, so a text with braces stays as it is, and a question
that says "{evidence}" is a question. Where a prompt is made as a whole, no text in it can pass for a part of
it either: a line that begins as one of the template's own gets a ">", and fences are longer than those in the
text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any, cast

from memorag_core.errors import InputError
from memorag_core.prompts.quoting import fenced, headings, quoted
from memorag_core.types import CLUE_KINDS, ClueKind
from memorag_core.types.metadata import FrozenDict

GENERAL = "xx"
"""The name of the set for languages without their own: it asks in English and wants the text's language."""

_OWN_SETS = ("en", "zh", GENERAL)


@dataclass(frozen=True, slots=True)
class Parts:
    """A prompt cut around the text that fills it: the model tokenizes ``filled`` without special tokens."""

    before: str
    filled: str
    after: str

    @property
    def text(self) -> str:
        """The prompt as one string."""
        return self.before + self.filled + self.after


@dataclass(frozen=True, slots=True)
class PromptSet:
    """All that is said to a memory model and to the generator, in one language or one chat format.

    Attributes:
        language: The language of the texts, "xx" for any.
        chat: Whether context and requests are turns of a conversation, to be wrapped in the tokenizer's chat
            template; otherwise the templates hold the special tokens themselves and are taken as they are.
        context: What the memory model reads; holds {context} once.
        reply: What the memory model is taken to have said after reading, before the request ("" for nothing).
        tasks: The request for each kind of clue; holds {question} once. Only a key point's may leave it out.
        answer: The generator's prompt; holds {evidence} and {question} once each.
        summary_request: Stands for the question where key points are asked for without one.
        gist: The request to condense a text; holds {text} once, and {words} at most once, the longest gist.
            "" for a set that is not used to condense.
        standalone: The request to write a follow-up question anew so that it stands alone; holds {history}
            and {question} once each. "" for a set that is not used for conversations.

    Raises:
        InputError: A template without its placeholder or with it twice, no task or one of unknown kind, a
            field that is not text.
    """

    language: str
    context: str
    tasks: Mapping[ClueKind, str]
    answer: str
    summary_request: str
    reply: str = ""
    chat: bool = True
    gist: str = ""
    standalone: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.tasks, Mapping) or not self.tasks:
            raise InputError(
                f"The tasks of a prompt set are {self.tasks!r}; expected templates for one or more of "
                f"{', '.join(CLUE_KINDS)}. Add one, such as {{'span': '... {{question}}'}}."
            )
        unknown = [kind for kind in self.tasks if kind not in CLUE_KINDS]
        if unknown:
            raise InputError(
                f"A prompt set has tasks for {', '.join(map(repr, unknown))}; expected only "
                f"{', '.join(CLUE_KINDS)}. Take the others out or rename them."
            )
        if not isinstance(self.chat, bool):
            raise InputError(f"'chat' of a prompt set is {self.chat!r}; expected true or false.")
        for name in ("language", "reply", "summary_request"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name!r} of a prompt set is {getattr(self, name)!r}; expected text.")
        # Shared by all who ask; later changes of the caller's mapping stay outside.
        object.__setattr__(self, "tasks", FrozenDict(self.tasks))
        _check_placeholder("context", self.context, "context")
        _check_placeholder("answer", self.answer, "evidence")
        _check_placeholder("answer", self.answer, "question")
        if self.gist != "":
            _check_placeholder("gist", self.gist, "text")
            _check_placeholder("gist", self.gist, "words", required=False)
        if self.standalone != "":
            _check_placeholder("standalone", self.standalone, "history")
            _check_placeholder("standalone", self.standalone, "question")
        for kind, template in self.tasks.items():
            _check_placeholder(f"tasks.{kind}", template, "question", required=kind != "key_point")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> PromptSet:
        """A prompt set from data such as the ``prompts`` of a checkpoint's ``memorag-usage.json``.

        ``context`` and ``tasks`` must be there. What a memory model alone has no use for, ``answer``,
        ``summary_request``, ``gist`` and ``standalone``, comes from the set of the same language when left
        out; ``language`` is "xx" then.

        Raises:
            InputError: As the class says; also for a missing or an unknown entry.
        """
        if not isinstance(mapping, Mapping):
            raise InputError(
                f"A prompt set was given as {type(mapping).__name__}; expected an object with 'context' and "
                "'tasks'."
            )
        known = [field.name for field in fields(cls)]
        unknown = [name for name in mapping if name not in known]
        missing = [name for name in ("context", "tasks") if name not in mapping]
        if unknown or missing:
            raise InputError(
                f"A prompt set has the entries {', '.join(map(repr, mapping)) or 'none'}; expected 'context' "
                f"and 'tasks', and beside them only {', '.join(map(repr, known))}. "
                f"{'Add ' + ', '.join(missing) if missing else 'Take out ' + ', '.join(map(str, unknown))}."
            )
        language = mapping.get("language", GENERAL)
        defaults: dict[str, Any] = {"language": language}
        borrowed = ("answer", "summary_request", "gist", "standalone")
        if not mapping.keys() >= {*borrowed}:
            own = load_prompts(language)
            defaults |= {name: getattr(own, name) for name in borrowed}
        return cls(**(defaults | dict(mapping)))

    def context_parts(self, context: str) -> Parts:
        """What the memory model reads, cut around the context."""
        parts = _fill(self.context, "context", context)
        before, after = fenced(parts.before, parts.filled, parts.after)
        return Parts(before, parts.filled, after)

    def parts(self, kind: ClueKind, question: str) -> Parts:
        """The request for a kind of clue, cut around the question.

        A blank question for key points becomes ``summary_request``; a template without {question} is all
        ``before``.

        Raises:
            InputError: The set has no request for this kind.
        """
        template = self.tasks.get(kind)
        if template is None:
            raise InputError(
                f"The prompt set '{self.language}' has no request for clues of kind {kind!r}; it has "
                f"{', '.join(self.tasks)}. Ask for those (ClueSettings.kinds), or use a prompt set with one "
                f"for {kind!r}."
            )
        if kind == "key_point" and not question.strip():
            question = self.summary_request
        return _fill(template, "question", question)

    def render(self, kind: ClueKind, question: str) -> str:
        """The request for a kind of clue as one string; raises as ``parts``."""
        return self.parts(kind, question).text

    def render_answer(self, question: str, evidence: str) -> str:
        """The generator's prompt, with the evidence as one text."""
        own = headings(self.answer)
        filling = {"{question}": quoted(question, own), "{evidence}": quoted(evidence, own)}
        return re.sub(r"\{question\}|\{evidence\}", lambda found: filling[found[0]], self.answer)

    def render_standalone(self, question: str, history: str) -> str:
        """The request to write a follow-up question anew, with the turns before it as one text.

        Raises:
            InputError: The set has none.
        """
        if not self.standalone:
            raise InputError(
                f"The prompt set '{self.language}' has no request for questions that stand alone. Give it "
                "one: PromptSet(..., standalone='... {history} ... {question}')."
            )
        own = headings(self.standalone)
        filling = {"{question}": quoted(question, own), "{history}": quoted(history, own)}
        return re.sub(r"\{question\}|\{history\}", lambda found: filling[found[0]], self.standalone)

    def gist_parts(self, text: str, *, words: int) -> Parts:
        """The request to condense a text to so many words, cut around the text.

        Raises:
            InputError: The set has none.
        """
        if not self.gist:
            raise InputError(
                f"The prompt set '{self.language}' has no request for gists. Give it one: "
                "PromptSet(..., gist='... {text}')."
            )
        before, _, after = self.gist.partition("{text}")
        before, after = fenced(before, text, after)
        return Parts(before.replace("{words}", str(words)), text, after.replace("{words}", str(words)))


def load_prompts(language: str | None = None) -> PromptSet:
    """The prompt set for a language: its own where there is one, else the general one.

    Args:
        language: A code such as "en", "zh-CN" or "pt_BR"; region and script are ignored. None for any
            language.

    Returns:
        The set for English ("en"), for Chinese ("zh"), or for any language ("xx").

    Raises:
        InputError: The language is not a text.
    """
    if language is not None and not isinstance(language, str):
        raise InputError(f"The language is {language!r}; expected a code such as 'en' or 'zh', or None.")
    code = re.split(r"[-_]", (language or GENERAL).strip().casefold())[0]
    return _shipped(code if code in _OWN_SETS else GENERAL)


@cache
def _shipped(name: str) -> PromptSet:
    file = resources.files(__name__) / f"{name}.json"
    return PromptSet.from_mapping(cast(Mapping[str, Any], json.loads(file.read_text(encoding="utf-8"))))


def _fill(template: str, name: str, text: str) -> Parts:
    before, found, after = template.partition(f"{{{name}}}")
    return Parts(before, text if found else "", after)


def _check_placeholder(name: str, template: object, placeholder: str, *, required: bool = True) -> None:
    if not isinstance(template, str):
        raise InputError(f"{name!r} of a prompt set is {template!r}; expected text.")
    count = template.count(f"{{{placeholder}}}")
    if count > 1 or (required and not count):
        raise InputError(
            f"{name!r} of a prompt set holds {{{placeholder}}} {count} times; expected once. "
            f"The template found is {template!r}."
        )
