"""Span recall: what a beacon model gives back of a text, word for word, with its memory and without.

In: a beacon model; held-out prose, or generated worlds. Out: an outcome for each question, and their means.
Knows nothing of retrieval. All of it goes the way that users go: ``feed`` and ``memorize`` read,
``recollect`` or the run below it answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconMemory, BeaconModel
from memorag_core.memory.beacon.generate import generate
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.decoding import Replies
from memorag_core.memory.tokenizer import Tokens
from memorag_core.types import Ask, ClueKind
from memorag_evaluation.emptied import MemoryState, emptied_memory
from memorag_evaluation.metrics import Estimate, best_of, estimate, exact_match, token_f1
from memorag_evaluation.worlds import AskedWorld, kind_groups
from memorag_training.bundled import is_held_out, read_books
from memorag_training.loss import Row
from memorag_training.tasks import EpisodeSampler, Mix, Prose, tokenize_books
from memorag_training.tokenizer import SPECIAL_TOKENS
from memorag_training.worlds import WorldQuestion

_T = TypeVar("_T")

READ_TOKENS = 32_768
"""Raw tokens of the documents that are read in one batch."""

ASKED_ROWS = 64
"""Questions that are asked in one run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one question.

    Attributes:
        document: the place of its document.
        kind: of the question.
        memory: with the memory, or with it emptied.
        correct: for each target token whether it was the most likely one after the target up to there; empty
            where that was not measured.
        exact: exact match of the greedy reply, 0 or 1.
        f1: token F1 of the greedy reply.
    """

    document: int
    kind: str
    memory: MemoryState
    correct: tuple[bool, ...]
    exact: float
    f1: float


@dataclass(frozen=True, slots=True)
class RecallScore:
    """The means over the questions of one kind or of several together, with intervals over documents.

    ``token_accuracy`` is over all target tokens, ``first_token`` over the first one of each target; both are
    None where they were not measured.
    """

    kind: str
    memory: MemoryState
    questions: int
    token_accuracy: Estimate | None
    first_token: Estimate | None
    exact_match: Estimate
    f1: Estimate


def score_recall(outcomes: Sequence[Outcome], *, seed: int = 0) -> tuple[RecallScore, ...]:
    """Sum up outcomes by kind of question (see ``kind_groups``) and memory."""
    scores = []
    for kind, kinds in kind_groups([outcome.kind for outcome in outcomes]).items():
        for memory in dict.fromkeys(outcome.memory for outcome in outcomes):
            some = [one for one in outcomes if one.memory == memory and one.kind in kinds]
            if some:
                scores.append(_score(kind, memory, some, seed))
    return tuple(scores)


def _score(kind: str, memory: MemoryState, outcomes: Sequence[Outcome], seed: int) -> RecallScore:
    forced = [one for one in outcomes if one.correct]
    documents = [one.document for one in outcomes]
    tokens = [(float(right), one.document) for one in forced for right in one.correct]
    return RecallScore(
        kind=kind,
        memory=memory,
        questions=len(outcomes),
        token_accuracy=_estimate(tokens, seed),
        first_token=_estimate([(float(one.correct[0]), one.document) for one in forced], seed),
        exact_match=estimate([one.exact for one in outcomes], documents, seed=seed),
        f1=estimate([one.f1 for one in outcomes], documents, seed=seed),
    )


def _estimate(pairs: Sequence[tuple[float, int]], seed: int) -> Estimate | None:
    return (
        estimate([value for value, _ in pairs], [place for _, place in pairs], seed=seed) if pairs else None
    )


# --- prose --------------------------------------------------------------------------------------------------


def held_out_prose(data: Path, model: BeaconModel) -> Prose:
    """The books of ``data/prose`` that the bundled model's recipe keeps from training, in the model's tokens.

    Raises:
        InputError: There are none, or the model's tokenizer is not one of this package's trainer.
    """
    texts = [text for book, text in read_books(data) if is_held_out(book)]
    if not texts:
        raise InputError(f"No book of '{data / 'prose'}' is held out; expected about one in twenty.")
    return tokenize_books(texts, _tokenizer(model).tokenizer.backend_tokenizer)


@torch.inference_mode()
def prose_recall(
    model: BeaconModel, prose: Prose, *, tokens: int, documents: int, rows: int, seed: int
) -> tuple[Outcome, ...]:
    """Ask for spans of prose, with rows as the trainer makes them, of kinds "text" and "cue".

    A "text" row gives the first tokens of a span and wants the rest, a "cue" row gives a few rare words of a
    sentence and wants the sentence. A reply is compared up to the end of its target where that does not end
    the reply.

    Args:
        model: A model with a tokenizer of this package's trainer.
        prose: Where documents are drawn from.
        tokens: Of each document, read into one memory whatever the model's capacity.
        documents: How many.
        rows: Asked of each document.
        seed: Equal seeds give equal documents and rows for one tokenizer.

    Raises:
        InputError: The tokenizer lacks a special token of the rows.
    """
    tokenizer = _tokenizer(model)
    sampler = EpisodeSampler(prose, tokenizer.tokenizer.backend_tokenizer)
    episode = sampler.draw(
        random.Random(f"{seed}/{tokens}"),
        documents=documents,
        tokens=tokens,
        rows=rows,
        mix=Mix(text=0.5, cue=0.5),
        window=model.window,
    )
    asked: list[list[Row]] = [[] for _ in range(documents)]
    for row in episode.rows:
        asked[row.document].append(row)
    outcomes: list[Outcome] = []
    together = max(1, READ_TOKENS // tokens)
    for places in tqdm(_pieces(range(documents), together), f"prose, {tokens} tokens", disable=None):
        memory = model.feed(episode.documents[list(places)]).memory
        correct = _forced(model, [asked[place] for place in places], memory)
        for at, place in enumerate(places):
            replies = _replies(model, asked[place], memory.row(at))
            outcomes += _outcomes(tokenizer, asked[place], "full", correct[at], replies)
    empty = emptied_memory(model)
    for some in _pieces(episode.rows, ASKED_ROWS):
        correct = _forced(model, [[row] for row in some], None)
        outcomes += _outcomes(
            tokenizer, some, "emptied", [one[0] for one in correct], _replies(model, some, empty)
        )
    return tuple(outcomes)


def _tokenizer(model: BeaconModel) -> Tokens:
    if model.tokens is None:
        raise InputError("The model was loaded without a tokenizer; put tokenizer.json into its folder.")
    known = model.tokens.tokenizer.get_vocab()
    missing = [token for token in SPECIAL_TOKENS if token not in known]
    if missing:
        raise InputError(
            f"The model's tokenizer lacks {', '.join(missing)}. Recall of prose is measured with the rows of "
            "this package's trainer; measure other models on generated worlds."
        )
    return model.tokens


def _outcomes(
    tokens: Tokens,
    rows: Sequence[Row],
    memory: MemoryState,
    correct: Sequence[tuple[bool, ...]],
    replies: Sequence[Sequence[int]],
) -> Iterator[Outcome]:
    text_kind = tokens.tokenizer.convert_tokens_to_ids("<|text|>")
    for row, right, reply in zip(rows, correct, replies, strict=True):
        ended = row.target[-1] == tokens.end_id
        said = tokens.decode(reply if ended else reply[: len(row.target)])
        wanted = tokens.decode(row.target)
        kind = "text" if row.prompt[-1] == text_kind else "cue"
        yield Outcome(row.document, kind, memory, right, exact_match(said, wanted), token_f1(said, wanted))


def _pieces(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def _forced(
    model: BeaconModel, asked: Sequence[Sequence[Row]], memory: BeaconMemory | None
) -> list[list[tuple[bool, ...]]]:
    """For each row of each of the memory's documents, which target tokens are the most likely ones."""
    correct: list[list[tuple[bool, ...]]] = [[] for _ in asked]
    for number in range(max(map(len, asked), default=0)):
        rows = [some[number] if number < len(some) else None for some in asked]
        width = max(len(row.prompt) + len(row.target) for row in rows if row is not None)
        # What fills the shorter rows stands behind all that is looked at, where nothing before can see it.
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for place, row in enumerate(rows):
            if row is not None:
                whole = (*row.prompt, *row.target)
                ids[place, : len(whole)] = torch.tensor(whole)
        likely = _most_likely(model, ids, memory)
        for place, row in enumerate(rows):
            if row is not None:
                first = len(row.prompt) - 1
                said = likely[place, first : first + len(row.target)].tolist()
                correct[place].append(tuple(a == b for a, b in zip(said, row.target, strict=True)))
    return correct


