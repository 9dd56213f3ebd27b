"""What BM25 finds in Chinese and Japanese by the tokens it counts: pairs of characters, or words.

Chinese: the questions of a set with ``docs.jsonl`` and ``queries.jsonl`` over chunks of 300 characters; found
is a chunk, or the first few together, with at least half of the gold characters. jieba is compared where it
is installed. Japanese: manual pages of this machine; a sentence taken out of a paragraph looks for what is
left of it (the inverse cloze task), each paragraph several times with another sentence. Prints shares with
95 % bootstrap intervals of the difference to the first row, Japanese ones drawn by paragraph.
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import bm25s
import numpy as np

from memorag_core.documents.chunking import split_document
from memorag_core.retrieval.bm25 import best_first
from memorag_core.retrieval.tokenization import lexical_tokens, sudachi_is_installed
from memorag_core.settings import ChunkSettings
from memorag_evaluation.datasets import load_dataset

Tokenize = Callable[[str], list[str]]
DEPTH = 10


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chinese", type=Path, help="folder of the Chinese set, such as DATA/cmrc2018_zh")
    parser.add_argument("--japanese", type=Path, default=Path("/usr/share/man/ja"), help="manual pages")
    parser.add_argument("--draws", type=int, default=8, help="sentences taken out of each Japanese paragraph")
    options = parser.parse_args()
    if options.chinese is not None:
        chinese(options.chinese)
    if options.japanese.is_dir() and sudachi_is_installed():
        japanese(options.japanese, options.draws)


def chinese(folder: Path) -> None:
    """Questions over chunks."""
    data = load_dataset(folder)
    chunks = split_document(data.documents[0], ChunkSettings(size=300))
    kinds: dict[str, Tokenize] = {"grams": lexical_tokens}
    try:
        import jieba
    except ImportError:
        print("jieba is not installed and left out")
    else:
        kinds["jieba"] = lambda text: [word for word in jieba.lcut(folded(text)) if word.isalnum()]
        kinds["grams and jieba"] = lambda text: [
            *lexical_tokens(text),
            *(word for word in jieba.lcut(folded(text)) if word.isalnum() and len(word) > 2),
        ]
    print(f"Chinese: {len(data.queries)} questions, {len(chunks)} chunks")
    rows = {}
    for name, tokenize in kinds.items():
        rankings = ranked(
            [chunk.text for chunk in chunks], [query.question for query in data.queries], tokenize
        )
        found = []
        for query, ranking in zip(data.queries, rankings, strict=True):
            gold = {place for start, end in query.spans for place in range(start, end)}
            held = [gold & {*range(chunks[ordinal].start, chunks[ordinal].end)} for ordinal in ranking]
            found.append([2 * len(set().union(*held[:k])) >= len(gold) for k in (1, 5)])
        rows[name] = np.array(found, dtype=float)
    show(rows, np.arange(len(data.queries)), ("hit@1", "hit@5"))


def japanese(folder: Path, draws: int) -> None:
    """Sentences looking for their paragraphs."""
    paragraphs = list(dict.fromkeys(read_pages(folder)))
    kinds: dict[str, Tokenize] = {
        "grams": lexical_tokens,
        "japanese": lambda text: lexical_tokens(text, tokenization="japanese"),
    }
    rows: dict[str, list[list[float]]] = {name: [] for name in kinds}
    groups: list[int] = []
    for seed in range(draws):
        passages, queries = taken_out(paragraphs, random.Random(seed))
        groups += [gold for _, gold in queries]
        for name, tokenize in kinds.items():
            for (_, gold), ranking in zip(
                queries, ranked(passages, [query for query, _ in queries], tokenize, depth=None), strict=True
            ):
                rank = ranking.index(gold) + 1 if gold in ranking else len(passages)
                rows[name].append([rank == 1, rank <= 5, 1 / rank])
    print(f"Japanese: {len(paragraphs)} paragraphs, {len(groups)} sentences in {draws} draws")
    found = {name: np.array(row, dtype=float) for name, row in rows.items()}
    show(found, np.array(groups), ("hit@1", "hit@5", "reciprocal rank"))


def ranked(
    passages: Sequence[str], queries: Sequence[str], tokenize: Tokenize, *, depth: int | None = DEPTH
) -> list[list[int]]:
    """For each query the passages by BM25 with the settings of ``BM25Index``."""
    vocabulary: dict[str, int] = {}
    rows = [[vocabulary.setdefault(token, len(vocabulary)) for token in tokenize(text)] for text in passages]
    scorer = bm25s.BM25(method="lucene", k1=1.5, b=0.75, backend="numpy")
    scorer.index((rows, vocabulary), create_empty_token=False, show_progress=False)
    rankings = []
    for query in queries:
        terms = [vocabulary[token] for token in tokenize(query) if token in vocabulary]
        scores = scorer.get_scores_from_ids(terms) if terms else np.zeros(len(passages))
        rankings.append([ordinal for ordinal, _ in best_first(scores, depth or len(passages))])
    return rankings


def show(rows: dict[str, Any], groups: Any, names: Sequence[str]) -> None:
    """Means, and intervals of the difference to the first row over groups drawn with replacement."""
    first = next(iter(rows.values()))
    generator = np.random.default_rng(0)
    members, inverse = np.unique(groups, return_inverse=True)
    sizes = np.bincount(inverse)
    for kind, row in rows.items():
        sums = np.zeros((len(members), row.shape[1]))
        np.add.at(sums, inverse, row - first)
        drawn = generator.integers(0, len(members), (2000, len(members)))
        means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1, keepdims=True)
        low, high = np.percentile(means, [2.5, 97.5], axis=0)
        cells = [
            f"{name} {row[:, place].mean():.3f} [{low[place]:+.3f}, {high[place]:+.3f}]"
            for place, name in enumerate(names)
        ]
        print(f"  {kind:16} {'  '.join(cells)}")


def read_pages(folder: Path) -> Iterator[str]:
    """The paragraphs of manual pages that hold some Japanese, without the marks of roff."""
    for page in sorted(folder.rglob("*.gz")):
        lines = gzip.decompress(page.read_bytes()).decode(errors="replace").split("\n")
        joined = "".join(
            re.sub(r"^\.(B|I|BR|RI|IR) ", "", line).replace('"', "")
            if not line.startswith((".", "'")) or re.match(r"\.(B|I|BR|RI|IR) ", line)
            else "\n"
            for line in lines
        )
        for paragraph in joined.split("\n"):
            text = re.sub(r"\\f\(?[A-Z]{1,2}|\\f[A-Z0-9]|\\[&%|^]|\\m\[[^]]*\]|\\s[-+]?\d", "", paragraph)
            text = re.sub(r"\\\((\w\w)|\\\[..?\]|\\.", " ", text.replace("\\-", "-")).strip()
            if len(re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", text)) > 20:
                yield text


def taken_out(paragraphs: Sequence[str], draw: random.Random) -> tuple[list[str], list[tuple[str, int]]]:
    """The paragraphs, those of three sentences or more without one of them; and these with their places."""
    passages: list[str] = []
    queries: list[tuple[str, int]] = []
    for paragraph in paragraphs:
        sentences = [one for one in re.split(r"(?<=。)\s*", paragraph) if one]
        place = draw.randrange(len(sentences))
        if len(sentences) >= 3 and len(sentences[place]) >= 12:
            queries.append((sentences.pop(place), len(passages)))
        passages.append("".join(sentences))
    return passages, queries


def folded(text: str) -> str:
    """As all tokens are."""
    return unicodedata.normalize("NFKC", text).casefold()


if __name__ == "__main__":
    main()
