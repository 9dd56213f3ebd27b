"""Blocks to gists: what is asked, in which order, what is kept, and what becomes of a bad reply.

In: blocks with their requests, whatever condenses them, a journal. Out: gists by key. Knows no memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from memorag_core.documents.words import folded
from memorag_core.errors import InputError, MemoRAGError
from memorag_core.memory.gist.blocks import Block
from memorag_core.memory.gist.journal import Journal
from memorag_core.memory.llm import LLM, CountTokens, Request, Said, Turn, Usage
from memorag_core.prompts import Parts

WithoutGist: TypeAlias = Literal["fail", "text"]
"""What becomes of a block whose condenser says nothing or refuses: an error, or its own text."""

REFUSAL = 60
"""Tokens that a refusal has at most."""

_NAMED = 3  # blocks that an error names
_REFUSALS = (
    *("sorry", "i'm sorry", "i am sorry", "i apologize", "i can't", "i cannot", "i can not", "i won't"),
    *("i'm unable", "i am unable", "i'm not able", "i am not able", "unfortunately, i", "as an ai"),
    *("抱歉", "很抱歉", "非常抱歉", "对不起", "我无法", "我不能", "作为ai", "作为一个ai", "作为人工智能"),
)


@dataclass(frozen=True, slots=True)
class Task:
    """A block and the request to condense it."""

    block: Block
    prompt: Parts
    key: str

    @classmethod
    def of(cls, block: Block, prompt: Parts, *, condenser: str) -> Task:
        """With the key that stands for text, prompt and the condenser's name together."""
        told = json.dumps([condenser, prompt.before, prompt.filled, prompt.after])
        return cls(block, prompt, hashlib.sha256(told.encode()).hexdigest())


@runtime_checkable
class Condenser(Protocol):
    """What writes gists: an LLM behind its client, or a model on this machine (``local_condenser``).

    Attributes:
        together: blocks of a document that are condensed in one run, so that a gist may depend on its
            neighbours in the last bits; 1 where each request stands alone.
    """

    together: int

    @property
    def name(self) -> str:
        """What gists and memories are told apart by."""
        ...

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        ...

    def count_tokens(self, text: str) -> int:
        """How many tokens a text has."""
        ...

    def condense(
        self,
        runs: Sequence[Sequence[Task]],
        *,
        gist_tokens: int,
        after_failure: str,
        replied: Callable[[int, int, Said], None],
    ) -> None:
        """Condense all tasks, and tell of each reply as it comes, with its run and its place in it."""
        ...


class ClientCondenser:
    """An LLM of the user's as condenser; requests are sent side by side, and tried again by its client."""

    together = 1

    def __init__(
        self, llm: Any, *, name: str | None, concurrency: int, count_tokens: CountTokens | None
    ) -> None:
        self._llm = LLM(llm, name=name, concurrency=concurrency, count_tokens=count_tokens)

    @property
    def name(self) -> str:
        """The LLM's name."""
        return self._llm.name

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self._llm.usage

    def count_tokens(self, text: str) -> int:
        """An estimate, or by the user's function."""
        return self._llm.count_tokens(text)

    def condense(
        self,
        runs: Sequence[Sequence[Task]],
        *,
        gist_tokens: int,  # the prompt says it; a limit would cut models that think before they write
        after_failure: str,
        replied: Callable[[int, int, Said], None],
    ) -> None:
        """A request for each task, instructions first."""
        requests = [
            [Request((Turn("user", task.prompt.text),), f"the request for {task.block.name}") for task in run]
            for run in runs
        ]
        self._llm.ask(requests, after_failure=after_failure, replied=replied)


