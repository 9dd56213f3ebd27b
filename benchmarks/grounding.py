"""What grounded recall costs: building the index of passages, and choosing a token that is allowed.

    python benchmarks/grounding.py --out grounding.json

Two texts are generated: words of letters with spaces between them, and signs of Chinese without any, drawn by
Zipf's law and repeated as real texts repeat themselves; ``--text`` takes another one. They are indexed as
documents of 20,000 characters. Two tables:

- building: seconds to build the index, to change one document, to take it from a store, and to make that of a
  part of 8,000 characters; bytes of the index for each character, beside the text itself, and at the most
  while it was built.
- choosing: microseconds for a token of a reply, by what the model would like to say: lines of the text (the
  usual case: the best token is allowed), the first token of a line alone, the end of a line, and nonsense
  (random logits, so that all tokens are looked through). ``worst`` is the 99th of 100.

The tokenizer is a byte-level one of 32,000 entries, trained on a part of the text.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from memorag_core import Document
from memorag_core.memory.grounding import Passages, SpanConstraint, Vocabulary
from memorag_core.memory.tokenizer import Tokens
from memorag_evaluation.record import circumstances, table, write_record

BUILDING = ("text", "characters", "starts", "build s", "change s", "load s", "part ms", "bytes/char", "peak")
CHOOSING = ("text", "characters", "tokens", "median µs", "worst µs")

DOCUMENT = 20_000
"""Characters of a document."""

PART = 8_000
"""Characters of a part of the text."""

TRAINING = 1_000_000
"""Characters that the tokenizer is trained on."""


def main() -> None:
    """Measure both texts at every size and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--characters", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--text", type=Path, help="a text to measure in place of the generated ones")
    parser.add_argument("--entries", type=int, default=32_000, help="of the tokenizer (%(default)s)")
    parser.add_argument("--tokens", type=int, default=2_000, help="to be timed of each kind (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    longest = max(options.characters)
    texts = {"English-like": english(longest), "Chinese-like": chinese(longest)}
    if options.text is not None:
        texts = {options.text.name: options.text.read_text(encoding="utf-8")}
    building(documents_of("Once, so that the libraries are loaded."))
    found: dict[str, list[dict[str, Any]]] = {"building": [], "choosing": []}
    for name, text in texts.items():
        tokens = trained(text[:TRAINING], options.entries)
        for size in options.characters:
            documents = documents_of(text[:size])
            about = {"text": name, "characters": sum(len(document.text) for document in documents)}
            passages, row = building(documents)
            found["building"].append(about | row)
            for row in choosing(passages, tokens, options.tokens):
                found["choosing"].append(about | row)
    about = circumstances(["python", *sys.argv], device="cpu", seed=0)
    print(f"grounding, {about['date']}, {about['processor']}")
    for title, heads in (("building", BUILDING), ("choosing", CHOOSING)):
        print(f"\n{title}\n")
        print(table(heads, [[row[head] for head in heads] for row in found[title]]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, **found})


def building(documents: list[Document]) -> tuple[Passages, dict[str, Any]]:
    """The index, and what it took."""
    characters = sum(len(document.text) for document in documents)
    passages, build = timed(lambda: Passages.build(documents))
    middle = len(documents) // 2
    edited = [*documents]
    edited[middle] = Document("Another text.", edited[middle].id)
    _, change = timed(lambda: passages.changed(edited))
    arrays, header = passages.pack()
    _, load = timed(lambda: Passages.unpack(arrays, header, documents))
    span = (middle, 0, min(PART, len(documents[middle].text) - 1))
    _, part = timed(lambda: passages.within([span]))
    tracemalloc.start()
    Passages.build(documents)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return passages, {
        "starts": passages.starts,
        "build s": round(build, 3),
        "change s": round(change, 3),
        "load s": round(load, 3),
        "part ms": round(1000 * part, 2),
        "bytes/char": round(passages.nbytes / characters, 2),
        "peak": round(peak / characters, 2),
        "blocks": len(passages.blocks),
    }


def choosing(passages: Passages, tokens: Tokens, count: int) -> Iterator[dict[str, Any]]:
    """Tokens that are timed one by one, for each kind of wish."""
    vocabulary = Vocabulary.of(tokens)
    end = tokens.end_id
    assert end is not None
    seconds: dict[str, list[float]] = {"of a line": [], "first of a line": [], "end of a line": []}
    for line in lines_of(passages, seed=0):
        reply = SpanConstraint(passages, vocabulary, stop=[end])
        wishes = [*tokens.encode_text(line).tolist(), end]
        for at, wish in enumerate(wishes):
            _, took = timed(partial(reply.choose, [wish], _never))
            kind = "first of" if at == 0 else "end of" if wish == end else "of"
            seconds[f"{kind} a line"].append(took)
        if len(seconds["of a line"]) >= count:
            break
    draw = np.random.default_rng(0)
    reply = SpanConstraint(passages, vocabulary, stop=[end])
    nonsense = []
    for _ in range(min(count, 500)):
        values = draw.normal(size=len(vocabulary.texts)).astype(np.float32)
        values[end] = -10
        nonsense.append(timed(partial(reply.choose, [], partial(np.asarray, values)))[1])
    for kind, every in (seconds | {"nonsense": nonsense}).items():
        yield {
            "tokens": kind,
            "median µs": round(1e6 * float(np.median(every)), 1),
            "worst µs": round(1e6 * float(np.quantile(every, 0.99)), 1),
        }


def lines_of(passages: Passages, *, seed: int) -> Iterator[str]:
    """Lines of the text, of some 100 characters from the beginning of a word on to the end of one."""
    draw = random.Random(seed)
    while True:
        block = draw.choice(passages.blocks)
        at = draw.randrange(len(block.starts))
        run = block.whole._replace(low=at, high=at + 1)
        ends = [size for size in range(1, 100) if len(block.ending(run, size))]
        if ends:
            text, _ = block.line(int(block.starts[at]), ends[-1])
            yield " ".join(text.split())


def _never() -> Any:
    raise AssertionError("a line of the text is not allowed")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What work gives, and its seconds."""
    start = time.perf_counter()
    done = work()
    return done, time.perf_counter() - start


def documents_of(text: str) -> list[Document]:
    """A text cut into documents."""
    return [Document(text[start : start + DOCUMENT], str(start)) for start in range(0, len(text), DOCUMENT)]


def english(characters: int) -> str:
    """Words of letters with spaces between them, sentences and paragraphs."""
    draw = random.Random(0)
    syllables = [
        a + b for a in "b c d f g h k l m n p r s t v w st tr".split() for b in "a e i o u ea or in".split()
    ]
    words = ["".join(draw.choices(syllables, k=draw.choice((1, 2, 2, 3, 4)))) for _ in range(30_000)]
    return " ".join(_sentences(words, draw, characters, space=" ", stop="."))[:characters]


def chinese(characters: int) -> str:
    """Words of one or two signs without spaces, sentences and paragraphs."""
    draw = random.Random(0)
    signs = [chr(code) for code in range(0x4E00, 0x4E00 + 4_000)]
    weights = list(accumulate(1 / rank for rank in range(1, len(signs) + 1)))
    words = [
        "".join(draw.choices(signs, cum_weights=weights, k=draw.choice((1, 2, 2)))) for _ in range(30_000)
    ]
    return "".join(_sentences(words, draw, characters, space="", stop="。"))[:characters]


def _sentences(
    words: list[str], draw: random.Random, characters: int, *, space: str, stop: str
) -> Iterator[str]:
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    said: list[str] = []
    size = 0
    while size < characters:
        if said and draw.random() < 0.1:
            sentence = draw.choice(said)  # texts repeat themselves
        else:
            sentence = space.join(draw.choices(words, cum_weights=weights, k=draw.randint(5, 25)))
            sentence = sentence.capitalize() + stop
            said.append(sentence)
        size += len(sentence) + len(space)
        yield sentence + ("\n\n" if draw.random() < 0.1 else "")


def trained(text: str, entries: int) -> Tokens:
    """A byte-level tokenizer for a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces = (text[start : start + DOCUMENT] for start in range(0, len(text), DOCUMENT))
    tokenizer.train_from_iterator(pieces, trainer)
    return Tokens(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>"))


if __name__ == "__main__":
    main()