def _most_likely(model: BeaconModel, ids: Tensor, memory: BeaconMemory | None) -> Tensor:
    """[B, T] ids -> [B, T] the most likely next token behind each, window by window."""
    pieces = []
    while ids.shape[1]:
        room = model.window - (memory.stream.filled if memory is not None else 0)
        fed = model.feed(ids[:, :room], memory)
        pieces.append(fed.logits.argmax(dim=-1).cpu())
        ids, memory = ids[:, room:], fed.memory
    return torch.cat(pieces, dim=1)


def _replies(model: BeaconModel, rows: Sequence[Row], memory: BeaconMemory) -> list[tuple[int, ...]]:
    """What the model says to each row, greedily, all asked of one memory of one row."""
    end = model.tokens.end_id if model.tokens is not None else None
    stop = frozenset() if end is None else frozenset({end})
    host, said = Host.of(model.model), []
    for some in _pieces(rows, ASKED_ROWS):
        prompts = [torch.tensor([row.prompt], dtype=torch.long, device=host.device) for row in some]
        longest = max(len(row.target) for row in some)
        block = memory.blocks[0]
        said += generate(host, block, prompts, Replies.alike(block.rows * len(prompts), longest), stop=stop)
    return [reply.ids for reply in said]


# --- worlds -------------------------------------------------------------------------------------------------


