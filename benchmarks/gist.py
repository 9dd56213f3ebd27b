"""Gist memory of a book: blocks, tokens before and after, seconds; interrupted half-way, and resumed.

    python benchmarks/gist.py --threads 4 --out gist.json
    python benchmarks/gist.py --book book.txt --local --threads 4

No language model that writes summaries ships with Python or with this project, so the condenser is a plain
function that extracts: the sentences of a block with the rarest words, in their order, as many as fit. It
costs nothing, and says nothing about the quality of gists. ``--local`` runs the bundled model instead, with
real decoding: it was not trained to condense and babbles, but the computation is that of a model of its size.

The gists are read into the bundled model's memory, as the text itself is for comparison. Then the condenser
breaks off after half of the blocks, and a new model goes on with the journal: gists and memory must be the
same.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import pydoc_data.topics
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from memorag_core import BeaconModel
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.gist import Condenser, GistMemory, GistModel, Task, local_condenser
from memorag_core.memory.gist.condensing import as_condenser
from memorag_core.memory.llm import Said, Usage
from memorag_evaluation.record import circumstances, table, write_record

BOOK = 277_000
HEADS = ("what", "blocks", "asked", "seconds", "tokens", "gist tokens", "inner tokens", "parts", "MB")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n\n+")
Ask = Callable[[str], str]


def main() -> None:
    """Condense, read, break off, resume, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--book", type=Path, help="a text file (default: Python's help, repeated)")
    parser.add_argument(
        "--tokens", type=int, default=BOOK, help="of the bundled model, read of it (%(default)s)"
    )
    parser.add_argument("--block-tokens", type=int, default=4096)
    parser.add_argument("--gist-tokens", type=int, default=512)
    parser.add_argument("--ratio", type=int, default=8, help="of the memory inside (%(default)s)")
    parser.add_argument("--local", action="store_true", help="the bundled model condenses, by decoding")
    parser.add_argument("--batch", type=int, default=8, help="of --local (%(default)s)")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    inner = BeaconModel.from_pretrained(bundled_path(), ratio=options.ratio, device=options.device)
    sizes = {"block_tokens": options.block_tokens, "gist_tokens": options.gist_tokens}
    counted = local_condenser(inner).count_tokens  # by the bundled model's tokenizer
    text = book(options.book, options.tokens, counted)
    extract = rarest_sentences(options.gist_tokens, counted)

    def condenser() -> Condenser:
        if options.local:
            return local_condenser(inner, batch=options.batch)
        return as_condenser(extract, name="rarest sentences", concurrency=1, count_tokens=counted)

    rows: list[list[object]] = []

    def measured(what: str, model: GistModel) -> GistMemory:
        began = time.perf_counter()
        memory = model.memorize(text, progress=False)
        rows.append(row(what, memory, model.usage.requests, time.perf_counter() - began))
        return memory

    whole = measured("condensed and read", GistModel(condenser(), inner, **sizes))
    began = time.perf_counter()
    plain = inner.memorize(text, progress=False)
    seconds = round(time.perf_counter() - began, 1)
    rows.append(["read as it stands", "-", "-", seconds, plain.tokens, "-", *inside(plain)])
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "gists.jsonl"
        with contextlib.suppress(KeyboardInterrupt):
            broken = Breaking(condenser(), whole.blocks // 2)
            GistModel(broken, inner, journal=journal, **sizes).memorize(text, progress=False)
        resumed = measured(
            "broken off, then resumed", GistModel(condenser(), inner, journal=journal, **sizes)
        )
        kept = len(journal.read_text(encoding="utf-8").splitlines()) - 1
        size = journal.stat().st_size
    same = resumed.gists == whole.gists and same_bits(inner, resumed.inner, whole.inner)
    about = circumstances(["python", *sys.argv], device=options.device, seed=0)
    print(f"gist, {about['date']}, {about['processor']}, {options.device}, {about['threads']} threads\n")
    print(table(HEADS, rows))
    print(f"\njournal: {kept} gists, {size:,} bytes; broken off and resumed is the same: {same}")
    if options.out is not None:
        write_record(
            options.out,
            {"circumstances": about, "rows": [dict(zip(HEADS, one, strict=True)) for one in rows]},
        )
    if not same:
        sys.exit("The memories differ.")


def book(path: Path | None, tokens: int, count: Callable[[str], int]) -> str:
    """A text of about so many tokens: the file's, or what Python's help says, from the beginning again."""
    if path is not None:
        text = path.read_text(encoding="utf-8")
    else:
        text = "\n\n".join(map(str, pydoc_data.topics.topics.values()))
    each = count(text) / len(text)
    size = math.ceil(tokens / each)
    return ((text + "\n\n") * (1 + size // len(text)))[:size] if path is None else text[:size]


def rarest_sentences(tokens: int, count: Callable[[str], int]) -> Ask:
    """A condenser without a language model: the sentences whose words are rarest in the block."""

    def condense(prompt: str) -> str:
        text = prompt.partition("===\n\n")[2].rpartition("\n\n===")[0]
        sentences = [part.strip() for part in SENTENCE_END.split(text) if part.strip()]
        words = [re.findall(r"\w{3,}", sentence.casefold()) for sentence in sentences]
        often = Counter(word for own in words for word in own)

        def rarity(place: int) -> float:
            own = words[place]
            return sum(1 / often[word] for word in own) / (3 + len(own))

        kept: set[int] = set()
        room = tokens
        for place in sorted(range(len(sentences)), key=rarity, reverse=True):
            need = count(sentences[place]) + 1
            if need <= room:
                kept.add(place)
                room -= need
        return "\n".join(sentences[place] for place in sorted(kept))

    return condense


class Breaking:
    """A condenser that is stopped from outside, as by Ctrl-C, after so many gists."""

    def __init__(self, condenser: Condenser, after: int) -> None:
        self._condenser = condenser
        self._left = after
        self.together = condenser.together
        self.name = condenser.name
        self.count_tokens = condenser.count_tokens

    @property
    def usage(self) -> Usage:
        """Of the condenser inside."""
        return self._condenser.usage

    def condense(
        self,
        runs: Sequence[Sequence[Task]],
        *,
        gist_tokens: int,
        after_failure: str,
        replied: Callable[[int, int, Said], None],
    ) -> None:
        """As the condenser inside, up to the last gist."""

        def stopping(number: int, item: int, said: Said) -> None:
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1
            replied(number, item, said)

        self._condenser.condense(runs, gist_tokens=gist_tokens, after_failure=after_failure, replied=stopping)


def row(what: str, memory: GistMemory, asked: int, seconds: float) -> list[object]:
    """A line of the table."""
    return [
        what,
        memory.blocks,
        asked,
        round(seconds, 1),
        memory.tokens,
        memory.gist_tokens,
        *inside(memory.inner),
    ]


def inside(memory: Any) -> tuple[int, int, float]:
    """Tokens, parts and megabytes of the memory that is asked."""
    return memory.tokens, memory.parts, round(memory.nbytes / 1e6, 1)


def same_bits(model: BeaconModel, one: Any, other: Any) -> bool:
    """Whether two memories have the same tensors."""
    tensors, others = model.pack(one)[0], model.pack(other)[0]
    return tensors.keys() == others.keys() and all(
        torch.equal(tensors[name], others[name]) for name in tensors
    )


if __name__ == "__main__":
    main()