def condense(
    documents: Sequence[Sequence[Task]],
    condenser: Condenser,
    *,
    gist_tokens: int,
    without_gist: WithoutGist,
    journal: Journal | None,
    progress: Callable[[int], object],
) -> dict[str, str]:
    """Gists of all tasks, by key.

    Tasks with one key are condensed once. A block that the journal has is not condensed again, unless its run
    (``Condenser.together``) has one that it lacks: a run is always the same blocks, so that its gists do not
    depend on where the last attempt ended.

    Args:
        documents: the tasks of each document, in the order of the text.
        condenser: writes the gists.
        gist_tokens: how long they are to be.
        without_gist: what becomes of a block without a usable reply.
        journal: keeps each gist as it comes.
        progress: told the tokens of blocks as they are done.

    Raises:
        MemoRAGError: the condenser gave up, or some replies cannot be used; the journal has all others.
        StoreError: the journal is damaged or cannot be written.
    """
    gists = journal.read() if journal is not None else {}
    runs = list(_unfinished(documents, condenser.together, gists))
    every = sum(task.block.tokens for tasks in documents for task in tasks)
    progress(every - sum(task.block.tokens for run in runs for task in run))
    useless: list[tuple[Task, str]] = []

    def replied(number: int, item: int, said: Said) -> None:
        task = runs[number][item]
        text = said.text.encode(errors="replace").decode()  # half of a surrogate pair cannot be kept
        problem = _problem(text, said.finished, condenser.count_tokens)
        if problem:
            useless.append((task, problem))
        elif task.key not in gists:
            gist = _shorter(task.block, text, condenser.count_tokens)
            if journal is not None:
                size = condenser.count_tokens(gist)
                journal.write(task.key, gist, tokens=task.block.tokens, gist_tokens=size)
            gists[task.key] = gist
        progress(task.block.tokens)

    if runs:
        condenser.condense(
            runs, gist_tokens=gist_tokens, after_failure=_after_failure(journal), replied=replied
        )
    missing = [(task, problem) for task, problem in useless if task.key not in gists]
    if missing and without_gist == "fail":
        named = "; ".join(f"{task.block.name}: {problem}" for task, problem in missing[:_NAMED])
        raise MemoRAGError(
            f"{condenser.name!r} gave no gist of {len(missing)} of {sum(map(len, documents))} blocks ({named}"
            f"{'; ...' if len(missing) > _NAMED else ''}). {_after_failure(journal)} Use another condenser, "
            "or without_gist='text' to read such blocks as they stand."
        )
    return gists | {task.key: task.block.text.strip() for task, _ in missing}


def _unfinished(
    documents: Sequence[Sequence[Task]], together: int, gists: dict[str, str]
) -> Iterator[Sequence[Task]]:
    planned = {*gists}
    for tasks in documents:
        for start in range(0, len(tasks), together):
            run = tasks[start : start + together]
            keys = {task.key for task in run}
            if not keys <= planned:
                planned |= keys
                yield run


def _problem(text: str, finished: bool, count_tokens: Callable[[str], int]) -> str:
    """What is wrong with a reply; nothing for a good one."""
    if not text:
        return "an empty reply" if finished else "a reply that was cut off before it had a text"
    opening = folded(text[:40])
    if opening.startswith(_REFUSALS) and count_tokens(text) <= REFUSAL:
        return f"what looks like a refusal, {text[:80]!r}"
    return ""


def _shorter(block: Block, gist: str, count_tokens: Callable[[str], int]) -> str:
    """The gist, or the text of the block where that is not longer."""
    return gist if count_tokens(gist) < block.tokens else block.text.strip()


def _after_failure(journal: Journal | None) -> str:
    if journal is not None:
        return f"The memory is as it was; finished gists are in '{journal.path}' and are not asked for again."
    return "The memory is as it was; finished gists are lost. Give journal='gists.jsonl' to keep them."


def as_condenser(
    given: Any, *, name: str | None, concurrency: int, count_tokens: CountTokens | None
) -> Condenser:
    """What the user gave as a condenser.

    Raises:
        InputError: a memory model, or no LLM of a known shape.
    """
    if isinstance(given, Condenser):
        if name is not None or count_tokens is not None:
            raise InputError(
                "name and count_tokens are for an LLM behind a client; a local condenser has its own. Leave "
                "them out."
            )
        return given
    if not callable(given) and callable(getattr(given, "memorize", None)):
        raise InputError(
            f"The condenser is a {type(given).__name__}, which is a memory model. Give "
            "local_condenser(model) to have its language model write the gists."
        )
    return ClientCondenser(given, name=name, concurrency=concurrency, count_tokens=count_tokens)