def world_recall(
    model: BeaconModel,
    worlds: Iterable[AskedWorld],
    *,
    reply: ClueKind = "span",
    memories: Sequence[MemoryState] = ("full", "emptied"),
) -> tuple[Outcome, ...]:
    """Ask questions of generated worlds and compare the best reply with the evidence, or with the answer.

    A reply of spans is a list, one a line, that may also hold parts of a sentence: it is exact where each
    sentence of the evidence is one of its lines; F1 is that of the best line, averaged over the sentences.

    Args:
        model: A model with a tokenizer; a world longer than its capacity is read into parts.
        worlds: Documents with their questions.
        reply: "span" wants the sentences of the evidence, one a line; "answer" the answer; "query" the
            question in the words of the evidence.
        memories: With the memory, with it emptied, or both.

    Raises:
        InputError: Another kind of reply.
    """
    if reply not in ("span", "answer", "query"):
        raise InputError(f"The reply is {reply!r}; expected one of span, answer, query.")
    outcomes: list[Outcome] = []
    for place, world in enumerate(worlds):
        if not world.questions:
            continue
        texts = [asked.question for asked in world.questions]
        for state in memories:
            memory = (
                model.memorize(world.document, progress=False) if state == "full" else emptied_memory(model)
            )
            said = model.recollect([Ask(text, reply) for text in texts], memory)
            for asked, parts in zip(world.questions, said, strict=True):
                text = next(
                    (one.text for one in parts if one.text), ""
                )  # a part that knows nothing is silent
                exact, f1 = _compared(text, asked, reply)
                outcomes.append(Outcome(place, asked.kind, state, (), exact, f1))
    return tuple(outcomes)


def _compared(said: str, asked: WorldQuestion, reply: ClueKind) -> tuple[float, float]:
    """Exact match and token F1 of a reply."""
    if reply != "span":
        wanted = asked.answer if reply == "answer" else asked.surrogate
        return exact_match(said, wanted), token_f1(said, wanted)
    lines = said.splitlines()
    sentences = [fact.sentence for fact in asked.evidence]
    exact = min(best_of(exact_match, sentence, lines) for sentence in sentences)
    return exact, sum(best_of(token_f1, sentence, lines) for sentence in sentences) / len(sentences)
