"""Seconds over the length of a text, and of a question, as ratios within one run: where they double, linear.

    OMP_NUM_THREADS=1 python benchmarks/lengths_of_text.py --out lengths_of_text.json

Texts of many shapes, most without the ends of sentences, lines or words that cutting looks for, are cut into
chunks, read as words, and read as the reply of a model; each text is twice as long as the one before.
Questions of 10 to 10,000 words are put to BM25, to the support of clues and to the whole of retrieval with a
graph, over a corpus of generated sentences. ``x`` is the processor's seconds for a length over those for the
one before, the best of a few turns; ``linear`` is how much longer the text is.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from memorag_core.clues.parsing.clue_parser import read_clues
from memorag_core.documents.chunking import split_document
from memorag_core.documents.spans import cut_spans
from memorag_core.retrieval import EvidenceIndex, find_entities
from memorag_core.retrieval.tokenization import lexical_tokens
from memorag_core.settings import ChunkSettings, RetrievalSettings
from memorag_core.types import Document
from memorag_evaluation.record import circumstances, table, write_record

SHAPES: dict[str, Callable[[int], str]] = {
    "sentences": lambda n: repeated("The keeper of lantern {} went home in the rain. ", n),
    "lines": lambda n: repeated("key point {} of the harbour\n", n),
    "one word": lambda n: "a" * n,
    "words": lambda n: "word " * (n // 5),
    "Chinese": lambda n: "".join(chr(0x4E00 + place * 7919 % 5000) for place in range(n)),
    "one sign": lambda n: "\u5b57" * n,
    "full stops": lambda n: "\u3002" * n,
    "line ends": lambda n: "\n" * n + "end",
    "brackets": lambda n: "(" * n,
    "citations": lambda n: "[1]" * (n // 3),
    "quotes": lambda n: '"a" ' * (n // 4),
    "spaces": lambda n: "a" + " " * n + "b",
    "flags": lambda n: "\U0001f1e8\U0001f1ed" * (n // 2),
    "accents": lambda n: "e" + "\u0301" * n,
}
WAYS: dict[str, Callable[[str], object]] = {
    "cut": lambda text: cut_spans(text, size=800, overlap=80),
    "words": lexical_tokens,
    "reply": lambda text: read_clues(text, kind="span", question="Who is it?"),
}
WORDS = (10, 100, 1000, 10_000)


def main() -> None:
    """Print a table for texts and one for questions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--characters", type=int, default=50_000, help="of the shortest text (%(default)s)")
    parser.add_argument("--doublings", type=int, default=3, help="of it (%(default)s)")
    parser.add_argument("--sentences", type=int, default=20_000, help="of the corpus (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="of which the best counts (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    lengths = [options.characters << step for step in range(options.doublings + 1)]
    texts = [
        {"text": shape, "way": way, **measured(make, run, lengths, options.turns)}
        for way, run in WAYS.items()
        for shape, make in SHAPES.items()
    ]
    questions = [
        {"way": way, **measured(question, run, WORDS, options.turns)}
        for way, run in ways_to_ask(options.sentences).items()
    ]
    about = circumstances(["python", *sys.argv], device="cpu", seed=0)
    print(f"{about['date']}, {about['processor']}, {about['threads']} threads\n")
    heads = ["way", "text", "linear", *(f"x at {n:,}" for n in lengths[1:]), f"ms at {lengths[-1]:,}"]
    print(table(heads, [[row["way"], row["text"], 2, *row["x"], row["ms"]] for row in texts]))
    heads = ["way", "linear", *(f"x at {n:,} words" for n in WORDS[1:]), f"ms at {WORDS[-1]:,}"]
    print("\n" + table(heads, [[row["way"], 10, *row["x"], row["ms"]] for row in questions]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, "texts": texts, "questions": questions})


def measured(
    make: Callable[[int], str], run: Callable[[str], object], lengths: list[int] | tuple[int, ...], turns: int
) -> dict[str, Any]:
    """The ratios of the best seconds of each length to those of the one before, and the last in ms."""
    best = []
    for length in lengths:
        text = make(length)
        seconds = []
        for _ in range(turns):
            started = time.process_time()  # others may use the machine
            run(text)
            seconds.append(time.process_time() - started)
        best.append(min(seconds))
    ratios = [round(after / before, 1) for before, after in pairwise(best)]
    return {"x": ratios, "ms": round(1000 * best[-1], 1), "lengths": list(lengths), "seconds": best}


def ways_to_ask(sentences: int) -> dict[str, Callable[[str], object]]:
    """What is done with a question, over one corpus."""
    draw = random.Random(0)
    text = " ".join(sentence(draw) for _ in range(sentences))
    chunks = split_document(Document(text, id="corpus"), ChunkSettings(size=400))
    index = EvidenceIndex.build(chunks, entities=find_entities)
    graph = RetrievalSettings(retriever_weights={"graph": 1.0})
    return {
        "BM25": lambda asked: index.sparse.search([asked], 20),
        "support": lambda asked: index.support([asked]),
        "retrieval, graph": lambda asked: index.retrieve(asked, settings=graph),
    }


def question(words: int) -> str:
    """So many words of the corpus."""
    draw = random.Random(1)
    said: list[str] = []
    while len(said) < words:
        said += sentence(draw).split()
    return " ".join(said[:words]) + "?"


def sentence(draw: random.Random) -> str:
    """A sentence of rare and common words."""
    rare = " ".join(f"w{draw.randrange(20_000)}" for _ in range(4))
    return f"Keeper {draw.choice('ABCDE')}{draw.randrange(900)} took {rare} to the harbour."


def repeated(line: str, characters: int) -> str:
    """A line with its number, as often as it takes."""
    return "".join(line.format(number) for number in range(characters // len(line) + 1))[:characters]


if __name__ == "__main__":
    main()
