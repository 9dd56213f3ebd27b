"""Follow-up questions on generated conversations: which way finds the turn that answers, and the newest.

    OMP_NUM_THREADS=1 python benchmarks/conversation.py --threads 1 --encoder FOLDER --out conversation.json

Eight people are told of in some 170 turns; half of what can change does so later on. Then questions are put
after up to four turns of their own, of the kinds that ``memorag_evaluation.conversations`` names. Ways:
the question alone; the four turns before it joined to it; ``Conversation.recall``, with and without the law
of the newest statement, and with clues of weight 0; and the question written out in full, which no way knows.
All ways search the same turns. hit@k is 1 where a turn that answers is among the best k. ``newest first`` is
the share of changed facts, among those of which any statement is in the best 4, whose newest statement stands
above all older ones. ``ms`` is for a question; the second way that recalls finds clues kept by the first. The
weights were chosen on ``--split dev``.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from memorag_core import ClueSettings, Conversation, MemoRAG, RetrievalSettings, sentence_transformer
from memorag_evaluation.conversations import (
    FOLLOW_UPS,
    AskedConversation,
    FollowUpQuestion,
    generate_conversation,
)
from memorag_evaluation.record import circumstances, table, write_record

DEEPEST = 10
"""How many turns are looked at."""

WEIGHTLESS = RetrievalSettings(clue_weights={"span": 0, "query": 0, "answer": 0})
UNHEARD = ClueSettings(kinds=("answer",), max_new_tokens=1)
"""What is asked where clues have no weight: as little as can be."""

Rows = Sequence[tuple[FollowUpQuestion, Sequence[int]]]
"""Questions with the numbers of the turns that were found for them, best first."""


@dataclass(frozen=True, slots=True)
class Held:
    """A generated conversation that was memorized: the same turns with clues that count and without."""

    asked: AskedConversation
    conversation: Conversation
    weightless: Conversation
    numbers: Mapping[str, int]


def main() -> None:
    """Measure and print a table for each retriever."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="of names and frames")
    parser.add_argument("--count", type=int, default=8, help="conversations (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the conversations (%(default)s)")
    parser.add_argument("--encoder", help="folder of a sentence encoder, to measure with vectors too")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    about = circumstances(["python", *sys.argv], device="cpu", seed=options.seed)
    print(f"follow-up questions, {about['date']}, {about['processor']}, {about['threads']} threads")
    record: dict[str, Any] = {"circumstances": about, "split": options.split}
    encoders: dict[str, Any] = {"BM25": None}
    if options.encoder:
        encoders["BM25 and vectors"] = sentence_transformer(options.encoder)
    for name, encoder in encoders.items():
        held = [
            held_of(
                generate_conversation(
                    random.Random(f"{options.split}/{options.seed + place}"), split=options.split
                ),
                encoder,
            )
            for place in range(options.count)
        ]
        record[name] = measured(held)
        print(f"\n{name}, {sum(len(one.asked.questions) for one in held)} questions\n")
        heads = ("way", *FOLLOW_UPS, "unchanged", "changed", "newest first", "ms")
        print(table(heads, [[way, *row.values()] for way, row in record[name].items()]))
    if options.out is not None:
        write_record(options.out, record)


def held_of(asked: AskedConversation, encoder: Any) -> Held:
    """Memorize a conversation."""
    conversation = Conversation(MemoRAG(embedder=encoder, progress=False))
    weightless = Conversation(MemoRAG(embedder=encoder, clues=UNHEARD, retrieval=WEIGHTLESS, progress=False))
    added = conversation.extend(asked.turns)
    weightless.extend([replace(turn, session=None) for turn in added])
    numbers = {turn.id or "": number for number, turn in enumerate(added)}
    return Held(asked, conversation, weightless, numbers)


def measured(held: Sequence[Held]) -> dict[str, dict[str, str]]:
    """A row of the table for each way."""

    def searched(query: Callable[[FollowUpQuestion], str]) -> Callable[[Held, FollowUpQuestion], list[str]]:
        def found(one: Held, question: FollowUpQuestion) -> list[str]:
            evidence = one.conversation.rag.retrieve(query(question), k=DEEPEST, clues=())
            return [piece.chunk.document_id for piece in evidence]

        return found

    def recalled(conversation: Conversation, question: FollowUpQuestion, newest: bool) -> list[str]:
        found = conversation.recall(question.question, question.history, k=DEEPEST, newest=newest)
        return [one.turn.id or "" for one in found]

    ways: dict[str, Callable[[Held, FollowUpQuestion], list[str]]] = {
        "question alone": searched(lambda asked: asked.question),
        "turns joined": searched(
            lambda asked: " ".join([text for _, text in asked.history[-4:]] + [asked.question])
        ),
        "recall, newest off": lambda one, asked: recalled(one.conversation, asked, False),
        "recall": lambda one, asked: recalled(one.conversation, asked, True),
        "recall, clues of weight 0": lambda one, asked: recalled(one.weightless, asked, True),
        "written out in full": searched(lambda asked: asked.whole),
    }
    shown = {}
    for name, way in ways.items():
        begun = time.perf_counter()
        rows = [
            (question, [one.numbers[found] for found in way(one, question)])
            for one in held
            for question in one.asked.questions
        ]
        milliseconds = 1000 * (time.perf_counter() - begun) / len(rows)
        shown[name] = row_of(rows) | {"ms": f"{milliseconds:.0f}"}
    return shown


def row_of(rows: Rows) -> dict[str, str]:
    """hit@1 and hit@4 of each kind, of what never changed and of what did; how often the newest is first."""
    groups: dict[str, Callable[[FollowUpQuestion], bool]] = {
        kind: lambda question, kind=kind: question.kind == kind  # type: ignore[misc]
        for kind in FOLLOW_UPS
    }
    groups["unchanged"] = lambda question: question.kind != "former" and not question.stale
    groups["changed"] = lambda question: question.kind != "former" and bool(question.stale)
    shown = {}
    for name, belongs in groups.items():
        own = [(question, found) for question, found in rows if belongs(question)]
        hits = [sum(bool(asked.evidence & {*found[:k]}) for asked, found in own) / len(own) for k in (1, 4)]
        shown[name] = " / ".join(f"{hit:.2f}".lstrip("0") for hit in hits)
    changed = [(question, found) for question, found in rows if groups["changed"](question)]
    seen = [(_first(found, question.evidence), _first(found, question.stale)) for question, found in changed]
    seen = [places for places in seen if min(places) < 4]
    first = sum(new < old for new, old in seen)
    return shown | {"newest first": f"{first} of {len(seen)}"}


def _first(found: Sequence[int], wanted: frozenset[int]) -> int:
    """The place of the first of some turns, from 0."""
    return min((place for place, number in enumerate(found) if number in wanted), default=len(found))


if __name__ == "__main__":
    main()
